"""Prompts, and what would be rare in tests/logins/test_any_order.py if only chance made it: waits that are taken over, answers
that are late, logins that are begun again.
"""

from accounts.logins import start
from accounts.models import Account
from accounts.states import FINAL_STATES, Method, Trigger
from tests.support.model_based.steps import Steps
from tests.support.model_based.world import Process, Task


class Stories(Steps):
    # --- what there is

    def with_wc_id(self) -> list[int]:
        """Accounts that a prompt can be for."""
        return [pk for pk in self.accounts() if self.rules.accounts[pk]["wc_id"]]

    def late(self) -> list[str]:
        """Of codes and prompts that are still on phones: those of logins that have ended here, and are listened to."""
        heard = {call.w_id for call in self.world.calls() if not call.cut}
        on_phones = [w_id for w_id in self.prompts() + self.shown() if w_id in heard]
        return [w_id for w_id in on_phones if self.row(w_id)["state"] in FINAL_STATES]

    def attended(self) -> list[Task]:
        """Waits of workers that live."""
        workers = [process for process in self.world.workers.values() if not process.silent]
        return [task for task in self.tasks() if task.process in workers]

    def ready(self) -> list[Task]:
        """Those that can go on without a phone."""
        listens = self.world.listening()
        return [task for task in self.tasks() if task not in listens or task.pending.wire or task.pending.cut]

    # --- steps

    def prompt(self, account_id: int, worker: str = "", by_itself: bool = False, **how) -> None:
        """A prompt is asked for, by a person or by recovery. `worker`: that one has the message at once; `how` as for
        `message`.
        """
        account, self.rules.unasked = Account.objects.get(pk=account_id), True
        trigger = Trigger.RECOVERY if by_itself else Trigger.OPERATOR
        attempt, begun = start.start_login(account, method=Method.POPUP, queued=True, trigger=trigger)
        self.log(f"prompt {attempt.pk} for account {account_id}" + ("" if begun else ", begun before"))
        self.is_its_open_one(attempt, account_id)
        if begun:
            self.messages.insert(0, attempt.pk)
        if begun and worker:
            self.message(self.worker(worker), attempt.pk, **how)

    def wanted(self, account_id: int, online: bool) -> None:
        self.log(f"account {account_id} is {'kept online' if online else 'paused'}")
        Account.objects.filter(pk=account_id).update(keep_online=online)

    def begun_again(self, attempt_id: int, prompt: bool, worker: str) -> None:
        account_id = self.rules.attempts[attempt_id]["account_id"]
        self.cancel(attempt_id)
        self.rules.check()
        if prompt and account_id in self.with_wc_id():
            self.prompt(account_id, worker=worker)
        else:
            self.begin(account_id, worker=worker)

    def taken_over(self, process: Process, at_once: bool = True) -> None:
        """It stands still until its leases have run out, and the other worker polls; `at_once` as for `poll`."""
        other = self.worker("B" if process is self.worker("A") else "A")
        if other.silent:
            self.renew(other)
        self.silence(process)
        self.time_passes(10)
        self.rules.check()
        self.poll(other, at_once=at_once)
