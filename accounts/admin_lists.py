"""What keeps the admin's lists as fast with millions of rows as with a handful.

Counts have a limit, filters never ask a long table for its distinct values, and search names accounts first.
"""

from collections.abc import Iterator
from datetime import date, datetime, timedelta

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.contrib.auth import get_user_model
from django.core.exceptions import FieldDoesNotExist
from django.core.paginator import Paginator
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from accounts import access, login
from accounts.attempts import CLOSED_AFTER
from accounts.models import Account, AccountEvent, LoginAttempt, Tag
from accounts.paging import COUNT_LIMIT, PER_PAGE, count_up_to

CHOICE_LIMIT = 100
FOUND_LIMIT = 200
FEW_ACCOUNTS = 500
NONE = "none"


class CappedPaginator(Paginator):
    """Counts and pages the first ten thousand rows: beyond them a filter helps more than page 3,817."""

    @cached_property
    def count(self) -> int:
        return min(self._counted, COUNT_LIMIT)

    @cached_property
    def _counted(self) -> int:
        return count_up_to(self.object_list)

    @property
    def is_capped(self) -> bool:
        return self._counted > COUNT_LIMIT


class EvaluatedList(ChangeList):
    """The page's rows as a list, so that what belongs to them can be fetched for all of them at once."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = list(self.result_list[: self.list_per_page]) if self.result_count else []

    def get_ordering_field(self, field_name: str):
        """None for a column that has no index to sort by, also where the address asks for it."""
        return super().get_ordering_field(field_name) if field_name in self.sortable_by else None


class AccountList(EvaluatedList):
    """Each account with `newest_attempt`, found by one look into the index for each row of the page."""

    def get_queryset(self, request: HttpRequest, exclude_parameters: list[str] | None = None) -> QuerySet:
        return super().get_queryset(request, exclude_parameters).defer("note").prefetch_related("tags")

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


class AttemptList(EvaluatedList):
    """Ends what is overdue before it is shown: whoever reads is the last resort when nothing else runs."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        now = timezone.now()
        for attempt in self.result_list:
            if attempt.is_open and attempt.deadline_at < now - CLOSED_AFTER:
                login.close_read(attempt.account)
                attempt.refresh_from_db(fields=["state", "reason", "ended_at"])


class LongTableAdmin(admin.ModelAdmin):
    """The admin of a table that may have millions of rows."""

    paginator = CappedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = PER_PAGE
    list_max_show_all = PER_PAGE
    sortable_by: tuple[str, ...] = ()
    lookups: tuple[str, ...] = ()  # the lookups on columns that an address may ask for

    def get_changelist(self, request: HttpRequest, **kwargs) -> type[ChangeList]:
        return EvaluatedList

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Only the lookups named here: any other could ask a secret column, or read a whole table."""
        try:
            self.opts.get_field(lookup.partition("__")[0])
        except FieldDoesNotExist:
            return True
        return lookup in self.lookups


class ReadOnly:
    """Rows that are written by what happens, and by nobody else: they are read here, by superusers too."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj=None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj=None) -> bool:
        return False


class HistoryAdmin(ReadOnly, LongTableAdmin):
    """What happened to the accounts that the reader may see."""

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return of_visible_accounts(super().get_queryset(request), request.user)

    def get_search_results(self, request: HttpRequest, queryset: QuerySet, search_term: str):
        if not (text := search_term.replace("\x00", "").strip()):
            return queryset, False
        return queryset.filter(self.found_by(request, text)), False

    def found_by(self, request: HttpRequest, text: str) -> Q:
        return Q(account__in=self.accounts_found(request, text))

    def accounts_found(self, request: HttpRequest, text: str) -> list[int]:
        """The accounts first: their label, nickname, wcId or WeChat number has the words."""
        accounts = Account.objects.visible_to(request.user).matching(text)
        found = list(accounts.values_list("pk", flat=True)[: FOUND_LIMIT + 1])
        if len(found) > FOUND_LIMIT:
            told = gettext("More than %(limit)s accounts match; this is the history of %(limit)s of them.")
            self.message_user(request, told % {"limit": FOUND_LIMIT}, messages.WARNING)
        return found[:FOUND_LIMIT]


def found_once(accounts: QuerySet, text: str) -> QuerySet:
    """The accounts that match, looked for once where they are few: the count and the page then go by id."""
    few = list(accounts.matching(text).order_by().values_list("pk", flat=True)[: FEW_ACCOUNTS + 1])
    return accounts.filter(pk__in=few) if len(few) <= FEW_ACCOUNTS else accounts.matching(text)


def of_visible_accounts(rows: QuerySet, user) -> QuerySet:
    """The history that the user may see, asked so that a database starts from the right end.

    Of few accounts it is found account by account; where a team has many, by going through the rows.
    """
    accounts = Account.objects.visible_to(user)
    if user.is_active and user.has_perms(["accounts.view_account", "accounts.view_every_account"]):
        return rows
    few = list(accounts.values_list("pk", flat=True)[: FEW_ACCOUNTS + 1])
    if len(few) <= FEW_ACCOUNTS:
        return rows.filter(account__in=few)
    return rows.filter(Exists(accounts.filter(pk=OuterRef("account"))))


