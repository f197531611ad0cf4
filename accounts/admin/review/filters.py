"""Filters of admin lists. None of them asks a long table for its distinct values."""

from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from functools import partial

from django.conf import settings
from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.contrib.auth import get_user_model
from django.db.models import BooleanField, OuterRef, Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _

from accounts import permissions
from accounts.lib.lists.keyset_pagination import COUNT_LIMIT, count_up_to, for_each
from accounts.lib.time_windows import begin_of_day
from accounts.lib.typed_text import is_key
from accounts.models import Account, AccountEvent, LoginAttempt, Tag
from accounts.proxies import OWN, proxy_name
from accounts.web.fields import FIRST_YEAR, LAST_YEAR

CHOICE_LIMIT = 100
NONE = "none"


class Several:
    """What filters share that take several values: a row matches if it has one of them.

    `state__in=failed&state__in=expired`, as the form sends it, says the same as `state__in=failed,expired`.
    """

    template = "admin/accounts/filters/choices.html"
    parameter: str  # that links and the form use
    column: str
    chosen: tuple[str, ...] = ()

    def offered(self) -> list[tuple[str, str]]:
        raise NotImplementedError

    def choose(self, values: Iterable[str]) -> None:
        typed = (part.strip() for value in values for part in value.split(","))
        self.chosen = tuple(dict.fromkeys(filter(None, typed)))
        if len(self.chosen) > CHOICE_LIMIT or not all(map(self.is_value, self.chosen)):
            raise IncorrectLookupParameters(self.parameter)

    def is_value(self, value: str) -> bool:
        return value in dict(self.offered())

    def value_of(self, stored: object) -> str:
        """Return the value that chooses the rows with this in the column."""
        return str(stored)

    def title_of(self, value: str) -> str:
        return dict(self.offered()).get(value, f"#{value}")

    def choices(self, changelist: ChangeList) -> Iterator[dict]:
        offered = dict(self.offered())
        more = {value: self.title_of(value) for value in self.chosen if value not in offered}
        for value, title in (offered | more).items():
            yield {"value": value, "display": title, "selected": value in self.chosen}

    def query(self, changelist: ChangeList, values: Iterable[str]) -> str:
        """Return the query string of the list with these values of the filter instead of the chosen ones."""
        chosen = ",".join(values)
        return changelist.get_query_string({self.parameter: chosen or None}, self.expected_parameters())

    def chips(self, changelist: ChangeList) -> Iterator[dict]:
        for value in self.chosen:
            others = (other for other in self.chosen if other != value)
            yield {
                "title": self.title,
                "text": self.title_of(value),
                "without": self.query(changelist, others),
            }


class FieldChoices(Several, admin.FieldListFilter):
    """The choices of a column, or yes and no."""

    def __init__(self, field, request, params, model, model_admin, field_path):
        self.parameter, self.column = f"{field_path}__in", field_path
        typed = [value for name in self._names(field_path) for value in params.get(name, ())]
        super().__init__(field, request, params, model, model_admin, field_path)
        self.choose(typed)

    @staticmethod
    def _names(field_path: str) -> list[str]:
        return [f"{field_path}__in", f"{field_path}__exact"]

    def expected_parameters(self) -> list[str]:
        return self._names(self.field_path)

    def offered(self) -> list[tuple[str, str]]:
        if isinstance(self.field, BooleanField):
            return [("1", _("Yes")), ("0", _("No"))]
        return [(str(value), title) for value, title in self.field.choices]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(**{f"{self.column}__in": self.chosen}) if self.chosen else queryset


class ChoiceFilter(Several, admin.SimpleListFilter):
    """Filter on rows whose `column` has one of the chosen IDs or numbers, or is empty."""

    empty_title = ""  # title of the choice "none"; without one there is no such choice

    def __init__(self, request, params, model, model_admin):
        self.parameter = self.parameter_name
        typed = params.get(self.parameter_name, ())
        super().__init__(request, params, model, model_admin)
        self.choose(typed)

    def options(self, request: HttpRequest) -> Iterable[tuple[int, str]]:
        raise NotImplementedError

    def lookups(self, request: HttpRequest, model_admin) -> list[tuple[str, str]]:
        found = [(str(key), title) for key, title in self.options(request)]
        return [*found, (NONE, self.empty_title)] if self.empty_title and found else found

    def offered(self) -> list[tuple[str, str]]:
        return self.lookup_choices

    def is_value(self, value: str) -> bool:
        return is_key(value) or (value == NONE and bool(self.empty_title))

    def value_of(self, stored: object) -> str:
        return NONE if stored is None else str(stored)

    def has_output(self) -> bool:
        return bool(self.lookup_choices or self.chosen)

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        if not self.chosen:
            return queryset
        found = Q(**{f"{self.column}__isnull": True}) if NONE in self.chosen else Q()
        keys = [int(value) for value in self.chosen if value != NONE]
        return queryset.filter(found | self.having(keys) if keys else found)

    def having(self, keys: list[int]) -> Q:
        return Q(**{f"{self.column}__in": keys})


class ProxyFilter(ChoiceFilter):
    title = _("proxy")
    parameter_name = "line"
    column = "proxy"
    empty_title = _("none")

    def options(self, request: HttpRequest) -> list[tuple[int, str]]:
        return [*settings.WK_PROXIES.items(), (OWN, proxy_name(OWN))]


class OwnProxyFilter(ProxyFilter):
    """The proxy in use by an account: a listed one does not count beside an own one."""

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        if not self.chosen:
            return queryset
        listed = [int(value) for value in self.chosen if value not in (NONE, str(OWN))]
        found = Q(proxy__in=listed)
        if NONE in self.chosen:
            found |= Q(proxy=None)
        found &= Q(own_proxy=None)
        return queryset.filter(found | Q(own_proxy__isnull=False) if str(OWN) in self.chosen else found)


