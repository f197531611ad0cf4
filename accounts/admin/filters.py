"""Filters of admin lists. None of them asks a long table for its distinct values."""

from collections.abc import Iterator
from datetime import date, datetime, timedelta

from django.conf import settings
from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.contrib.auth import get_user_model
from django.db.models import OuterRef, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts import permissions
from accounts.lib.lists.keyset_pagination import COUNT_LIMIT, count_up_to, for_each
from accounts.models import Account, AccountEvent, LoginAttempt, Tag
from accounts.proxies import OWN, proxy_name

CHOICE_LIMIT = 100
NONE = "none"


class ChoiceFilter(admin.SimpleListFilter):
    """Filter on rows whose `column` has the chosen value, or is empty."""

    column = ""
    empty_title = ""  # title of the choice "none"; without one there is no such choice

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
        found = super().queryset(request, queryset)
        return found.filter(own_proxy=None) if self.value() not in (None, str(OWN)) else found

    def narrowed(self, queryset: QuerySet, key: int) -> QuerySet:
        if key == OWN:
            return queryset.filter(own_proxy__isnull=False)
        return super().narrowed(queryset, key)


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

    def narrowed(self, queryset: QuerySet, key: int) -> QuerySet:
        """Filter by a list of all tagged accounts.

        If more than COUNT_LIMIT have the tag, filter by one index lookup for each account.
        """
        uses = tagged().filter(tag=key)
        if count_up_to(uses) > COUNT_LIMIT:
            return queryset.filter(for_each(uses.filter(account=OuterRef("pk"))))
        return queryset.filter(pk__in=uses.values("account"))


def tagged() -> QuerySet:
    return Account.tags.through.objects.all()


class AskedByFilter(ChoiceFilter):
    """Filter by who requested a login, found by one index lookup for each person."""

    title = _("operator")
    parameter_name = "operator"
    column = "asked_by"
    started = LoginAttempt

    def options(self, request: HttpRequest) -> Iterator[tuple[int, str]]:
        people = get_user_model().objects.order_by("username")
        if not permissions.sees_all(request.user):
            people = people.filter(groups__in=permissions.teams_of(request.user)).distinct()
        active = people.filter(for_each(self.started.objects.filter(**{self.column: OuterRef("pk")})))
        return ((person.pk, person.get_username()) for person in active[:CHOICE_LIMIT])


class ActorFilter(AskedByFilter):
    column = "actor"
    started = AccountEvent


class DayFilter(admin.FieldListFilter):
    """Filter from one day to another, both included, in the page's time zone. Common ranges are links."""

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
        """Return the other query parameters, for the form with the two days."""
        mine = {*self.expected_parameters(), "p", "e"}
        return [(name, value) for name, value in self.request.GET.items() if name not in mine]


def _midnight(day: date) -> datetime:
    return timezone.make_aware(datetime.combine(day, datetime.min.time()))
