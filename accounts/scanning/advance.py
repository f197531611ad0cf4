"""The steps of a scan run: what has ended is written down, free places show the next account, codes are fetched ahead.

Everything stands in rows, and every step is a compare-and-set: a page that is reloaded, a second tab and another
device take the run up where it is. `advance` runs whenever a page looks at the run.

    item      its login attempt                  becomes
    --------  ---------------------------------  ---------------------------------------------------------
    claimed   succeeded, or the account came     done
              online another way
    claimed   of a team whose accounts the       queued
              person does not see any more
    shown     timed out unscanned                shown with a new QR code, RENEWALS times; then skipped
    shown     another account scanned            stays: the person decides
    shown     failed as every other one would    stays, and the run is paused if no other QR code is shown
    shown     ended otherwise                    failed
    shown     a phone prompt that has ended      shown with a QR code
    ready     older than FRESH                   ready with a new QR code, AHEAD_MOST times; then queued
    ready     failed, cancelled, timed out       failed; queued if every other one would fail too
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from accounts.lib import db_clock
from accounts.logins import start
from accounts.models import Account, LoginAttempt, ScanRun, ScanRunItem
from accounts.models.operators.scan_run import ENDED, ScanState
from accounts.reasons import Reason
from accounts.scanning import claims, queue
from accounts.states import AccountState, AttemptState, Method

# A QR code is at most so old when it is shown. It is replaced a little before.
FRESH, REPLACED_AFTER = timedelta(seconds=20), timedelta(seconds=17)
# A QR code is requested so long before the usual time to scan has passed.
LEAD = timedelta(seconds=6)
RENEWALS, AHEAD_MOST = 3, 3
# So long a tile of the wall shows how its login ended.
SHOWS_END = timedelta(seconds=3)
# A page looks again after so many seconds at the latest, and sooner while a QR code is being requested.
LOOK_SECONDS, LOOK_SOON, LOOK_AT_ONCE = 15.0, 2.0, 0.2
USUAL_OF = 20
# Reasons that concern WKTeam or the portal, not the account: the next account would fail in the same way.
SHARED_REASONS = frozenset({
    Reason.NO_WORKER, Reason.UNREACHABLE, Reason.CERTIFICATE, Reason.SIGN_IN_REFUSED, Reason.DEVELOPER_FROZEN,
    Reason.DEVELOPER_EXPIRED, Reason.QR_HOST, Reason.QR_HOST_DOWN,
})  # fmt: skip
_CONFIRMING = (AttemptState.CODE_REQUIRED, AttemptState.PAGE_REQUIRED)


@dataclass
class Advance:
    """One look at a run. `places`: how many QR codes the page shows at once: 1, or the tiles of the wall.

    `started`: IDs of attempts that the caller must put into the queue of the workers. `look_in`: seconds after which
    the page should look again.
    """

    run: ScanRun
    places: int = 1
    now: datetime = field(default_factory=db_clock.now)
    started: list[int] = field(default_factory=list)
    look_in: float = LOOK_SECONDS

    @property
    def is_wall(self) -> bool:
        return self.places > 1

    def look_at(self, moment: datetime) -> None:
        self.look_in = max(LOOK_AT_ONCE, min(self.look_in, (moment - self.now).total_seconds()))

    def step(self) -> "Advance":
        ScanRun.objects.filter(pk=self.run.pk).update(seen_at=self.now)
        self._find_online()
        claimed = self._claimed()
        seen = self._seen(claimed)
        for item in claimed:
            # The screen has become smaller: what has no place any more waits in the queue.
            if item.state != ScanState.SHOWN or item.slot < self.places or not claims.put_back(item):
                self._settle(item, item.account_id in seen)
        if self.run.paused_at is None and not self._fill():
            self._fetch_ahead()
        if not self.run.items.exclude(state__in=ENDED).exists():
            queue.end_run(self.run)
        return self

    def _claimed(self) -> list[ScanRunItem]:
        items = list(self.run.items.claimed().with_attempt().order_by("state", "slot"))
        for item in items:
            item.run = self.run
        return items

    def _seen(self, items: list[ScanRunItem]) -> set[int]:
        """Return the accounts of the items that the run's person sees."""
        seen = Account.objects.visible_to(self.run.person)
        return set(seen.filter(pk__in=[item.account_id for item in items]).values_list("pk", flat=True))

    def _find_online(self) -> None:
        """End items whose account came online by another way: a code that was skipped, recovery, another person."""
        came = self.run.items.exclude(state__in=ENDED).filter(
            account__state=AccountState.ONLINE, account__last_login_at__gte=self.run.created_at
        )
        for item in came.exclude(attempt__state=AttemptState.SUCCEEDED, state=ScanState.SHOWN):
            self._end(item, ScanState.DONE)

    # --- what has ended -------------------------------------------------------------------------------------

    def _settle(self, item: ScanRunItem, is_seen: bool) -> None:
        attempt = item.attempt
        if attempt is not None and attempt.state == AttemptState.SUCCEEDED:
            self._end(item, ScanState.DONE)
        elif not is_seen:
            claims.withdraw(item)
            claims.put_back(item)
        elif attempt is None:
            if self.run.paused_at is None:
                self.request(item)
        elif attempt.is_open:
            if item.state == ScanState.READY:
                self._keep_fresh(item)
        elif item.state == ScanState.READY:
            self._settle_ready(item, attempt)
        else:
            self._settle_shown(item, attempt)

    def _settle_ready(self, item: ScanRunItem, attempt: LoginAttempt) -> None:
        if attempt.state != AttemptState.FAILED or attempt.reason in SHARED_REASONS:
            claims.forget_attempt(item)
            claims.put_back(item)
        else:
            self._end(item, ScanState.FAILED, attempt.reason)

    def _settle_shown(self, item: ScanRunItem, attempt: LoginAttempt) -> None:
        if attempt.reason == Reason.WRONG_ACCOUNT or self.run.paused_at is not None:
            return
        if attempt.reason in SHARED_REASONS and not self._others_wait(item):
            self.pause(attempt.reason)
        elif attempt.method == Method.POPUP:
            self.request(item)
        elif attempt.state != AttemptState.EXPIRED:
            self._end(item, ScanState.FAILED, attempt.reason)
        elif item.renewals >= RENEWALS:
            self._end(item, ScanState.SKIPPED, attempt.reason)
        else:
            self.request(item, renewals=item.renewals + 1)

    def _others_wait(self, item: ScanRunItem) -> bool:
        """Return whether another QR code of the run is on the screen: then WKTeam does answer."""
        others = self.run.items.filter(state=ScanState.SHOWN, attempt__state=AttemptState.WAITING)
        return others.exclude(pk=item.pk).exists()

    def _keep_fresh(self, item: ScanRunItem) -> None:
        """Replace a QR code that gets too old before it is shown."""
        shown_at = item.attempt.qr_shown_at
        if shown_at is None or not claims.is_own(item, item.attempt):
            return
        if self.now < shown_at + REPLACED_AFTER:
            self.look_at(shown_at + REPLACED_AFTER)
            return
        claims.withdraw(item)
        if item.attempt is None and item.fetched_ahead < AHEAD_MOST and self.run.paused_at is None:
            self.request(item, fetched_ahead=item.fetched_ahead + 1)
        elif item.attempt is None:
            claims.put_back(item)

    def _end(self, item: ScanRunItem, to: str, reason: str = "") -> None:
        if item.move(to, reason=reason, ended_at=self.now) and not self.run.automatic_next:
            self.set_run(next_wanted=self.is_wall)

    # --- what comes next ------------------------------------------------------------------------------------

    def _fill(self) -> bool:
        """Show the next accounts in the places that are free; return whether one was shown.

        The page that gets one looks again right after, and only then is another QR code requested ahead.
        """
        if not (self.run.automatic_next or self.run.next_wanted):
            return False
        taken = set(self.run.items.filter(state=ScanState.SHOWN).values_list("slot", flat=True))
        resting = self._places_at_rest() if self.is_wall else set()
        filled = False
        for slot in range(self.places):
            if slot not in taken | resting:
                if not self._show_next(slot):
                    break
                filled = True
        if filled:
            self.look_in = LOOK_AT_ONCE
        return filled

    def _places_at_rest(self) -> set[int]:
        """Return the tiles that still show how their login ended."""
        ended = self.run.items.ended().filter(ended_at__gt=self.now - SHOWS_END, shown_at__isnull=False)
        places = dict(ended.values_list("slot", "ended_at"))
        for ended_at in places.values():
            self.look_at(ended_at + SHOWS_END)
        return set(places)

    def _show_next(self, slot: int) -> bool:
        item = claims.show_next(self.run, slot, shown_at=self.now)
        if item is None:
            return False
        item.run = self.run
        self.set_run(next_wanted=False)
        self.make_fresh(item)
        return True

    def make_fresh(self, item: ScanRunItem) -> None:
        """Request the QR code of an item that is shown now, unless it has one that is not too old."""
        attempt = item.attempt
        shown_at = attempt.qr_shown_at if attempt is not None and claims.is_own(item, attempt) else None
        if shown_at is not None and self.now - shown_at > FRESH:
            claims.withdraw(item)
        if item.attempt is None or not item.attempt.is_open:
            self.request(item)

    def _fetch_ahead(self) -> None:
        """Request the next account's QR code, as late as the usual time to scan allows."""
        shown = self.run.items.filter(state=ScanState.SHOWN).with_attempt().order_by("shown_at").first()
        if shown is None or shown.attempt is None or shown.attempt.qr_shown_at is None:
            if shown is not None:
                self.look_in = min(self.look_in, LOOK_SOON)
            return
        due = max(shown.shown_at, shown.attempt.qr_shown_at) + self._usual_wait()
        if self.now < due and shown.attempt.state not in _CONFIRMING:
            self.look_at(due)
            return
        waiting = claims.claim_ahead(self.run, AHEAD_MOST)
        if waiting is not None:
            waiting.run = self.run
            self.request(waiting, fetched_ahead=waiting.fetched_ahead + 1)

    def _usual_wait(self) -> timedelta:
        """Return how long after a QR code is shown the next one is requested: the quickest tenth, less LEAD."""
        mine = ScanRunItem.objects.filter(run__person=self.run.person_id, state=ScanState.DONE)
        times = (
            mine.filter(shown_at__isnull=False).order_by("-id").values_list("shown_at", "ended_at")[:USUAL_OF]
        )
        seconds = sorted(ended_at - shown_at for shown_at, ended_at in times)
        return max(timedelta(), seconds[len(seconds) // 10] - LEAD) if seconds else timedelta()

    def request(self, item: ScanRunItem, **changes) -> None:
        """Request a QR code for a claimed item, or take the account's attempt in progress."""
        attempt, created = start.start_login(item.account, by=self.run.person, queued=True)
        ScanRunItem.objects.filter(pk=item.pk).update(attempt=attempt, **changes)
        item.attempt = attempt
        for name, value in changes.items():
            setattr(item, name, value)
        self.look_in = min(self.look_in, LOOK_SOON)
        if created:
            self.started.append(attempt.pk)

    # --- the run itself -------------------------------------------------------------------------------------

    def set_run(self, **changes) -> None:
        ScanRun.objects.filter(pk=self.run.pk).update(**changes)
        for name, value in changes.items():
            setattr(self.run, name, value)

    def pause(self, reason: str = "") -> None:
        """Pause the run and put its QR codes away, so that they do not age."""
        self.set_run(paused_at=self.now, pause_reason=reason)
        for item in self._claimed():  # on whichever places
            claims.withdraw(item)
            if item.state == ScanState.READY:
                claims.put_back(item)
