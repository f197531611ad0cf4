"""Base classes that keep admin lists fast with millions of rows.

Counts are capped, pages are fetched by ID, and a search finds accounts first.
"""

import re
from collections.abc import Iterator

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.utils import get_fields_from_path
from django.contrib.admin.views.main import ERROR_FLAG, SEARCH_VAR, ChangeList
from django.core.exceptions import FieldDoesNotExist, PermissionDenied
from django.db.models import CharField, Field, ManyToManyField, Model, OuterRef, QuerySet, TimeField
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from accounts import permissions
from accounts.admin.display import NOTHING, link_to
from accounts.admin.review.paginator import LongPaginator
from accounts.admin.review.search import NEWEST, Columns, Search
from accounts.admin.review.totals import Totals, totals_of
from accounts.lib.lists.keyset_pagination import COUNT_LIMIT, PER_PAGE, WithoutIndex, count_up_to, for_each
from accounts.lib.typed_text import is_key
from accounts.logins import expire
from accounts.models import Account, LoginAttempt
from accounts.models.audit import log as audit
from accounts.models.audit.entry import AuditKind
from accounts.models.login_attempt import CLOSED_AFTER
from accounts.web.account_list import search_text
from accounts.web.exchange.cells import CsvResponse
from accounts.web.exchange.history_columns import Columns as CsvColumns
from accounts.web.exchange.history_columns import table
from accounts.web.fields import LineField, RowsField, ZoneSelect
from accounts.web.visible_accounts import VisibleAccounts

NEWEST_OF_TEAMS = 250
# In no column that has a filter. Databases refuse such values when they compare them, after Django's own checks.
NO_VALUE = re.compile(r"\x00|[0-9]{19}|.{301}", re.DOTALL)


class LongList(ChangeList):
    """A change list whose rows are a list, so that related data is fetched for all of them at once."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        ids = self.paginator.ids(self.page_num)
        rows = {row.pk: row for row in self.rows(ids)}
        self.result_list = [rows[pk] for pk in ids if pk in rows]

    def rows(self, ids: list[int]) -> QuerySet:
        return self.apply_select_related(self.root_queryset.filter(pk__in=ids))

    def chips(self) -> Iterator[dict]:
        """Return what narrows the list, each with the query string of the list without it."""
        for spec in self.filter_specs:
            yield from spec.chips(self)
        for name in self.model_admin.lookups:
            if name in self.params and name.endswith("__exact"):
                path, key = get_fields_from_path(self.model, name.removesuffix("__exact")), self.params[name]
                field = next(field for field in reversed(path) if field.is_relation)
                text = link_to(field.related_model._meta.model_name, int(key), f"#{key}")
                without = self.get_query_string({name: None})
                yield {"title": field.verbose_name, "text": text, "without": without}

    def kept(self) -> list[tuple[str, str]]:
        """Return the parameters that the form of search and filters must send again."""
        shown = {SEARCH_VAR, *(name for spec in self.filter_specs for name in spec.expected_parameters())}
        return [
            (name, value)
            for name, values in self.filter_params.items()
            if name not in shown
            for value in values
        ]

    @cached_property
    def totals(self) -> Totals | None:
        admin = self.model_admin
        return totals_of(self, admin.totals, admin.time_column) if admin.totals else None

    def get_ordering_field(self, field_name: str):
        """Return None for a column without an index to sort by, even if the URL requests it."""
        return super().get_ordering_field(field_name) if field_name in self.sortable_by else None

    def get_ordering(self, request: HttpRequest, queryset: QuerySet) -> list:
        """Order by ID in the direction of the column before it, as the index does.

        One account's history is ordered by ID.
        """
        if "account__id__exact" in self.params:
            return ["-pk"]
        *columns, last = super().get_ordering(request, queryset)
        if last != "-pk" or not columns:
            return [*columns, last]
        column = columns[-1]
        down = column.startswith("-") if isinstance(column, str) else getattr(column, "descending", False)
        return [*columns, "-pk" if down else "pk"]


class AccountList(LongList):
    """Account rows with `newest_attempt`, found by one index lookup for each row of the page."""

    def rows(self, ids: list[int]) -> QuerySet:
        return super().rows(ids).defer("note").prefetch_related("tags")

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        newest = LoginAttempt.objects.filter(account=OuterRef("pk")).order_by("-id").values("pk")[:1]
        shown = Account.objects.filter(pk__in=[account.pk for account in self.result_list])
        found = LoginAttempt.objects.filter(pk__in=shown.values_list(newest)).only(
            "account", "state", "reason"
        )
        of_account = {attempt.account_id: attempt for attempt in found}
        for account in self.result_list:
            account.newest_attempt = of_account.get(account.pk)


class AttemptList(LongList):
    """End overdue attempts before showing them: the reader is the last resort when no worker runs."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        now = timezone.now()
        for attempt in self.result_list:
            if attempt.is_open and attempt.deadline_at < now - CLOSED_AFTER:
                expire.expire_on_read(attempt.account)
                attempt.refresh_from_db(fields=["state", "reason", "ended_at"])


