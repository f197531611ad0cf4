"""The pages of the navigation, in their order. A narrow screen has the first four in its bar, the others under More."""

from collections.abc import Callable
from dataclasses import dataclass

from django.http import HttpRequest
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from accounts import permissions

IN_BAR = 4


@dataclass(frozen=True)
class Page:
    """`name`: of its URL. `count`: which of the counts `waiting` is its badge. `parts`: URLs that belong to it."""

    name: str
    title: str | Promise
    icon: str
    count: str = ""
    urgent: bool = False
    parts: frozenset[str] = frozenset()
    seen_by: Callable = lambda user: True


PAGES = (
    Page("overview", _("Overview"), "home"),
    Page("accounts", _("Accounts"), "list", "attention", parts=frozenset({
        "account", "attempt", "new_account", "edit_account", "start_login", "log_out_account", "due",
        "keep_online", "silence_account", "archive_account", "archived_accounts",
        "import_accounts", "bulk_runs", "choose_bulk", "prepare_bulk", "bulk_run", "cancel_bulk_run",
    })),
    Page("start_station", _("Scan station"), "qr", "to_scan", parts=frozenset({"station", "wall"}),
         seen_by=permissions.may_log_in),
    Page("incidents", _("Incidents"), "bolt", "incidents", urgent=True, parts=frozenset({"incident", "add_incident_note"})),
    Page("unmanaged", _("Unmanaged"), "find", "unmanaged", seen_by=permissions.may_adopt),
    Page("people", _("People"), "people", parts=frozenset({"new_person", "person", "teams", "team", "delete_team", "sign_ins"}),
         seen_by=permissions.may_manage_members),
    Page("sign_ins", _("Sign-ins"), "people",
         seen_by=lambda user: permissions.may_see_sign_ins(user) and not permissions.may_manage_members(user)),
    Page("audit", _("Audit log"), "shield", seen_by=permissions.may_see_audit),
    Page("status", _("Status"), "pulse", parts=frozenset({"runbook"}), seen_by=permissions.may_see_status),
    Page("admin:index", pgettext_lazy("the admin's pages", "Admin"), "gear", seen_by=lambda user: user.is_staff),
)  # fmt: skip


def entries(request: HttpRequest, waiting: dict[str, int | None]) -> list[dict]:
    """Return the pages that the signed-in person may see, each with its address and its count.

    `waiting`: the counts by their names. `current` is "page" for the page itself, "true" for one that is a part of
    it, and "" otherwise.
    """
    here = request.resolver_match.view_name if request.resolver_match else ""
    pages = [page for page in PAGES if page.seen_by(request.user)]
    return [
        {
            "page": page,
            "url": reverse(page.name),
            "count": waiting[page.count] if page.count else None,
            "in_bar": place < IN_BAR,
            "current": "page" if here == page.name else "true" if here in page.parts else "",
        }
        for place, page in enumerate(pages)
    ]
