"""What a login's page shows below the panel: its way as a line, the logins before it, its events."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from accounts.models import AccountEvent, LoginAttempt
from accounts.reasons import Reason
from accounts.states import FINAL_STATES, AttemptState, EventType, Method

EARLIER = 12
# Events that people rarely look for. All others stand in the timeline, each in its own line.
MINOR = {
    *(EventType.WAIT_TAKEN, EventType.WAIT_RESUMED),
    *(EventType.LINK_CREATED, EventType.LINK_SENT, EventType.LINK_OPENED),
}
# How a login can end in each state, the most frequent first: the exits that the line shows.
EXITS = {
    (AttemptState.PREPARING, Method.QR): (Reason.UNREACHABLE, Reason.REFUSED),
    (AttemptState.PREPARING, Method.POPUP): (Reason.UNREACHABLE, Reason.PROMPT_REFUSED),
    (AttemptState.WAITING, Method.QR): (Reason.NOT_SCANNED, Reason.DECLINED, Reason.WRONG_ACCOUNT),
    (AttemptState.WAITING, Method.POPUP): (Reason.NOT_TAPPED, Reason.PROMPT_DECLINED),
    (AttemptState.CODE_REQUIRED, Method.QR): (Reason.CODE_WRONG, Reason.NEW_DEVICE_CHECK),
    (AttemptState.PAGE_REQUIRED, Method.QR): (Reason.NO_ANSWER, Reason.NEW_DEVICE_CHECK),
}
ICONS = {
    AttemptState.PREPARING: "clock",
    AttemptState.CODE_REQUIRED: "key",
    AttemptState.PAGE_REQUIRED: "shield",
    AttemptState.FAILED: "cross",
    AttemptState.EXPIRED: "clock",
    AttemptState.CANCELLED: "stop",
}


@dataclass(slots=True)
class Stop:
    """One stop of the line, with the stretch that follows it."""

    state: str
    title: str | Promise
    icon: str
    at: datetime | None = None  # None: still ahead
    who: str = ""
    seconds: float | None = None  # None: the stretch is not over
    is_longest: bool = False
    taken: list[tuple[str | Promise, int]] = field(default_factory=list)  # side steps, with how often
    exits: list[str | Promise] = field(default_factory=list)

    @property
    def is_end(self) -> bool:
        return self.state in FINAL_STATES

    @property
    def marks(self) -> str:
        """Return the classes of the stop: what lies ahead, what lasts, where it ended without a login."""
        if self.at is None:
            return "ahead"
        if self.is_end:
            return "" if self.state == AttemptState.SUCCEEDED else f"end {self.state}"
        return "now" if self.seconds is None else ""


def way(attempt: LoginAttempt, events: list[AccountEvent]) -> list[Stop]:
    """Return the stops of this login in their order; while it is open, the last one is still ahead.

    The events tell the times. What they no longer tell is taken from the attempt.
    """
    stops = [_stop(attempt, AttemptState.PREPARING, attempt.created_at, attempt.asked_by_name)]
    for event in events:
        if event.happened == EventType.WAIT_RESUMED:
            _step_aside(stops[-1], event.get_happened_display())
        elif event.happened == EventType.ATTEMPT_MOVED:
            _go_on(attempt, stops, event)
    if len(stops) == 1 and attempt.qr_shown_at:
        stops.append(_stop(attempt, AttemptState.WAITING, attempt.qr_shown_at))
    if attempt.ended_at and not stops[-1].is_end:
        stops.append(_stop(attempt, attempt.state, attempt.ended_at))
    for stop, following in zip(stops, stops[1:], strict=False):
        stop.seconds = (following.at - stop.at).total_seconds()
    if len(stops) > 2 and stops[-1].is_end:
        max(stops[:-1], key=lambda stop: stop.seconds).is_longest = True
    for stop in stops:
        exits = EXITS.get((stop.state, attempt.method), ())
        stop.exits = [Reason(reason).label for reason in exits if reason != attempt.reason]
    if attempt.state == AttemptState.PREPARING:
        stops.append(_stop(attempt, AttemptState.WAITING, None))
    if attempt.state != AttemptState.SUCCEEDED:
        stops.append(_stop(attempt, AttemptState.SUCCEEDED, None))
    return stops


def _go_on(attempt: LoginAttempt, stops: list[Stop], event: AccountEvent) -> None:
    last, state = stops[-1], event.to_state
    if state == AttemptState.WAITING and last.state != AttemptState.PREPARING:
        return  # the answer to what the phone asked for was sent: the same stretch goes on
    if state == last.state == AttemptState.CODE_REQUIRED:
        _step_aside(last, _("Wrong verification code"))
    elif state != last.state:
        stops.append(_stop(attempt, state, event.at, event.actor_name))


def _step_aside(stop: Stop, title: str | Promise) -> None:
    if stop.taken and stop.taken[-1][0] == title:
        stop.taken[-1] = (title, stop.taken[-1][1] + 1)
    else:
        stop.taken.append((title, 1))


def _stop(attempt: LoginAttempt, state: str, at: datetime | None, who: str = "") -> Stop:
    by_prompt = attempt.method == Method.POPUP
    titles = {
        AttemptState.PREPARING: pgettext_lazy("a stop of a login", "Requested"),
        AttemptState.WAITING: _("Prompt sent")
        if by_prompt
        else pgettext_lazy("a stop of a login", "QR code shown"),
        AttemptState.CODE_REQUIRED: _("Verification code"),
        AttemptState.PAGE_REQUIRED: _("Verification page"),
        AttemptState.SUCCEEDED: _("Online"),
    }
    ended_for = attempt.get_reason_display() if state in FINAL_STATES and attempt.reason else ""
    icons = ICONS | {AttemptState.WAITING: "phone" if by_prompt else "qr"}
    title = titles.get(state) or ended_for or AttemptState(state).label
    return Stop(state, title, icons.get(state, "tick"), at, who)


@dataclass(frozen=True, slots=True)
class Bar:
    """One login. `percent`: of the longest one."""

    attempt: LoginAttempt
    seconds: float
    percent: int


@dataclass(slots=True)
class Earlier:
    """The logins of one account up to this one, oldest first."""

    bars: list[Bar]

    @property
    def outcomes(self) -> list[tuple[str, str, int]]:
        """Return (state, its title, how often) of each outcome that occurs."""
        counted = Counter(bar.attempt.state for bar in self.bars if not bar.attempt.is_open)
        return [(state.value, state.label, counted[state]) for state in AttemptState if counted[state]]

    @property
    def median(self) -> float | None:
        """Return the median seconds of those that logged the account in."""
        times = [bar.seconds for bar in self.bars if bar.attempt.state == AttemptState.SUCCEEDED]
        return median(times) if times else None


def earlier_logins(attempt: LoginAttempt, now: datetime) -> Earlier | None:
    """Return this login and those of the account before it, at most EARLIER; None if it is the first. One query."""
    same = LoginAttempt.objects.filter(account=attempt.account_id, pk__lte=attempt.pk)
    rows = list(same.light().order_by("-pk")[:EARLIER])[::-1]
    if len(rows) < 2:
        return None
    times = [max(0.0, ((row.ended_at or now) - row.created_at).total_seconds()) for row in rows]
    longest = max(times) or 1
    bars = zip(rows, times, strict=True)
    return Earlier([Bar(row, seconds, round(100 * seconds / longest)) for row, seconds in bars])


@dataclass(slots=True)
class Entry:
    """One event with the seconds since the one above it; or some events that are folded."""

    event: AccountEvent | None
    gap: float | None = None
    folded: list["Entry"] = field(default_factory=list)

    @property
    def titles(self) -> list[str]:
        return list(dict.fromkeys(entry.event.get_happened_display() for entry in self.folded))


def timeline(events: list[AccountEvent]) -> list[Entry]:
    """Return the events as the page lists them: minor ones that follow each other are folded into one entry."""
    entries, previous, shown = [], None, None
    for event in events:
        minor = event.happened in MINOR
        above = previous if minor else shown
        entry = Entry(event, (event.at - above.at).total_seconds() if above else None)
        if not minor:
            entries.append(entry)
            shown = event
        elif entries and entries[-1].folded:
            entries[-1].folded.append(entry)
        else:
            entries.append(Entry(None, folded=[entry]))
        previous = event
    return entries
