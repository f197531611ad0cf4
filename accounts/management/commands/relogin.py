"""Logs accounts in again from a terminal or a script."""

import io
import json
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import segno
from django.core.management.base import BaseCommand, CommandError
from django.db.models import QuerySet

from accounts.lib import db_clock, typed_text
from accounts.logins import expire, start
from accounts.models import Account, LoginAttempt, Tag
from accounts.models.audit import shown
from accounts.models.audit.entry import AuditKind
from accounts.reasons import Reason, advice
from accounts.relogin import recover
from accounts.states import AccountState, AttemptState, Method, NextStep, Trigger
from accounts.tasks import put_into_queue, wait_for_phone

ALL_ONLINE, SOME_NOT, NOBODY, INTERRUPTED = 0, 1, 2, 130
POLL_SECONDS = 0.5
# Seconds between retries of a prompt that must wait (no free worker, or the limit per minute), and in total.
TRY_SECONDS, TRIED_SECONDS = 5, 600
REPORT_SECONDS = 15
# Without --wait: how many seconds to wait for a QR code to draw.
CODE_SECONDS = 20
CANDIDATES = 10
# Full blocks are the light modules of a QR code: white in every terminal, also one with dark text on white.
WHITE_ON_BLACK, AS_BEFORE = "\x1b[97;40m", "\x1b[0m"
WHY_NOT = {
    NextStep.CAP: "its 24-hour prompt limit is reached",
    NextStep.HOURS: "it is outside its prompt hours",
    NextStep.BACK_OFF: "the limit of prompts per minute is reached",
    NextStep.WAITING: "no worker has a free slot",
    NextStep.SEATS: "the developer account has no free seat",
    NextStep.NOTHING: "it cannot be prompted: it is paused, or never logged in",
}
DO = {
    AttemptState.CODE_REQUIRED: "verification code required: enter the one shown on the phone, on the page of this login",
    AttemptState.PAGE_REQUIRED: "verification page required: open the page of this login",
}


class Command(BaseCommand):
    help = (
        "Logs accounts in again. Exit codes: 0: all are online (without --wait: or their login was started); 1: some "
        "are not; 2: no account found, or more than one with that label; 130: interrupted by Ctrl-C, the login in "
        "progress continues."
    )

    def add_arguments(self, parser) -> None:
        parser.add_argument("account", nargs="*", help="its wcId, its label, or its ID, as id:12")
        parser.add_argument("--due", action="store_true", help="all whose scheduled re-login is due")
        parser.add_argument("--tag", help="all with this tag that are kept online and are not online")
        parser.add_argument(
            "--method",
            choices=[Method.QR.value, Method.POPUP.value],
            help="qr: QR code; popup: phone prompt. Default: qr for one account, popup for several",
        )
        parser.add_argument(
            "--wait", action="store_true", help="wait for the phones; QR codes one after the other"
        )
        parser.add_argument(
            "--json", action="store_true", help="one JSON object per line; the last one is the summary"
        )
        parser.add_argument(
            "--force", action="store_true", help="also accounts that are online: they get a new wId"
        )

    def handle(self, **options) -> None:
        self.json = options["json"]
        accounts = chosen(options)
        method = options["method"] or (Method.QR if len(accounts) == 1 else Method.POPUP)
        logins = [Login(account, method, self.report) for account in accounts]
        if not options["due"] and not options["force"]:
            for each in logins:
                each.skip_if_online()
        signal.signal(signal.SIGINT, interrupt)
        try:
            follow(logins, options["wait"])
        except KeyboardInterrupt:
            self.interrupted(logins)
        left = [each for each in logins if not each.succeeded(options["wait"])]
        self.report("end", f"{len(logins) - len(left)} of {len(logins)} succeeded.", online=not left,
                  accounts=[each.document() for each in logins])  # fmt: skip
        sys.exit(SOME_NOT if left else ALL_ONLINE)

    def report(self, event: str, text: str, **facts) -> None:
        """Print one line for people, or one JSON object {event, text, …} for programs."""
        about = {"event": event, "text": text.partition("\n")[0], **facts}
        line = json.dumps(about, ensure_ascii=False) if self.json else text
        self.stdout.write(line)
        self.stdout.flush()

    def interrupted(self, logins: list["Login"]) -> None:
        open_ones = [each.attempt for each in logins if each.attempt is not None and not each.over]
        goes_on = ", ".join(f"#{attempt.pk} (/attempts/{attempt.pk}/)" for attempt in open_ones)
        said = (
            f"Interrupted. Not cancelled, still in progress: {goes_on}."
            if open_ones
            else "Interrupted. No login is in progress."
        )
        self.report("interrupted", said, attempts=[attempt.pk for attempt in open_ones])
        sys.exit(INTERRUPTED)