# --- filters --------------------------------------------------------------------------------------------


class ChoiceFilter(admin.SimpleListFilter):
    """Rows whose `column` is the one chosen, or empty."""

    column = ""
    empty_title = ""  # the title of "none"; without one there is no such choice

    def options(self, request: HttpRequest) -> list[tuple[int, str]]:
        raise NotImplementedError

    def lookups(self, request: HttpRequest, model_admin) -> list[tuple[str, str]]:
        found = [(str(key), title) for key, title in self.options(request)]
        return [*found, (NONE, self.empty_title)] if self.empty_title and found else found

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        value = self.value()
        if value is None:
            return queryset
        if value == NONE and self.empty_title:
            return queryset.filter(**{f"{self.column}__isnull": True})
        if not value.isascii() or not value.isdigit() or len(value) > 18:
            raise IncorrectLookupParameters(value)
        return self.narrowed(queryset, int(value))

    def narrowed(self, queryset: QuerySet, key: int) -> QuerySet:
        return queryset.filter(**{self.column: key})


class LineFilter(ChoiceFilter):
    title = _("line")
    parameter_name = "line"
    column = "proxy"
    empty_title = _("none")

    def options(self, request: HttpRequest) -> list[tuple[int, str]]:
        return list(settings.WK_PROXIES.items())


class TeamFilter(ChoiceFilter):
    title = _("team")
    parameter_name = "team"
    column = "team"
    empty_title = _("none")

    def options(self, request: HttpRequest) -> list[tuple[int, str]]:
        return list(access.teams_of(request.user).values_list("pk", "name")[:CHOICE_LIMIT])


class TagFilter(ChoiceFilter):
    title = _("tag")
    parameter_name = "tag"

    def options(self, request: HttpRequest) -> list[tuple[int, str]]:
        tags = Tag.objects.all()
        if not request.user.has_perm("accounts.view_every_account"):
            seen = Account.objects.visible_to(request.user).filter(pk=OuterRef("account"))
            tags = tags.filter(Exists(tagged().filter(Exists(seen), tag=OuterRef("pk"))))
        return list(tags.values_list("pk", "name")[:CHOICE_LIMIT])

    def narrowed(self, queryset: QuerySet, key: int) -> QuerySet:
        return queryset.filter(pk__in=tagged().filter(tag=key).values("account"))


def tagged() -> QuerySet:
    return Account.tags.through.objects.all()


class AskedByFilter(ChoiceFilter):
    """Who has asked for a login, by one look into the index for each person."""

    title = _("operator")
    parameter_name = "operator"
    column = "asked_by"
    started = LoginAttempt

    def options(self, request: HttpRequest) -> Iterator[tuple[int, str]]:
        people = get_user_model().objects.order_by("username")
        if not request.user.has_perm("accounts.view_every_account"):
            people = people.filter(groups__in=access.teams_of(request.user)).distinct()
        active = people.filter(Exists(self.started.objects.filter(**{self.column: OuterRef("pk")})))
        return ((person.pk, person.get_username()) for person in active[:CHOICE_LIMIT])


class ActorFilter(AskedByFilter):
    column = "actor"
    started = AccountEvent


class DayFilter(admin.FieldListFilter):
    """From one day to another, both included, in the time zone of the page; with the usual stretches as links."""

    template = "admin/accounts/day_filter.html"

    def expected_parameters(self) -> list[str]:
        return [f"{self.field_path}_from", f"{self.field_path}_to"]

    def __init__(self, field, request, params, model, model_admin, field_path):
        super().__init__(field, request, params, model, model_admin, field_path)
        self.first_name, self.last_name = self.expected_parameters()
        self.first, self.last = (self._day(name) for name in self.expected_parameters())

    def _day(self, name: str) -> date | None:
        value = self.used_parameters.get(name, [""])[-1]
        try:
            return date.fromisoformat(value) if value else None
        except ValueError as error:
            raise IncorrectLookupParameters(name) from error

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        try:
            if self.first:
                queryset = queryset.filter(**{f"{self.field_path}__gte": _midnight(self.first)})
            if self.last:
                last = _midnight(self.last + timedelta(days=1))
                queryset = queryset.filter(**{f"{self.field_path}__lt": last})
        except (OverflowError, ValueError) as error:
            raise IncorrectLookupParameters(self.field_path) from error
        return queryset

    def choices(self, changelist: ChangeList) -> Iterator[dict]:
        today = timezone.localdate()
        names = self.expected_parameters()
        stretches = (
            (_("Any date"), None),
            (_("Today"), today),
            (_("Past 7 days"), today - timedelta(days=6)),
            (_("Past 30 days"), today - timedelta(days=29)),
        )
        for title, first in stretches:
            query = {names[0]: first.isoformat()} if first else {}
            yield {
                "selected": self.first == first and self.last is None,
                "query_string": changelist.get_query_string(query, remove=names),
                "display": title,
            }

    def kept(self) -> list[tuple[str, str]]:
        """The rest of the question, for the form with the two days."""
        mine = {*self.expected_parameters(), "p", "e"}
        return [(name, value) for name, value in self.request.GET.items() if name not in mine]


def _midnight(day: date) -> datetime:
    return timezone.make_aware(datetime.combine(day, datetime.min.time()))
