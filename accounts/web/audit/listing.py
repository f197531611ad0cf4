"""The audit log as one query: filters that combine, the rows of a page, all rows for a file."""

from collections.abc import Iterator
from datetime import date, timedelta
from functools import reduce
from operator import or_
from urllib.parse import urlencode

from django import forms
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db.models import Q, QuerySet
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from accounts.lib.lists.keyset_pagination import Order, Page, page_of
from accounts.lib.time_windows import begin_of_day
from accounts.lib.typed_text import is_key
from accounts.models import AuditEntry, Team
from accounts.models.audit.entry import AuditKind
from accounts.models.audit.origin import Way
from accounts.web.fields import FIRST_YEAR, LAST_YEAR, LineField

NEWEST_FIRST = Order("at", descending=True)
READ_AT_ONCE = 500
FOLDED = ("about", "account", "team", "way", "address")
SEARCHED = ("actor_name", "subject_name", "account_name", "team_name", "detail")
# What an action may be about: its name, and the models that entries have for it.
SUBJECTS = {
    "account": (_("Account"), ("accounts.account",)),
    "person": (_("Person"), ("auth.user",)),
    "team": (_("Team"), ("auth.group",)),
    "plan": (_("Plan"), ("accounts.plan",)),
    "policy": (_("Recovery policy"), ("accounts.recoverypolicy",)),
    "channel": (_("Channel"), ("accounts.channel", "accounts.rule")),
    "tag": (_("Tag"), ("accounts.tag",)),
    "bulk": (_("Bulk action"), ("accounts.bulkrun",)),
    "incident": (_("Incident"), ("accounts.incident",)),
    "unmanaged": (_("Unmanaged account"), ("accounts.unmanagedaccount",)),
}


def _date(label) -> forms.DateField:
    return forms.DateField(
        label=label,
        required=False,
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
        validators=[MinValueValidator(date(FIRST_YEAR, 1, 1)), MaxValueValidator(date(LAST_YEAR, 12, 31))],
    )


class AuditFilter(forms.Form):
    """What was asked for. A value that is wrong is said, and nothing is listed: a file has exactly what is filtered."""

    q = LineField(label=_("Search names and details"), required=False, max_length=100)
    who = LineField(label=pgettext_lazy("who did it", "By"), required=False, max_length=150)
    kind = forms.ChoiceField(label=_("Action"), required=False)
    about = forms.ChoiceField(label=_("About"), required=False)
    since = _date(pgettext_lazy("a day", "From"))
    until = _date(pgettext_lazy("a day", "To"))
    account = LineField(label=_("Account: number or label"), required=False, max_length=100)
    team = LineField(label=_("Team"), required=False, max_length=150)
    way = forms.ChoiceField(label=_("By what"), required=False)
    address = forms.GenericIPAddressField(label=_("Address"), required=False)

    def __init__(self, data):
        super().__init__({name: data.get(name, "") for name in self.base_fields})
        kinds = sorted(AuditKind.choices, key=lambda choice: str(choice[1]))
        self.fields["kind"].choices = [("", _("All actions")), *kinds]
        self.fields["about"].choices = [
            ("", _("All subjects")),
            *((key, name) for key, (name, _models) in SUBJECTS.items()),
        ]
        self.fields["way"].choices = [("", _("All ways")), *Way.choices]
        for field in self.fields.values():
            field.widget.attrs |= {"class": "field", "autocomplete": "off"}
        for name, proposed in (("who", "audit-people"), ("team", "audit-teams")):
            self.fields[name].widget.attrs["list"] = proposed
        self.is_valid()

    @property
    def query(self) -> dict[str, str]:
        """Return what the address of this list has, without what was left empty."""
        return {name: value for name, value in self.data.items() if value}

    def address_of(self, cursor: str = "") -> str:
        asked = self.query | ({"page": cursor} if cursor else {})
        return f"?{urlencode(asked)}" if asked else "?"

    @property
    def first(self) -> list[forms.BoundField]:
        return [self[name] for name in self.fields if name not in FOLDED]

    @property
    def folded(self) -> list[forms.BoundField]:
        return [self[name] for name in FOLDED]

    @property
    def unfolds(self) -> bool:
        return any(self.data[name] for name in FOLDED)

    def rows(self) -> QuerySet[AuditEntry]:
        if not self.is_valid():
            return AuditEntry.objects.none()
        asked = self.cleaned_data
        columns = {
            "kind": asked["kind"],
            "actor_name": asked["who"],
            "way": asked["way"],
            "address": asked["address"],
        }
        rows = AuditEntry.objects.filter(**{name: value for name, value in columns.items() if value})
        if asked["about"]:
            rows = rows.filter(subject__in=SUBJECTS[asked["about"]][1])
        if asked["since"]:
            rows = rows.filter(at__gte=begin_of_day(asked["since"]))
        if asked["until"]:
            rows = rows.filter(at__lt=begin_of_day(asked["until"] + timedelta(days=1)))
        if asked["account"]:
            rows = rows.filter(_account(asked["account"]))
        if asked["team"]:
            rows = rows.filter(_team(asked["team"]))
        for word in asked["q"].split():
            rows = rows.filter(reduce(or_, (Q(**{f"{name}__icontains": word}) for name in SEARCHED)))
        return rows

    def page(self, cursor: str) -> Page:
        return page_of(self.rows(), NEWEST_FIRST, cursor, anchors=AuditEntry.objects.all())

    def batches(self) -> Iterator[list[AuditEntry]]:
        """Return batches of all rows of now, the newest first, each read by its own query: no cursor stays open."""
        newest = AuditEntry.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
        return _batches(self.rows().filter(pk__lte=newest).order_by("-at", "-pk"))


def _batches(rows: QuerySet) -> Iterator[list[AuditEntry]]:
    last = None
    while batch := list((rows.filter(_before(last)) if last else rows)[:READ_AT_ONCE]):
        last = batch[-1]
        yield batch


def _account(typed: str) -> Q:
    number = typed.removeprefix("#")
    return Q(account_id=int(number)) | Q(account_name=typed) if is_key(number) else Q(account_name=typed)


def _team(typed: str) -> Q:
    """Match the team that accounts were in, and what was done to the team itself."""
    named = Q(team_name=typed) | Q(subject__in=SUBJECTS["team"][1], subject_name=typed)
    today = list(Team.objects.filter(name=typed).values_list("pk", flat=True))
    return named | Q(team_id__in=today)


def _before(entry: AuditEntry) -> Q:
    return Q(at__lte=entry.at) & (Q(at__lt=entry.at) | Q(pk__lt=entry.pk))