class TeamFilter(ChoiceFilter):
    title = _("team")
    parameter_name = "team"
    column = "team"
    empty_title = _("none")

    def options(self, request: HttpRequest) -> list[tuple[int, str]]:
        return list(permissions.teams_of(request.user).values_list("pk", "name")[:CHOICE_LIMIT])


class TagFilter(ChoiceFilter):
    title = _("tag")
    parameter_name = "tag"

    def options(self, request: HttpRequest) -> list[tuple[int, str]]:
        tags = Tag.objects.all()
        if not permissions.sees_all(request.user):
            seen = Account.objects.visible_to(request.user).filter(pk=OuterRef("account"))
            tags = tags.filter(for_each(tagged().filter(for_each(seen), tag=OuterRef("pk"))))
        return list(tags.values_list("pk", "name")[:CHOICE_LIMIT])

    def having(self, keys: list[int]) -> Q:
        """Filter by a list of all tagged accounts.

        If more than COUNT_LIMIT have the tags, filter by one index lookup for each account.
        """
        uses = tagged().filter(tag__in=keys)
        if count_up_to(uses) > COUNT_LIMIT:
            return Q(for_each(uses.filter(account=OuterRef("pk"))))
        return Q(pk__in=uses.values("account"))


def tagged() -> QuerySet:
    return Account.tags.through.objects.all()


class AskedByFilter(ChoiceFilter):
    """Filter by who requested a login, found by one index lookup for each person."""

    title = _("operator")
    parameter_name = "operator"
    column = "asked_by"
    name_column = "asked_by_name"
    empty_title = _("nobody, or a deleted person")
    started = LoginAttempt

    def __init__(self, request, params, model, model_admin):
        self._read = partial(model_admin.get_queryset, request)
        super().__init__(request, params, model, model_admin)

    @cached_property
    def visible_rows(self) -> QuerySet:
        return self._read()

    def options(self, request: HttpRequest) -> Iterator[tuple[int, str]]:
        people = get_user_model().objects.order_by("username")
        if not permissions.sees_all(request.user):
            people = people.filter(groups__in=permissions.teams_of(request.user)).distinct()
        active = people.filter(for_each(self.started.objects.filter(**{self.column: OuterRef("pk")})))
        return ((person.pk, person.get_username()) for person in active[:CHOICE_LIMIT])

    def title_of(self, value: str) -> str:
        """Return the name, also of somebody beyond the offered ones whom a row names that the reader sees."""
        if value not in dict(self.offered()) and value != NONE:
            named = self.visible_rows.filter(**{self.column: value}).order_by()
            return next(iter(named.values_list(self.name_column, flat=True)[:1]), "") or f"#{value}"
        return super().title_of(value)


class ActorFilter(AskedByFilter):
    title = _("by")
    column = "actor"
    name_column = "actor_name"
    started = AccountEvent


class DayFilter(admin.FieldListFilter):
    """Filter from one day to another, both included, in the page's time zone. Common ranges are links."""

    template = "admin/accounts/filters/days.html"

    def expected_parameters(self) -> list[str]:
        return [f"{self.field_path}_from", f"{self.field_path}_to"]

    def __init__(self, field, request, params, model, model_admin, field_path):
        super().__init__(field, request, params, model, model_admin, field_path)
        self.first_name, self.last_name = self.expected_parameters()
        self.first, self.last = (self._day(name) for name in self.expected_parameters())

    def _day(self, name: str) -> date | None:
        value = self.used_parameters.get(name, [""])[-1]
        try:
            day = date.fromisoformat(value) if value else None
        except ValueError as error:
            raise IncorrectLookupParameters(name) from error
        if day and not FIRST_YEAR <= day.year <= LAST_YEAR:
            raise IncorrectLookupParameters(name)
        return day

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        if self.first:
            queryset = queryset.filter(**{f"{self.field_path}__gte": begin_of_day(self.first)})
        if self.last:
            last = begin_of_day(self.last + timedelta(days=1))
            queryset = queryset.filter(**{f"{self.field_path}__lt": last})
        return queryset

    def query(self, changelist: ChangeList, first: date | None = None, last: date | None = None) -> str:
        """Return the query string of the list with these days instead of the chosen ones."""
        days = {self.first_name: first and first.isoformat(), self.last_name: last and last.isoformat()}
        return changelist.get_query_string(days, self.expected_parameters())

    def choices(self, changelist: ChangeList) -> Iterator[dict]:
        today = timezone.localdate()
        monday = today - timedelta(days=today.weekday())
        for title, first, last in (
            (_("Today"), today, today),
            (_("Yesterday"), today - timedelta(days=1), today - timedelta(days=1)),
            (_("Past 7 days"), today - timedelta(days=6), None),
            (_("Last week"), monday - timedelta(days=7), monday - timedelta(days=1)),
            (_("Past 30 days"), today - timedelta(days=29), None),
        ):
            yield {
                "selected": (self.first, self.last) == (first, last),
                "query_string": self.query(changelist, first, last),
                "display": title,
            }

    def chips(self, changelist: ChangeList) -> Iterator[dict]:
        if self.first and self.first == self.last:
            text = self.first.isoformat()
        elif self.first or self.last:
            text = " – ".join(day.isoformat() if day else "…" for day in (self.first, self.last))
        else:
            return
        yield {"title": self.title, "text": text, "without": self.query(changelist)}
