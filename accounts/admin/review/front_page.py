"""The front page of Django admin: what to look at today, each a link to where it is."""

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlencode

from django.db.models import Count, QuerySet
from django.urls import reverse
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext, gettext_lazy

from accounts import permissions
from accounts.admin.display import in_common, moment_in
from accounts.lib.time_windows import begin_of_day
from accounts.models import BulkRun, Channel, Incident, LoginAttempt, Plan, PlanResult, PlanRun
from accounts.models.plan import Outcome
from accounts.reasons import Reason
from accounts.states import AttemptState
from accounts.web.visible_accounts import VisibleAccounts

SHOWN = 5
FAILED = (AttemptState.FAILED, AttemptState.EXPIRED)
# Results of a plan run for which a person has something to do.
NOT_LOGGED_IN = (Outcome.DECLINED, Outcome.NO_PROMPT, Outcome.CAP, Outcome.SEATS)


@dataclass(frozen=True, slots=True)
class Line:
    text: str | Promise
    address: str
    note: str | Promise = ""


@dataclass(frozen=True, slots=True)
class Block:
    """`lines`: the first ones. `address`: of all of them."""

    title: str | Promise
    address: str
    lines: list[Line]


def blocks(user) -> Iterator[Block]:
    """Yield what this person may see. One or two queries for each."""
    if user.has_perm("accounts.view_loginattempt"):
        yield _failures(user)
    if not permissions.sees_all(user):
        return
    if user.has_perm("accounts.view_incident"):
        yield Block(gettext_lazy("Open incidents"), reverse("incidents"), list(_incidents()))
    if user.has_perm("accounts.view_planrun"):
        address = reverse("admin:accounts_planrun_changelist")
        yield Block(gettext_lazy("Runs in progress, or with failures today"), address, list(_runs()))
    if user.has_perm("accounts.view_plan"):
        yield Block(gettext_lazy("Plans due next"), reverse("admin:accounts_plan_changelist"), list(_plans()))
    if user.has_perm("accounts.view_channel"):
        address = reverse("admin:accounts_channel_changelist")
        yield Block(gettext_lazy("Channels with problems"), address, list(_channels()))


def _failures(user) -> Block:
    today = timezone.localdate().isoformat()
    asked = {"state__in": ",".join(FAILED), "created_at_from": today, "created_at_to": today}
    attempts = reverse("admin:accounts_loginattempt_changelist")
    rows = VisibleAccounts(user).of(
        LoginAttempt.objects.filter(state__in=FAILED, created_at__gte=begin_of_day(timezone.localdate()))
    )
    counts = rows.order_by().values_list("reason").annotate(number=Count("pk")).order_by("-number", "reason")
    titles = dict(Reason.choices)
    lines = [
        Line(titles.get(code, code), f"{attempts}?{urlencode(asked | {'reason__in': code})}", str(number))
        for code, number in counts
    ]
    return Block(gettext("Failed logins today"), f"{attempts}?{urlencode(asked)}", lines)


def _incidents() -> Iterator[Line]:
    for incident in Incident.objects.filter(ended_at=None).order_by("-pk")[:SHOWN]:
        address = reverse("admin:accounts_incident_change", args=[incident.pk])
        yield Line(f"#{incident.pk} {in_common(incident)}", address, moment_in(incident.at))


def _runs() -> Iterator[Line]:
    for run in PlanRun.objects.filter(ended_at=None).order_by("-pk")[:SHOWN]:
        yield Line(str(run), reverse("admin:accounts_planrun_change", args=[run.pk]), gettext("in progress"))
    for bulk in BulkRun.objects.open().order_by("-pk")[:SHOWN]:
        yield Line(str(bulk), reverse("bulk_run", args=[bulk.pk]), gettext("in progress"))
    today: QuerySet = PlanRun.objects.filter(
        began_at__gte=begin_of_day(timezone.localdate()), ended_at__isnull=False
    )
    failed = PlanResult.objects.filter(run__in=today, outcome__in=NOT_LOGGED_IN).order_by()
    numbers = dict(failed.values_list("run").annotate(number=Count("pk")).order_by("-run")[:SHOWN])
    for run in PlanRun.objects.filter(pk__in=numbers).order_by("-pk"):
        note = gettext("not logged in: %(number)s") % {"number": numbers[run.pk]}
        yield Line(str(run), reverse("admin:accounts_planrun_change", args=[run.pk]), note)


def _plans() -> Iterator[Line]:
    for plan in Plan.objects.filter(active=True, next_at__isnull=False).order_by("next_at")[:SHOWN]:
        address = reverse("admin:accounts_plan_change", args=[plan.pk])
        yield Line(plan.name, address, moment_in(plan.next_at, plan.zone))


def _channels() -> Iterator[Line]:
    # The address stays unread.
    troubled = Channel.objects.troubled().order_by("name").defer("url")
    for channel in troubled[:SHOWN]:
        disabled = channel.switched_off_at is not None and not channel.active
        note = (
            channel.why_off
            if disabled
            else gettext("consecutive failures: %(count)s") % {"count": channel.failures}
        )
        yield Line(channel.name, reverse("admin:accounts_channel_change", args=[channel.pk]), note)