# Python drops an interrupt that arrives while it finalizes an object. The next `pause` sees it here.
interrupted = threading.Event()


def interrupt(_signal: int, _frame: object) -> None:
    interrupted.set()
    raise KeyboardInterrupt


def pause() -> None:
    if interrupted.wait(POLL_SECONDS):
        raise KeyboardInterrupt


# --- the accounts --------------------------------------------------------------------------------------


def chosen(options: dict) -> list[Account]:
    names, tag = options["account"], options["tag"] and typed_text.line(options["tag"])
    if bool(names) + options["due"] + (tag is not None) != 1:
        raise CommandError("Name accounts, or give --due, or --tag.", returncode=NOBODY)
    if names:
        return list(dict.fromkeys(named(name) for name in names))
    wanted = Account.objects.kept().filter(keep_online=True).order_by("label_key", "pk")
    if options["due"]:
        return list(wanted.filter(relogin_at__lte=db_clock.now()).order_by("relogin_at", "pk"))
    if not Tag.objects.filter(name=tag).exists():
        raise CommandError(f"There is no tag “{tag}”.", returncode=NOBODY)
    return list(wanted.filter(tags__name=tag).exclude(state=AccountState.ONLINE))


def named(name: str) -> Account:
    accounts, name = Account.objects.kept(), typed_text.line(name)
    kind, _, digits = name.partition(":")
    if kind == "id" and typed_text.is_key(digits):
        found = accounts.filter(pk=int(digits))
    else:
        found = accounts.filter(wc_id=typed_text.code(name))
        if not found:
            found = accounts.filter(label__iexact=name)
    if len(found) == 1:
        return found[0]
    if found:
        many = f"{len(found)} accounts have the label “{name}”. Give the wcId or ID of one of them: {listed(found)}."
        raise CommandError(many, returncode=NOBODY)
    near = accounts.matching(name).order_by("label_key", "pk") if name.strip() else accounts.none()
    hint = f" Similar ones: {listed(near)}." if near[:1] else ""
    raise CommandError(f"No account has the wcId, label or ID “{name}”.{hint}", returncode=NOBODY)


def listed(accounts: QuerySet) -> str:
    rows = list(accounts[: CANDIDATES + 1])
    names = [f"id:{row.pk} {row.label} ({row.wc_id or 'no wcId yet'})" for row in rows[:CANDIDATES]]
    return ", ".join([*names, "…"] if len(rows) > CANDIDATES else names)


# --- one login -----------------------------------------------------------------------------------------