class Audited:
    """What is saved or deleted here is in the audit log: the names of the changed fields, no values."""

    # Its form records an event, and with that an entry, for everything that is saved.
    saves_with_events = False

    def log_addition(self, request: HttpRequest, obj: Model, message: list | str):
        if not self.saves_with_events:
            audit.record(AuditKind.ADDED, about=obj)
        return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: Model, message: list | str):
        if not self.saves_with_events:
            audit.record(self.kind_of_change(message), about=obj, detail=changed_fields(message))
        return super().log_change(request, obj, message)

    def log_deletions(self, request: HttpRequest, queryset):
        for obj in queryset:
            audit.record(AuditKind.DELETED, about=obj)
        return super().log_deletions(request, queryset)

    def kind_of_change(self, message: list | str) -> AuditKind:
        return AuditKind.CHANGED


def changed_fields(message: list | str) -> str:
    """Return what Django's message of a change names: the fields, and the kinds of the rows in the same form."""
    parts = [next(iter(part.items())) for part in message if part] if isinstance(message, list) else []
    fields = [name for _what, said in parts if "name" not in said for name in said.get("fields", ())]
    return ", ".join([*fields, *(f"{said['name']}: {what}" for what, said in parts if "name" in said)])


class PlainTimes:
    """Times of day and time zones are chosen from what the browser offers.

    Django’s own field for times says how far its reader’s clock is from the server’s, which is no help where the zone of
    the time stands beside it.
    """

    formfield_overrides = {TimeField: {"widget": forms.TimeInput(attrs={"type": "time"}, format="%H:%M")}}

    def formfield_for_dbfield(self, db_field: Field, request: HttpRequest, **kwargs):
        if db_field.name == "time_zone":
            kwargs |= {"widget": ZoneSelect(), "help_text": ""}
        return super().formfield_for_dbfield(db_field, request, **kwargs)


class TypedInput(PlainTimes, Audited):
    """Read what people type, and what a request claims that they chose, as the pages do."""

    formfield_overrides = {
        **PlainTimes.formfield_overrides,
        CharField: {"form_class": LineField},
        ManyToManyField: {"form_class": RowsField},
    }

    def changelist_view(self, request: HttpRequest, extra_context=None):
        if request.method == "GET" and (instead := self.instead_of(request)):
            return instead
        return super().changelist_view(request, extra_context)

    def instead_of(self, request: HttpRequest) -> HttpResponseRedirect | None:
        """Redirect a request that asks for what no list can show to what it can show."""
        asked = request.GET.copy()
        text, cut = search_text(asked.get(SEARCH_VAR, ""))
        if cut:
            self.message_user(request, cut, messages.WARNING)
            asked[SEARCH_VAR] = text
            return HttpResponseRedirect(f"{request.path}?{asked.urlencode()}")
        asked.pop(SEARCH_VAR, None)
        if any(NO_VALUE.search(value) for _name, values in asked.lists() for value in values):
            return HttpResponseRedirect(f"{request.path}?{ERROR_FLAG}=1")
        return None

    def get_search_results(self, request: HttpRequest, queryset: QuerySet, search_term: str):
        return self.search(request, queryset, search_text(search_term)[0])

    def search(self, request: HttpRequest, queryset: QuerySet, text: str) -> tuple[QuerySet, bool]:
        """Return the rows that match, and whether they may have duplicates."""
        return super().get_search_results(request, queryset, text)

    def response_action(self, request: HttpRequest, queryset: QuerySet):
        if all(map(is_key, request.POST.getlist(ACTION_CHECKBOX_NAME))):
            return super().response_action(request, queryset)
        message = gettext(
            "The selection contains an unknown row. Nothing was changed. Select the rows again."
        )
        return self.message_user(request, message, messages.ERROR)


class EveryTeams:
    """Require the right to see all teams' accounts: these rows have no team, and concern the accounts of any."""

    def has_module_permission(self, request: HttpRequest) -> bool:
        return permissions.sees_all(request.user) and super().has_module_permission(request)

    def has_view_permission(self, request: HttpRequest, obj=None) -> bool:
        return permissions.sees_all(request.user) and super().has_view_permission(request, obj)

    def has_add_permission(self, request: HttpRequest, *obj) -> bool:
        return permissions.sees_all(request.user) and super().has_add_permission(request, *obj)

    def has_change_permission(self, request: HttpRequest, obj=None) -> bool:
        return permissions.sees_all(request.user) and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj=None) -> bool:
        return permissions.sees_all(request.user) and super().has_delete_permission(request, obj)


