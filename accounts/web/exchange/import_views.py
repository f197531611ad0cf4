"""The page of an import: a file, what each of its columns is read as, and what it would do before it does it."""

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core import signing
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from accounts import permissions
from accounts.web.exchange import columns
from accounts.web.exchange.files.limits import ROWS_MOST, too_large
from accounts.web.exchange.files.upload import Table, table_of
from accounts.web.exchange.import_run import SHOWN, Import
from accounts.web.exchange.import_save import save
from accounts.web.views.unmanaged import adopt_entered

# Between dry run and execution the table is in the page, signed: what comes back is what was read. No longer than
# this, and at most so many characters, so that a request can bring it back.
KEPT_SECONDS, CARRIED_MOST = 3600, 900_000
SALT = "accounts.import.{}"


class FileForm(forms.Form):
    file = forms.FileField(
        label=gettext_lazy("File"),
        widget=forms.FileInput(attrs={"accept": ".csv,.tsv,.txt,.xlsx", "autofocus": True}),
        error_messages={"required": gettext_lazy("Choose a CSV or XLSX file.")},
    )

    def clean_file(self) -> Table:
        return table_of(self.cleaned_data["file"])


@require_http_methods(["GET", "POST"])
@never_cache
@login_required
def import_accounts(request: HttpRequest) -> HttpResponse:
    if not permissions.may_edit(request.user):
        permissions.need_add(request.user)
    form = FileForm()
    if "carried" in request.POST:
        table = _table(request)
        if table is not None:
            return _dry_run(request, table, _mapping(request, table))
        messages.error(request, _("The dry run is more than an hour old. Choose the file again."))
    elif request.method == "POST":
        form = FileForm(request.POST, request.FILES)
        if form.is_valid():
            table = form.cleaned_data["file"]
            carried = _carried(request, table)
            if len(carried) <= CARRIED_MOST:
                return _dry_run(request, table, columns.guess(table.heads), carried)
            form.add_error("file", too_large())
    ctx = {"form": form, "limit": ROWS_MOST, "heads": columns.HEADS.values()}
    return render(request, "exchange/import.html", ctx, status=422 if request.method == "POST" else 200)


def _dry_run(request: HttpRequest, table: Table, mapping: list[str], carried: str = "") -> HttpResponse:
    """Show what the table would do; with `start` and without errors, do it."""
    found = Import(request.user, table, mapping)
    if request.POST.get("start") == "1" and found.is_possible:
        counts = found.counts
        if save(found):
            messages.success(request, _done(counts["added"], counts["changed"]))
            adopt_entered(request, found.entered)
            return redirect("accounts")
        messages.error(
            request, _("Nothing was imported: accounts changed meanwhile. Look at the rows again.")
        )
        found = Import(request.user, table, mapping)
    first = next(iter(table.rows.values()))
    ctx = {
        "found": found,
        "columns": list(zip(table.heads, first[: len(table.heads)], mapping, strict=True)),
        "fields": columns.HEADS.items(),
        "carried": carried or request.POST["carried"],
        "limit": SHOWN,
        "shown": found.shown,
        "counts": found.counts,
    }
    return render(request, "exchange/dry_run.html", ctx, status=422 if found.problem or found.wrong else 200)


def _done(added: int, changed: int) -> str:
    said = [
        ngettext("%(number)s account added.", "%(number)s accounts added.", added) % {"number": added},
        ngettext("%(number)s account changed.", "%(number)s accounts changed.", changed)
        % {"number": changed},
    ]
    return " ".join(words for words, number in zip(said, (added, changed), strict=True) if number)


def _carried(request: HttpRequest, table: Table) -> str:
    return signing.dumps([table.heads, list(table.rows.items())], salt=_salt(request), compress=True)


def _table(request: HttpRequest) -> Table | None:
    try:
        heads, rows = signing.loads(request.POST["carried"], salt=_salt(request), max_age=KEPT_SECONDS)
    except signing.BadSignature:
        return None
    return Table(heads, dict(rows))


def _salt(request: HttpRequest) -> str:
    return SALT.format(request.user.pk)


def _mapping(request: HttpRequest, table: Table) -> list[str]:
    chosen = [request.POST.get(f"column-{number}", "") for number in range(len(table.heads))]
    return [name if name in columns.HEADS else "" for name in chosen]
