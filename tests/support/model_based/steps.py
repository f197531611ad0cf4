"""The steps of tests/logins/test_any_order.py: what people, phones, workers and the upstream do, one at a time.

Each is a function of what there is at the moment, and a short sequence of them can be written down as a test.
"""

from accounts.bootsteps import CALM_SECONDS
from accounts.logins import control, expire, leases, start, wait
from accounts.models import Account, LoginAttempt
from accounts.models.login_attempt import SWEPT_AFTER
from accounts.states import OPEN_STATES, AccountState, AttemptState, Trigger
from accounts.upstream import errors
from accounts.upstream.responses import Ending, LoggedIn, NotLoggedIn
from tests.support.model_based.rules import Broken, Rules
from tests.support.model_based.upstream import VERIFICATION_CODE, Call
from tests.support.model_based.world import (
    CLAIM_TROUBLE,
    DIES_AFTER,
    DIES_BEFORE,
    Lost,
    Pause,
    Process,
    Task,
    World,
    forget_all,
)

PEOPLE = ["wxid_ann", "wxid_bob", "wxid_cat", "wxid_dan"]
BREAKS = {
    "the connection broke": errors.OutcomeUnknown("the connection broke"),
    "a gateway's page": errors.BadAnswer("no JSON (HTTP 502, 20 bytes)"),
    "no connection": errors.Unreachable("the connection was refused"),
    "refused": errors.Refused("失败", "1002"),
    "sign-in refused": errors.SignInRefused("HTTP 401", "401"),
}
LOST = "the connection broke"
# A prompt that was refused, or did not leave, is on no phone.
NEVER_SENT = ("no connection", "refused", "sign-in refused")
TROUBLES = (
    "rolled back",
    "committed, and the answer lost",
    "killed right after",
    "the process dies right after",
)


