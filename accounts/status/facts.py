"""The facts that say whether the portal works: for the page, `manage.py status`, the overview and metrics alike."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from django.conf import settings
from django.db import connection, models
from django.utils.formats import number_format
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from accounts.reasons import Reason
from accounts.status import readiness
from accounts.status.reading import DROPS_LOOKED_AT, Reading
from accounts.templatetags.accounts_tags import words_for, words_for_ago
from wkportal.celery import Scheduler

# Seconds. A job writes when it ran every 10 s; beat sends something every 2 s.
BEAT_LATE, JOB_LATE, QUEUED_LONG, SILENT_LONG = 30, 30, 30, 180
CLEANUP_LATE = 2.5 * 3600
MANY_MESSAGES, MANY_ERRORS = 20, 5
JOBS: dict[str, Promise] = {
    "end_overdue": gettext_lazy("end of overdue logins"),
    "presence": gettext_lazy("presence checks"),
    "reasons": gettext_lazy("reasons of drops"),
    "developer_account": gettext_lazy("developer account"),
    "end_drops": gettext_lazy("end of drops"),
    "recovery": gettext_lazy("recovery"),
    "plans": gettext_lazy("plans"),
    "bulk_runs": gettext_lazy("bulk runs"),
    "scan_claims": gettext_lazy("scan runs"),
    "scan_links": gettext_lazy("scan links"),
    "notifications": gettext_lazy("notifications"),
    "delete_old_rows": gettext_lazy("deletion of old rows"),
}
# Logins that failed for these reasons failed at WKTeam or on the way to it, not at the phone.
AT_WKTEAM = frozenset({
    *(Reason.LINE_DOWN, Reason.REFUSED, Reason.UNREACHABLE, Reason.CERTIFICATE, Reason.OUTCOME_UNKNOWN),
    *(Reason.BAD_ANSWER, Reason.SIGN_IN_REFUSED, Reason.DEVELOPER_FROZEN, Reason.DEVELOPER_EXPIRED),
    *(Reason.QR_HOST, Reason.QR_HOST_DOWN, Reason.QR_ADDRESS, Reason.QR_PICTURE, Reason.NO_SEAT),
})  # fmt: skip


class State(models.IntegerChoices):
    OK = 0, gettext_lazy("OK")
    WARNING = 1, gettext_lazy("Warning")
    FAULT = 2, gettext_lazy("Fault")


# The classes of its marks on the pages.
LEVELS = {State.OK: "", State.WARNING: "slow", State.FAULT: "down"}
CHIPS = {State.OK: "online", State.WARNING: "due", State.FAULT: "failed"}
Number = float | None | dict[str, float]


@dataclass(frozen=True, slots=True)
class Fact:
    """`alert`: the section of docs/operations.md that says what to do. `numbers`: by the names of their metrics.

    `parts`: what the fact is made of, as (name, value).
    """

    name: str
    title: str | Promise
    value: str
    state: State = State.OK
    alert: str = ""
    numbers: dict[str, Number] = field(default_factory=dict)
    parts: tuple[tuple[str | Promise, str], ...] = ()

    @property
    def level(self) -> str:
        return LEVELS[self.state]

    @property
    def chip(self) -> str:
        return CHIPS[self.state]


def database(reading: Reading) -> Fact:
    began = time.monotonic()
    problem = readiness.database_problem()
    milliseconds = round(1000 * (time.monotonic() - began))
    value = f"{connection.display_name} · {milliseconds} ms"
    if problem:
        value = _("migrations are missing") if problem == readiness.NOT_MIGRATED else _("not reachable")
    state = State.FAULT if problem else State.OK
    return Fact("database", _("Database"), value, state, "WkportalDatabase")


def broker(reading: Reading) -> Fact:
    found, title, alert = reading.broker, _("Task queue"), "WkportalTaskQueue"
    if found is None:
        return Fact("broker", title, _("Redis is not reachable"), State.FAULT, alert)
    most = max(found.queues.values())
    full, many = most >= Scheduler.most_queued, most >= MANY_MESSAGES
    state = State.FAULT if full else State.WARNING if many else State.OK
    value = " · ".join(f"{queue} {number}" for queue, number in found.queues.items())
    return Fact("broker", title, value, state, alert, {"task_queue_messages": dict(found.queues)})


def beat(reading: Reading) -> Fact:
    title, alert = _("Scheduler (beat)"), "WkportalBeat"
    if reading.broker is None:
        return Fact("beat", title, _("not known without Redis"), State.WARNING, alert)
    age = reading.broker.beat_age
    late = age is None or age > BEAT_LATE
    value = _("never") if age is None else words_for_ago(age)
    return Fact("beat", title, value, State.FAULT if late else State.OK, alert, {"beat_age_seconds": age})


def jobs(reading: Reading) -> Fact:
    """Say which periodic jobs have not run, or failed when they last ran."""
    ages = {name: reading.age(run.ran_at) for name, run in reading.job_runs.items() if name in JOBS}
    late = [name for name in JOBS if _is_late(name, ages.get(name))]
    failing = [name for name in JOBS if name in reading.job_runs and reading.job_runs[name].error]
    value = _("all have run")
    if late == [name for name in JOBS if name != "delete_old_rows"]:
        ago = min((age for name in late if (age := ages.get(name)) is not None), default=None)
        value = _("never") if ago is None else words_for_ago(ago)
    elif late or failing:
        value = ", ".join(str(JOBS[name]) for name in JOBS if name in {*late, *failing})
    numbers = {
        "job_age_seconds": {name: age for name, age in ages.items() if age is not None},
        "jobs_failing": len(failing),
    }
    state = State.FAULT if late or failing else State.OK
    parts = tuple((JOBS[name], _last_run(ages.get(name), name in failing)) for name in JOBS)
    return Fact("jobs", _("Periodic jobs"), value, state, "WkportalJobs", numbers, parts)


def _last_run(age: float | None, failing: bool) -> str:
    ran = _("never") if age is None else words_for_ago(age)
    return " · ".join([ran, _("failing")]) if failing else ran


def _is_late(name: str, age: float | None) -> bool:
    if name == "delete_old_rows":  # an hour after the first start it has never run
        return age is not None and age > CLEANUP_LATE
    return age is None or age > JOB_LATE


def workers(reading: Reading) -> Fact:
    alive, free = len(reading.workers), reading.free_slots
    value = ngettext("%(n)s running · %(free)s slot free", "%(n)s running · %(free)s slots free", free)
    state = State.FAULT if not alive else State.OK if free else State.WARNING
    held = sum(held for held, _slots in reading.workers.values())
    numbers = {"waits_workers": alive, "wait_slots_free": free, "logins_held": held}
    parts = tuple((name, f"{held} / {slots}") for name, (held, slots) in reading.workers.items())
    value = value % {"n": alive, "free": number_format(free, force_grouping=True)}
    return Fact("workers", _("Workers"), value, state, "WkportalWaitsWorkers", numbers, parts)


def queue(reading: Reading) -> Fact:
    """Say how many logins wait for a slot. With free slots, none waits long."""
    number, since = reading.queued
    age, free = reading.age(since), reading.free_slots
    stuck = number > 0 and free > 0 and age is not None and age > QUEUED_LONG
    value = f"{number} · {words_for(age)}" if age is not None else str(number)
    state = State.FAULT if stuck else State.WARNING if number and not free else State.OK
    numbers = {"logins_queued": number, "login_queue_age_seconds": age or 0}
    return Fact("queue", _("Queue"), value, state, "WkportalLoginsQueued", numbers)


def overdue(reading: Reading) -> Fact:
    number = reading.overdue
    state = State.FAULT if number else State.OK
    return Fact(
        "overdue",
        _("Overdue logins"),
        str(number),
        state,
        "WkportalLoginsOverdue",
        {"logins_overdue": number},
    )


def upstream(reading: Reading) -> Fact:
    refused = reading.access is not None and reading.access.refused_at is not None
    value, state = (_("refused"), State.FAULT) if refused else (_("OK"), State.OK)
    return Fact("upstream", _("WKTeam connection"), value, state, "WkportalUpstreamRefused")


def presence(reading: Reading) -> Fact:
    """Say whether it is known who is online: when WKTeam last answered, and since when and why it does not."""
    row, title, alert = reading.presence, _("Who is online"), "WkportalUpstreamSilent"
    age, numbers = reading.age(row and row.answered_at), {}
    if age is not None:
        numbers = {"presence_age_seconds": age, "accounts_online": row.online}
    silent = reading.age(row and row.unknown_since)
    if age is None or silent is not None:
        why = str(dict(Reason.choices).get(row.unknown_why, "")) if row else ""
        state = State.FAULT if silent is not None and silent > SILENT_LONG else State.WARNING
        return Fact("presence", title, " · ".join(filter(None, [_("unknown"), why])), state, alert, numbers)
    late = age > 3 * settings.WK_PRESENCE_SECONDS + 60
    value = " · ".join([_("known"), words_for_ago(age)])
    return Fact("presence", title, value, State.FAULT if late else State.OK, alert, numbers)


def errors(reading: Reading) -> Fact:
    """Say how many logins of the last hour failed at WKTeam, by reason."""
    found = {reason: number for reason, number in reading.failures.most_common() if reason in AT_WKTEAM}
    titles = dict(Reason.choices)
    value = ", ".join(f"{titles[reason]} {number}" for reason, number in found.items()) or _("none")
    state = State.WARNING if sum(found.values()) >= MANY_ERRORS else State.OK
    return Fact("errors", _("WKTeam errors, last hour"), value, state, "WkportalUpstreamErrors")


def developer_account(reading: Reading, *, with_seats: bool = True) -> Fact:
    """Say when it ends and which of its seats are taken; that number is for those who see every account."""
    account, said, state, numbers = reading.developer_account, [], State.OK, {}
    if account is not None and account.seats is not None:
        numbers = {"developer_account_seats": account.seats, "developer_account_seats_taken": account.online}
        if with_seats:
            said.append(_("%(taken)s of %(seats)s seats") % {"taken": account.online, "seats": account.seats})
            state = State.WARNING if account.is_full else State.OK
    if account is None or account.ends_at is None:
        said.append(_("end not known"))
    else:
        left = account.ends_at - reading.now
        numbers["developer_account_seconds_left"] = left.total_seconds()
        said.append(ngettext("%(n)s day left", "%(n)s days left", left.days) % {"n": max(0, left.days)})
        if account.warning is not None:
            state = max(state, State.WARNING if account.warning else State.FAULT)
    alert = "WkportalDeveloperAccount"
    return Fact("developer_account", _("Developer account"), " · ".join(said), state, alert, numbers)


def callbacks(reading: Reading) -> Fact:
    """Say when WKTeam's last callback reported a drop: without them, a drop is noticed minutes later."""
    title, alert, age = _("WKTeam callback"), "WkportalCallbacks", reading.age(reading.last_callback)
    if age is None:
        missed = len(reading.newest_drops) == DROPS_LOOKED_AT
        return Fact("callbacks", title, _("none received"), State.WARNING if missed else State.OK, alert)
    return Fact("callbacks", title, words_for_ago(age), State.OK, alert, {"callback_age_seconds": age})


def channels(reading: Reading) -> Fact:
    off, late = reading.disabled_channels, reading.late_deliveries
    said = [_("disabled: {names}").replace("{names}", ", ".join(off))] if off else []
    if late:
        said.append(ngettext("%(n)s message late", "%(n)s messages late", late) % {"n": late})
    numbers = {"channels_disabled": len(off), "deliveries_late": late}
    value, state = " · ".join(said) or _("OK"), State.WARNING if said else State.OK
    return Fact("channels", _("Notification channels"), value, state, "WkportalChannels", numbers)


def version(reading: Reading) -> Fact:
    return Fact("version", _("Version"), settings.VERSION)


FACTS: tuple[Callable[[Reading], Fact], ...] = (
    *(database, broker, beat, jobs, workers, queue, overdue),
    *(upstream, presence, errors, developer_account, callbacks, channels, version),
)


def collect() -> list[Fact]:
    """Return all facts. Raises DatabaseError or InterfaceError if the database cannot be reached."""
    reading = Reading()
    return [fact(reading) for fact in FACTS]