class LongTableAdmin(TypedInput, admin.ModelAdmin):
    """Admin of a table that may have millions of rows."""

    paginator = LongPaginator
    empty_value_display = NOTHING
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = PER_PAGE
    list_max_show_all = PER_PAGE
    sortable_by: tuple[str, ...] = ()
    lookups: tuple[str, ...] = ()  # column lookups that a URL may use, beside those of the filters
    totals: tuple[str, ...] = ()  # columns with a filter, by whose values the list is counted
    time_column = ""  # its time, by which totals are bounded and counted by day

    def get_changelist(self, request: HttpRequest, **kwargs) -> type[ChangeList]:
        return LongList

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Allow only the lookups named here: others could read a secret column or scan a whole table."""
        try:
            self.opts.get_field(lookup.partition("__")[0])
        except FieldDoesNotExist:
            return True
        filtered = (entry[0] for entry in self.list_filter if isinstance(entry, tuple))
        return lookup in {
            *self.lookups,
            *(f"{field}__{how}" for field in filtered for how in ("in", "exact")),
        }


class ReadOnly:
    """Rows that only the portal writes: they are read-only in the admin, for superusers too."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj=None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj=None) -> bool:
        return False


class HistoryAdmin(ReadOnly, LongTableAdmin):
    """History of the accounts that the reader may see."""

    file_name = ""  # of its CSV file, "" for none
    searched: Columns

    def get_urls(self) -> list:
        if not self.file_name:
            return super().get_urls()
        name = f"{self.opts.app_label}_{self.opts.model_name}_export"
        return [
            path("export.csv", self.admin_site.admin_view(self.export), name=name),
            *super().get_urls(),
        ]

    def export(self, request: HttpRequest) -> HttpResponse:
        """Send the rows of the list as it is searched and filtered, all of them, in its order."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if instead := self.instead_of(request):
            return instead
        try:
            rows = self.get_changelist_instance(request).queryset
        except IncorrectLookupParameters:
            return HttpResponseRedirect(f"../?{ERROR_FLAG}=1")
        return CsvResponse(self.file_name, table(self.csv_columns(request), rows, self.get_queryset(request)))

    def csv_columns(self, request: HttpRequest) -> CsvColumns:
        raise NotImplementedError

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return of_visible_accounts(super().get_queryset(request), request.user)

    def get_paginator(self, request: HttpRequest, *args, **kwargs) -> LongPaginator:
        """Count fewer rows for a reader who does not see all accounts.

        Each row's account must then be checked.
        """
        paginator = super().get_paginator(request, *args, **kwargs)
        paginator.in_order = True
        paginator.limit = COUNT_LIMIT if permissions.sees_all(request.user) else NEWEST_OF_TEAMS
        return paginator

    def search(self, request: HttpRequest, queryset: QuerySet, text: str) -> tuple[QuerySet, bool]:
        if not text:
            return queryset, False
        found = self.ids_matching(request, queryset, text)
        if len(found) > NEWEST:
            message = gettext(
                "More than %(count)s results. Showing the first ones; use filters to see others."
            )
            self.message_user(request, message % {"count": NEWEST}, messages.WARNING)
        return queryset.filter(pk__in=found[:NEWEST]), False

    def ids_matching(self, request: HttpRequest, queryset: QuerySet, text: str) -> list[int]:
        search = Search(request.user, queryset, self.searched)
        found = search.ids(text)
        for note in dict.fromkeys(search.notes):
            self.message_user(request, note, messages.WARNING)
        return found

    @admin.display(description=_("account"))
    def account_link(self, row: Model) -> str:
        return link_to("account", row.account_id, row.account.display_name)


def of_visible_accounts(rows: QuerySet, user) -> QuerySet:
    """Return the history that the user may see, in a form that a database finds quickly.

    Few rows of few accounts are found by account. More are met soon along the index of the list's order.
    """
    visible = VisibleAccounts(user)
    if visible.are_all:
        return rows
    if visible.few is None:
        return rows.filter(for_each(visible.rows.filter(pk=OuterRef("account"))))
    of_few = rows.filter(account__in=visible.few)
    if count_up_to(of_few) <= COUNT_LIMIT:
        return of_few
    return rows.alias(its_account=WithoutIndex("account")).filter(its_account__in=visible.few)


def without_secrets(attempts) -> QuerySet:
    """Leave out the columns that can still be used to log in: they are not even read."""
    return attempts.defer("qr_text", "qr_png", "page_url", "verify_code")