class Steps:
    """One story: its world, its books, and what happened so far, in words."""

    def __init__(self, world: World):
        world.begin_anew()
        forget_all()
        self.world, self.rules = world, Rules(world)
        self.story: list[str] = []
        self.pages: dict[int, LoginAttempt] = {}
        self.messages: list[int] = []
        self.proxy = 0
        for label, wc_id in (("Ann", PEOPLE[0]), ("Bob", PEOPLE[1]), ("First", None)):
            state = AccountState.OFFLINE if wc_id else AccountState.NEW
            Account.objects.create(label=label, wc_id=wc_id, state=state)
        self.rules.check()

    def log(self, words: str) -> None:
        self.story.append(words)

    # --- what there is

    def accounts(self) -> list[int]:
        return [pk for pk, row in self.rules.accounts.items() if row["merged_into_id"] is None]

    def attempts(self, *states: str) -> list[int]:
        """The newest first, as everywhere here."""
        rows = reversed(self.rules.attempts.values())
        return [row["id"] for row in rows if not states or row["state"] in states]

    def open(self) -> list[int]:
        return self.attempts(*OPEN_STATES)

    def without_attempt(self) -> list[int]:
        busy = {row["account_id"] for row in self.rules.open()}
        return [pk for pk in self.accounts() if pk not in busy]

    def asked(self) -> list[int]:
        return self.attempts(AttemptState.CODE_REQUIRED, AttemptState.PAGE_REQUIRED)

    def shown(self) -> list[str]:
        """wIds whose code a person has seen, and whose phone can still do something."""
        seen = {row["w_id"] for row in self.rules.attempts.values()}
        codes = reversed(self.world.upstream.codes.values())
        return [code.w_id for code in codes if code.is_open and code.w_id in seen]

    def prompts(self) -> list[str]:
        """wIds that a tap would bring: of prompts that are on phones."""
        codes = reversed(self.world.upstream.codes.values())
        return [code.w_id for code in codes if code.is_open and code.is_prompt]

    def tasks(self) -> list[Task]:
        return self.world.tasks[::-1]

    def answers(self) -> list[Task]:
        """Those for whom an answer has left the upstream."""
        calls = [task for task in self.world.tasks if isinstance(task.pending, Call)]
        return [task for task in calls if task.pending.wire is not None]

    def worker(self, name: str) -> Process:
        return self.world.workers[name]

    def page(self, attempt_id: int, old: bool = False) -> LoginAttempt:
        """The attempt as a request has read it: just now, or `old`, a while before."""
        if not (old and attempt_id in self.pages):
            self.pages[attempt_id] = LoginAttempt.objects.light().select_related("account").get(pk=attempt_id)
        return self.pages[attempt_id]

    def row(self, w_id: str) -> dict:
        """The attempt that this code or prompt is of."""
        return self.rules.attempts[self.world.upstream.codes[w_id].attempt]

    # --- people

    def add_account(self) -> None:
        self.log("an account is added")
        Account.objects.create(label="Another")

    def type_wc_id(self, account_id: int, wc_id: str) -> None:
        if not Account.objects.filter(wc_id=wc_id).exists():
            self.log(f"somebody types {wc_id} for account {account_id}")
            Account.objects.filter(pk=account_id, wc_id=None, merged_into=None).update(wc_id=wc_id)

    def begin(
        self, account_id: int, queued: bool = False, code: bool = True, worker: str = "", **how
    ) -> None:
        """A login is asked for. `code`: it comes at once. `worker`: that one has the message at once; `how` as there."""
        account, self.rules.unasked = Account.objects.get(pk=account_id), True
        self.proxy += 1
        trigger = Trigger.BULK if queued else Trigger.OPERATOR
        attempt, begun = start.start_login(account, proxy=self.proxy, queued=queued, trigger=trigger)
        words = (", for the queue" if queued else "") + ("" if begun else ", begun before")
        self.log(f"attempt {attempt.pk} of account {account_id}{words}")
        self.is_its_open_one(attempt, account_id)
        if begun and queued:
            self.messages.insert(0, attempt.pk)
        elif begun:
            task = self.world.start(self.world.web, f"the code of {attempt.pk}", start.fetch_qr_code, attempt)
            if code:
                self.code_comes(task)
        if begun and worker:
            self.message(self.worker(worker), attempt.pk, **how)

    def is_its_open_one(self, attempt: LoginAttempt, account_id: int) -> None:
        if not attempt.is_open or attempt.account_id != account_id:
            raise Broken(f"account {account_id} was shown attempt {attempt.pk}")

    def cancel(self, attempt_id: int, old: bool = False) -> None:
        self.log(f"attempt {attempt_id} is cancelled")
        control.cancel(self.page(attempt_id, old))
        if LoginAttempt.objects.open().filter(pk=attempt_id).exists():
            raise Broken(f"attempt {attempt_id} was cancelled, and is open")

    def open_page(self, account_id: int) -> None:
        self.log(f"somebody opens the page of account {account_id}")
        self.rules.unasked = True
        expire.expire_on_read(Account.objects.get(pk=account_id))
        self.rules.check()
        self.rules.all_ended(account_id)

    def type_verification_code(
        self, attempt_id: int, typed: str = VERIFICATION_CODE, old: bool = False
    ) -> None:
        """Or say that the check on the page is passed, where that was asked for."""
        attempt = self.page(attempt_id, old)
        if attempt.state == AttemptState.PAGE_REQUIRED:
            again, typed = control.page_visited(attempt), "the check"
        else:
            again = control.submit_verification_code(attempt, typed)
            if again:
                self.world.upstream.unsent_verification_codes.add(attempt.w_id)
                self.world.upstream.typed[attempt.w_id] += 1
        self.log(f"{typed} for attempt {attempt_id}" + ("" if again else ", which nobody wants"))
        if again:
            self.messages.insert(0, attempt_id)

    def phone(self, w_id: str, does: str = "online", who: str = "", heard: bool = True) -> None:
        """Somebody does that with a code or a prompt. `heard`: the wait for it has the answer at once."""
        code, attempt = self.world.upstream.codes[w_id], self.row(w_id)
        if code.state == "code required" and does == "online":
            return  # it needs its verification code first
        who = code.who or who or self.rules.accounts[attempt["account_id"]]["wc_id"] or PEOPLE[2]
        what = "prompt" if code.is_prompt else "code"
        self.log(f"the phone of {who}, with the {what} {w_id} of attempt {attempt['id']}: {does}")
        self.world.upstream.phone(w_id, does, who)
        for task in [task for task in self.answers() if heard and task.pending.w_id == w_id]:
            self.answer(task)

    # --- the upstream, and what waits for it

    def upstream_is(self, lists: bool, tells_w_id: bool) -> None:
        self.log(
            f"the upstream lists {'all' if lists else 'nobody'}, {'with' if tells_w_id else 'without'} wIds"
        )
        self.world.upstream.says_who_is_online, self.world.upstream.tells_w_id = lists, tells_w_id

    def code_comes(self, task: Task, error: Exception | None = None) -> None:
        self.world.go_on(task, error)
        if task.result is True and task.process is self.world.web:
            self.messages.insert(0, task.args[0].pk)

    def answer(self, task: Task, trouble: str = "") -> None:
        self.log(f"{task.name}: {task.pending.wire}" + (f" ({trouble})" if trouble else ""))
        self.world.trouble = trouble
        self.world.go_on(task, task.pending.wire)
        self.world.trouble = ""
        if trouble == "the process dies right after":
            self.world.die(task.process)

    def answers_together(self, process: Process, trouble: str = "") -> None:
        """All that has left the upstream for this process arrives at one moment."""
        tasks = [task for task in self.answers() if task.process is process]
        if tasks:
            words = ", ".join(f"{task.name}: {task.pending.wire}" for task in tasks)
            self.log(f"at once {words}" + (f" ({trouble})" if trouble else ""))
            self.world.write_together(tasks, trouble)

    def go_on(self, task: Task, how: str = "") -> None:
        """The task has what it waits for, or an error, or trouble when it writes that down."""
        call = task.pending if isinstance(task.pending, Call) else None
        if how == "kill":
            self.log(f"{task.name}: this greenlet is killed")
            self.world.kill(task)
        elif not task.started:
            self.begins(task)
        elif call is None or (call.cut and call.wire is None):
            self.log(f"{task.name} goes on")
            self.rest_is_over(task)
        elif call.path == "/iPadLogin":
            self.log(f"{task.name}: {how if how in BREAKS else 'the code comes'}")
            self.code_comes(task, BREAKS.get(how))
        elif how in BREAKS:
            self.breaks(task, how)
        elif call.wire is not None:
            self.answer(task, how)
        elif call.path == "/getIPadLoginInfo" and self.row(call.w_id)["lease_epoch"] > 1:
            # The upstream may hold the call of who waited before.
            self.log(f"{task.name}: not twice at once")
            self.world.go_on(task, NotLoggedIn(Ending.REFUSED, "1001", "请勿重复请求"))

    def breaks(self, task: Task, how: str) -> None:
        code = self.world.upstream.codes[task.pending.w_id]
        if code.is_prompt and how in NEVER_SENT:
            # Where the phone has done something with it, it was there.
            code.state, how = ("never", how) if code.is_open else (code.state, LOST)
        self.log(f"{task.name}: {how}")
        self.world.go_on(task, BREAKS[how])

    def begins(self, task: Task, trouble: str = "") -> None:
        """A wait whose lease was taken begins; with `trouble` when it notes that it sends a prompt."""
        self.log(f"{task.name} begins {trouble}")
        self.world.trouble = trouble
        self.world.go_on(task)
        self.trouble_is_over(task.process, trouble)

    def trouble_is_over(self, process: Process, trouble: str) -> None:
        met, self.world.trouble = self.world.trouble != trouble, ""
        if met and trouble in (DIES_BEFORE, DIES_AFTER):
            self.world.die(process)

    def rest_is_over(self, task: Task) -> None:
        if isinstance(task.pending, Call):
            self.world.go_on(task, errors.OutcomeUnknown("the connection broke"))
            return
        if isinstance(task.pending, Pause):
            self.world.clock.at = max(self.world.clock.at, task.pending.until)
        self.world.go_on(task)

    # --- processes

    def message(
        self, process: Process, attempt_id: int, code: bool = True, trouble: str = "", at_once: bool = True
    ) -> None:
        """`code`: where it has to be asked for, it comes at once. Not `at_once`: the process stands still after it has
        taken the wait.
        """
        if process.silent:
            return
        words = f"{process.name} gets a message for attempt {attempt_id}"
        self.log(words + (f" ({trouble})" if trouble else "") + ("" if at_once else ", and takes it only"))
        self.world.trouble = trouble
        name = f"{process.name} for attempt {attempt_id}"
        if not at_once:
            self.takes(process, name, attempt_id)
            self.trouble_is_over(process, trouble)
            return
        task = self.world.start(process, name, wait.wait_for_phone, attempt_id)
        self.trouble_is_over(process, trouble)
        if isinstance(task.pending, Call) and task.pending.path == "/iPadLogin" and code:
            self.code_comes(task)

    def takes(self, process: Process, name: str, attempt_id: int) -> None:
        with self.world.inside(process):
            try:
                lease = leases.take(attempt_id)
            except Lost:
                return
        if lease is not None:
            self.world.put(process, name, wait.wait_with_lease, lease)

    def messages_together(self, process: Process, attempt_ids: list[int]) -> None:
        """They arrive at one moment, one maybe twice, and are claimed in one batch."""
        if process.silent:
            return
        with self.world.inside(process):
            found = [lease for lease in leases._take(attempt_ids) if lease is not None]
        self.log(
            f"{process.name} gets messages for {attempt_ids}, takes {[lease.attempt.pk for lease in found]}"
        )
        for lease in found:
            name = f"{process.name} for attempt {lease.attempt.pk}"
            self.world.start(process, name, wait.wait_with_lease, lease)

    def poll(self, process: Process, at_once: bool = True, trouble: str = "") -> None:
        """What a waits worker does every two seconds. `at_once`: what it finds runs right away."""
        if process.silent:
            return
        self.world.trouble = trouble
        with self.world.inside(process):
            try:
                found = process.rescuer.poll()
            except Lost:
                process.rescuer.trouble_at, found = self.world.clock.monotonic(), []
            expire.end_overdue()  # somebody's
            slots, held = leases._holder.free_slots, list(leases._holder.held)
            # What it still holds and has lost is free when its call has ended.
            left = LoginAttempt.objects.unattended(self.world.clock.now()).exclude(pk__in=held)
            if self.world.clock.monotonic() - process.rescuer.trouble_at <= CALM_SECONDS:
                left = left.filter(lease_owner="")
            left = [] if trouble == CLAIM_TROUBLE else set(left.values_list("pk", flat=True))
        self.world.trouble = ""
        self.log(
            f"{process.name} polls for waits, and claims {[lease.attempt.pk for lease in found]} {trouble}"
        )
        tasks = [
            self.world.put(
                process, f"{process.name} for attempt {lease.attempt.pk}", wait.wait_with_lease, lease
            )
            for lease in found
        ]
        self.rules.check()
        self.rules.all_ended(None, SWEPT_AFTER)
        if left and slots > 0:
            raise Broken(f"{left} were left although {process.name} has slots for them")
        for task in tasks if at_once else ():
            if task in self.world.tasks:
                self.begins(task, trouble)

    def silence(self, process: Process) -> None:
        self.log(f"{process.name} is silent from now on")
        process.silent = True

    def renew(self, process: Process) -> None:
        self.log(f"{process.name} says that it lives")
        self.world.renew(process)

    def die(self, process: Process) -> None:
        self.log(f"{process.name} dies")
        self.world.die(process)

    def time_passes(self, seconds: float) -> None:
        self.log(f"{seconds} s pass")
        self.world.pass_time(seconds)

    # --- while the upstream is asked who is online

    def meanwhile(self, what: str) -> None:
        """What happens while the upstream is asked next who is online."""
        steps = {"cancel": self.all_are_cancelled, "phone": self.one_scans, "answer": self.successes_come}
        self.world.meanwhile = steps.get(what)

    def all_are_cancelled(self) -> None:
        for attempt in LoginAttempt.objects.open():
            self.log(f"meanwhile attempt {attempt.pk} is cancelled")
            control.cancel(attempt)

    def one_scans(self) -> None:
        for w_id in (self.prompts() or self.shown())[:1]:
            self.phone(w_id, heard=False)

    def successes_come(self) -> None:
        for task in self.answers():
            call = task.pending
            # A prompt's without its wId would have to ask who is online.
            logged_in = isinstance(call.wire, LoggedIn) and (
                call.path != "/secondLogin" or call.wire.profile.w_id
            )
            if logged_in:
                self.answer(task)

    # --- the end

    def come_to_rest(self) -> None:
        """Nobody does anything any more: all that waits has its answer, or its time is up, and nothing is left."""
        self.log("all comes to rest")
        for process in self.world.workers.values():
            self.world.renew(process)
        for _round in range(10):
            for task in self.tasks():
                if not isinstance(task.pending, Call) or task.pending.cut:
                    self.rest_is_over(task)
        self.world.pass_time(31 * 60)
        for process in self.world.workers.values():
            with self.world.inside(process):
                expire.end_overdue()
            self.world.renew(process)
        self.world.pass_time(60)
        self.rules.check()
        self.rules.nothing_is_left()