@dataclass
class Login:
    account: Account
    method: str
    report: Callable[..., None]
    attempt: LoginAttempt | None = None
    over: bool = False
    why_not: str = ""
    drawn: bool = False
    reported_state: str = ""
    reported_at: float = 0.0
    first_tried: float = 0.0
    last_tried: float = 0.0

    @property
    def name(self) -> str:
        return self.account.display_name

    @property
    def has_code(self) -> bool:
        return self.attempt.method == Method.QR and self.attempt.state == AttemptState.WAITING

    def skip_if_online(self) -> None:
        if self.account.state == AccountState.ONLINE:
            self.over = True
            self.say("online", "is already online; --force logs it in again", wId=self.account.w_id)

    def say(self, event: str, words: str, **facts) -> None:
        ids = {"account": self.account.pk, "attempt": self.attempt.pk if self.attempt else None}
        self.report(event, f"{self.name}: {words}", **ids, wcId=self.account.wc_id, **facts)

    def begin(self) -> bool:
        """Start the login or return to the one in progress. Returns False if a retry later may succeed.

        Returns True with `attempt` None if it cannot be started; `why_not` then holds the reason.
        """
        if self.method == Method.QR:
            self.attempt, new = start.start_login(self.account, trigger=Trigger.API, queued=True)
        else:
            self.attempt, step = recover.start_prompt(self.account, trigger=Trigger.API)
            new, found = True, self.account.open_attempt
            if self.attempt is None and found is not None:
                self.attempt, new = found, False
            if self.attempt is None:
                self.why_not = WHY_NOT[step]
                return step not in (NextStep.BACK_OFF, NextStep.WAITING)
        self.why_not = ""
        if new:
            put_into_queue(wait_for_phone, self.attempt.pk)
        self.say("begun", f"login #{self.attempt.pk} {'started' if new else 'already in progress'}", new=new)
        return True

    def try_to_begin(self) -> None:
        now = time.monotonic()
        if now - self.last_tried < TRY_SECONDS:
            return
        first, self.last_tried = not self.first_tried, now
        self.first_tried = self.first_tried or now
        if self.begin():
            if self.attempt is None:
                self.give_up()
        elif now - self.first_tried > TRIED_SECONDS:
            self.give_up()
        elif first:
            self.say("not_yet", f"not yet: {self.why_not}")

    def give_up(self) -> None:
        self.over = True
        self.say("not_begun", f"not started: {self.why_not}")

    def poll(self) -> None:
        """Read the attempt again and print what is new."""
        expire.expire_on_read(self.account)
        self.attempt = LoginAttempt.objects.select_related("account").get(pk=self.attempt.pk)
        if not self.attempt.is_open:
            self.over = True
            self.end()
        elif self.has_code and not self.drawn:
            self.draw()
        elif self.attempt.state in DO and self.attempt.state != self.reported_state:
            self.say(self.attempt.state, f"{DO[self.attempt.state]} (/attempts/{self.attempt.pk}/)")
        elif (
            time.monotonic() - self.reported_at > REPORT_SECONDS
            and self.attempt.state == AttemptState.WAITING
        ):
            self.reported_at = time.monotonic()
            left = int(self.attempt.seconds_left(db_clock.now()))
            self.say("waiting", f"waiting for the phone, {left} s left", seconds_left=left)
        self.reported_state = self.attempt.state

    def draw(self) -> None:
        self.drawn, self.reported_at = True, time.monotonic()
        left = int(self.attempt.seconds_left(db_clock.now()))
        text = self.attempt.qr_text
        shown.record(self.attempt, AuditKind.CODE_SHOWN)
        code = (
            f"\n{in_terminal(text)}"
            if text
            else f" on the page /attempts/{self.attempt.pk}/ (it cannot be shown here)"
        )
        facts = {"qr_text": text, "seconds_left": left}
        if self.account.wc_id:
            self.say("code", f"scan with the phone of {self.account.wc_id} within {left} s:{code}", **facts)
        else:
            self.say("code", f"scan with its phone within {left} s:{code}", **facts)

    def end(self) -> None:
        attempt = self.attempt
        self.account.refresh_from_db()
        if attempt.state == AttemptState.SUCCEEDED:
            self.say("online", f"online, wId {self.account.w_id}", wId=self.account.w_id)
            return
        why = Reason(attempt.reason).label if attempt.reason else attempt.get_state_display()
        words = f" ({attempt.upstream_text})" if attempt.upstream_text else ""
        self.say(attempt.state, f"{why}{words} {advice(attempt.reason)}".strip(), reason=attempt.reason)

    def succeeded(self, waited: bool) -> bool:
        if self.attempt is None:
            return self.account.state == AccountState.ONLINE and not self.why_not
        return self.attempt.state == AttemptState.SUCCEEDED or (not waited and self.attempt.is_open)

    def document(self) -> dict:
        attempt = self.attempt
        return {
            "account": self.account.pk,
            "label": self.account.label,
            "wcId": self.account.wc_id,
            "wId": self.account.w_id,
            "state": self.account.state,
            "attempt": attempt.pk if attempt else None,
            "attempt_state": attempt.state if attempt else "",
            "reason": attempt.reason if attempt else "",
            "why_not": self.why_not,
        }


def in_terminal(text: str) -> str:
    """Return a QR code for a terminal: dark on light in any color scheme, with its quiet zone."""
    drawn = io.StringIO()
    segno.make_qr(text, error="l").terminal(out=drawn, compact=True)
    return "\n".join(f"{WHITE_ON_BLACK}{line}{AS_BEFORE}" for line in drawn.getvalue().splitlines() if line)


# --- all of them ---------------------------------------------------------------------------------------


def follow(logins: list[Login], wait: bool) -> None:
    """Start each login.

    With `wait`, follow them to their end: prompts in parallel, QR codes one after the other.
    """
    todo = [each for each in logins if not each.over]
    if not wait:
        for each in todo:
            if not each.begin() or each.attempt is None:
                each.give_up()
        if len(todo) == 1 and todo[0].attempt is not None and todo[0].method == Method.QR:
            until_drawn(todo[0])
        return
    for batch in [[each] for each in todo] if todo and todo[0].method == Method.QR else [todo]:
        see_through(batch)


def see_through(logins: list[Login]) -> None:
    while left := [each for each in logins if not each.over]:
        for each in left:
            if each.attempt is not None:
                each.poll()
            else:
                each.try_to_begin()
        pause()


def until_drawn(each: Login) -> None:
    until = time.monotonic() + CODE_SECONDS
    while not (each.drawn or each.over) and time.monotonic() < until:
        each.poll()
        pause()
