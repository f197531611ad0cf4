"""The audit log for admins and auditors, and as a file."""

from collections.abc import Iterator

from django.contrib.auth import get_user_model
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from accounts import permissions
from accounts.models import AuditEntry, Team
from accounts.web.audit import words
from accounts.web.audit.listing import AuditFilter
from accounts.web.exchange.cells import CsvResponse

PROPOSED_MOST = 200


@require_GET
@never_cache
@login_required
def audit(request: HttpRequest) -> HttpResponse:
    permissions.only(permissions.may_see_audit(request.user), None)
    asked = AuditFilter(request.GET)
    page = asked.page(request.GET.get("page", ""))
    ctx = {
        "filter": asked,
        "entries": words.describe(page.rows, request.user),
        "page": page,
        "newer": asked.address_of(page.previous),
        "older": asked.address_of(page.next),
        "zone": timezone.get_current_timezone_name(),
        "people": get_user_model()
        .objects.order_by("username")
        .values_list("username", flat=True)[:PROPOSED_MOST],
        "teams": Team.objects.order_by("name").values_list("name", flat=True)[:PROPOSED_MOST],
    }
    return render(request, "audit/audit.html", ctx, status=422 if asked.errors else 200)


@require_GET
@never_cache
@login_required
def export_audit(request: HttpRequest) -> HttpResponse:
    """Send all entries that the filters match. The file of a wrong filter would be read as one without entries."""
    permissions.only(permissions.may_see_audit(request.user), None)
    asked = AuditFilter(request.GET)
    if asked.errors:
        return redirect(f"{request.path.removesuffix('export.csv')}{asked.address_of()}")
    return CsvResponse("audit", _table(asked.batches()))


def _table(batches: Iterator[list[AuditEntry]]) -> Iterator[list]:
    heads = [
        _("Time"),
        _("By"),
        _("Action"),
        _("Subject"),
        _("Name"),
        _("Number of the subject"),
        _("Account"),
    ]
    heads += [_("Account number"), _("Team"), _("Details"), _("How many"), _("Login attempt"), _("By what")]
    yield [*heads, _("View, command or task"), _("Scan link"), _("Address"), _("Request ID")]
    for batch in batches:
        words.add_words(batch)
        for entry in batch:
            at = timezone.localtime(entry.at).isoformat(timespec="seconds")
            about = (
                entry.subject_type,
                entry.subject_name,
                entry.subject_id,
                entry.account_name,
                entry.account_id,
            )
            source = (entry.by_what, entry.origin, entry.link_id, entry.address, entry.request_id)
            cells = (at, entry.actor_name, entry.action, *about, entry.team_name, entry.details, entry.number)
            yield ["" if cell is None else cell for cell in (*cells, entry.attempt_id, *source)]
