"""What holds after every step of tests/logins/test_any_order.py: the rows, compared with what they were and with the upstream."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db import connection
from django.db.models import Model

from accounts.models import Account, AccountEvent, LoginAttempt
from accounts.models.login_attempt import CLOSED_AFTER
from accounts.reasons import Reason
from accounts.states import (
    ATTEMPT_MOVES,
    FINAL_STATES,
    AccountState,
    AttemptState,
    EventType,
    Method,
)
from tests.support.model_based.upstream import Code
from tests.support.model_based.world import World

MOVES = (EventType.ATTEMPT_STARTED, EventType.ATTEMPT_MOVED)
WAITS = (EventType.WAIT_TAKEN, EventType.WAIT_RESUMED)
ASKED = (AttemptState.CODE_REQUIRED, AttemptState.PAGE_REQUIRED)
NOBODY_SAID = (Reason.NO_ANSWER, Reason.NO_WORKER)


class Broken(AssertionError):
    """Something that always holds does not."""


def rows_of(model: type[Model], after: int = 0) -> list[dict]:
    """As they are in the table, in order; by SQL, which is read after every step and must not take its time."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {model._meta.db_table} WHERE id > %s ORDER BY id", [after])
        fields = {field.column: field.attname for field in model._meta.concrete_fields}
        names = [fields.get(column[0], column[0]) for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def moment(value: datetime) -> datetime:
    """SQLite's times have no zone: they are in UTC."""
    return value if value.tzinfo else value.replace(tzinfo=UTC)


class Rules:
    """The books of one example. `check` reads all rows, and raises Broken with every sentence that is not true."""

    def __init__(self, world: World):
        self.world = world
        self.attempts: dict[int, dict] = {}
        self.accounts: dict[int, dict] = {}
        self.events: dict[int, list[tuple]] = defaultdict(list)
        self.last_event = 0
        self.final: dict[int, dict] = {}
        self.unasked = False  # who reads a page ends what is overdue without asking who is online

    def check(self) -> None:
        before = self.accounts
        self.attempts = {row["id"]: row for row in rows_of(LoginAttempt)}
        self.accounts = {row["id"]: row for row in rows_of(Account)}
        self.news = rows_of(AccountEvent, self.last_event)
        for event in self.news:
            self.last_event = event["id"]
            self.events[event["attempt_id"]].append(event)
        found = [
            *self.world.broken,
            *self.one_open_attempt(),
            *self.final_rows_stay(before),
            *self.chains(),
            *self.codes(),
            *self.newest_login_stays(before),
            *self.right_account(),
            *self.successes_count(before),
            *self.leases(),
            *self.numbers_arrive(),
        ]
        self.unasked = False
        if found:
            raise Broken("; ".join(found))

    def one_open_attempt(self) -> Iterator[str]:
        count = Counter(row["account_id"] for row in self.open())
        yield from (f"account {pk} has {n} open attempts" for pk, n in count.items() if n > 1)

    def open(self) -> list[dict]:
        return [row for row in self.attempts.values() if row["state"] not in FINAL_STATES]

    def final_rows_stay(self, before: dict[int, dict]) -> Iterator[str]:
        for pk, row in self.attempts.items():
            if (row["state"] in FINAL_STATES) != (row["ended_at"] is not None):
                yield f"attempt {pk} is {row['state']} with the end {row['ended_at']}"
            if row["state"] not in FINAL_STATES:
                continue
            known = self.final.get(pk)
            if known is None:
                self.final[pk] = row
                left = [name for name in ("qr_text", "qr_png", "page_url", "verify_code") if row[name]]
                if left or row["lease_owner"]:
                    yield f"attempt {pk} ended and kept {left or 'its lease'}"
                if row["state"] == AttemptState.EXPIRED:
                    yield from self.rightly_expired(row, before.get(row["account_id"]))
            elif row != known:
                changed = {name: (known[name], row[name]) for name in row if row[name] != known[name]}
                yield f"attempt {pk} changed after its end: {changed}"
        yield from (f"attempt {pk} is gone" for pk in self.final if pk not in self.attempts)

    def rightly_expired(self, row: dict, account: dict | None) -> Iterator[str]:
        """After its deadline or by the upstream's word, and never without asking who is online.

        A prompt shows there by the account's wcId. One that was only typed proves nothing: that account may have logged
        in elsewhere. `account`: as it was before this step.
        """
        ended = moment(row["ended_at"])
        if row["reason"] in NOBODY_SAID and ended < moment(row["deadline_at"]):
            yield f"attempt {row['id']} expired before its time, and nobody had said so"
        if self.unasked or not self.world.upstream.says_who_is_online:
            return
        confirmed = account and account["state"] != AccountState.NEW
        if row["method"] == Method.POPUP and not confirmed:
            return
        for code in self.world.upstream.codes.values():
            if code.attempt == row["id"] and code.state == "online" and code.online_at < ended:
                yield f"attempt {row['id']} expired although {code.who} was online by it"

    def chains(self) -> Iterator[str]:
        for pk, row in self.attempts.items():
            yield from (f"attempt {pk}: {words}" for words in self.chain(row, self.events[pk]))

    def chain(self, row: dict, events: list[dict]) -> Iterator[str]:
        moves = [(event["from_state"], event["to_state"]) for event in events if event["happened"] in MOVES]
        if moves[:1] != [("", AttemptState.PREPARING)]:
            yield f"its history begins with {moves[:1]}"
        for (_before, here), (there, after) in zip(moves, moves[1:], strict=False):
            if here != there or after not in ATTEMPT_MOVES[there]:
                yield f"{here} was followed by a move from {there} to {after}"
        if moves and moves[-1][1] != row["state"]:
            yield f"its history ends with {moves[-1][1]}, and it is {row['state']}"
        ends = sum(to in FINAL_STATES for _from, to in moves)
        if ends != (row["state"] in FINAL_STATES):
            yield f"it ended {ends} times"
        happened = Counter(event["happened"] for event in events)
        taken = happened[EventType.WAIT_TAKEN] + happened[EventType.WAIT_RESUMED]
        # Who waited before somebody typed a verification code is out.
        ended = sum(here in ASKED and to == AttemptState.WAITING for here, to in moves)
        if taken + ended != row["lease_epoch"]:
            yield f"{row['lease_epoch']} is its epoch, with {taken} leases taken and {ended} waits ended"
        if happened[EventType.LATE_SUCCESS] > 1:
            yield "its late success was noted twice"

    def codes(self) -> Iterator[str]:
        """`/iPadLogin` or `/secondLogin`: one at most for an attempt, and the wId of no other."""
        sent = self.world.upstream.sent
        for pk, row in self.attempts.items():
            if sent[pk] > 1:
                what = "prompt" if row["method"] == Method.POPUP else "code"
                yield f"the {what} of attempt {pk} was asked for {sent[pk]} times"
            if sent[pk] and row["sent_at"] is None:
                yield f"attempt {pk} was sent to the upstream, and its row does not say so"
            if not row["w_id"]:
                continue
            code = self.world.upstream.codes[row["w_id"]]
            if row["method"] == Method.QR and code.attempt != pk:
                yield f"attempt {pk} has the wId of another"
            # Any newer login of its account answers a prompt.
            if row["method"] == Method.POPUP and code.w_id == row["old_w_id"]:
                yield f"the prompt of attempt {pk} counts as tapped, by the wId that was there before"

    def newest_login_stays(self, before: dict[int, dict]) -> Iterator[str]:
        online = Counter(e["account_id"] for e in self.news if e["happened"] == EventType.ACCOUNT_ONLINE)
        for pk, row in self.accounts.items():
            old = before.get(pk, {"bound_seq": 0, "w_id": "", "wc_id": None})
            if row["bound_seq"] < old["bound_seq"] or row["bound_seq"] > row["login_seq"]:
                yield f"account {pk}: bound {old['bound_seq']}, then {row['bound_seq']}, of {row['login_seq']}"
            if row["w_id"] != old["w_id"] and row["bound_seq"] == old["bound_seq"]:
                yield f"account {pk} got another wId under the same number"
            if (row["bound_seq"] != old["bound_seq"]) != bool(online[pk]):
                yield f"account {pk} came online without an event, or not with one"
            if row["wc_id"] != old["wc_id"] and old["wc_id"]:
                yield f"account {pk} had the wcId {old['wc_id']} and has {row['wc_id']}"
        for pk, row in self.attempts.items():
            account = self.accounts[row["account_id"]]
            stale = any(event["happened"] == EventType.STALE_SUCCESS for event in self.events[pk])
            older = account["w_id"] != row["w_id"] and account["bound_seq"] <= row["seq"]
            if row["state"] == AttemptState.SUCCEEDED and older and not stale:
                yield f"attempt {pk} succeeded, and its account has {account['w_id']} by an older login"

    def right_account(self) -> Iterator[str]:
        """Whoever scanned has the wId, and nobody else; a record that never had a wcId may be merged."""
        codes = self.world.upstream.codes
        for pk, row in self.accounts.items():
            if row["w_id"] and codes[row["w_id"]].who != row["wc_id"]:
                yield f"account {pk} ({row['wc_id']}) has the login of {codes[row['w_id']].who}"
            if (row["state"] == AccountState.ONLINE) != bool(row["w_id"]):
                yield f"account {pk} is {row['state']} with the wId {row['w_id']!r}"
            owner = self.accounts.get(row["merged_into_id"])
            if owner and (row["wc_id"] or row["w_id"] or owner["merged_into_id"] or not owner["wc_id"]):
                yield f"account {pk} is merged into {owner['id']}, and is not a placeholder of it"
        for event in self.news:
            row = self.accounts[event["account_id"]]
            if event["happened"] == EventType.MERGED and not (row["merged_into_id"] or row["wc_id"]):
                yield f"account {row['id']} was merged into another, and its record does not say so"
        for pk, row in self.attempts.items():
            who = row["w_id"] and codes[row["w_id"]].who
            if row["state"] == AttemptState.SUCCEEDED and self.accounts[row["account_id"]]["wc_id"] != who:
                yield f"attempt {pk} succeeded for another account than {who}"
            if row["reason"] == "wrong_account" and self.accounts[row["other_account_id"]]["wc_id"] != who:
                yield f"attempt {pk} names another account than {who}"

    def successes_count(self, before: dict[int, dict]) -> Iterator[str]:
        """Who is online there, and was heard of, is online here; by another wId only where that is in doubt.

        Which of two logins of one account is the newer is decided by the order of their codes, and by the order in which
        they were heard of. Where these say different things, or where the wait was resumed, so that its answer
        may have been given before, either may be what is written here, until the upstream is asked who is online. So
        may be what was reported after the attempt had ended, and was noted as doubtful.
        """
        codes = self.world.upstream.codes.values()
        again = {code.w_id for code in codes if self.in_doubt(code)}
        begun = {code.w_id: code.attempt for code in codes}
        here = {row["wc_id"]: row for row in self.accounts.values() if row["wc_id"]}
        heard = self.world.heard
        for row in self.attempts.values():
            if row["state"] == AttemptState.SUCCEEDED and row["w_id"] not in heard:
                heard.append(row["w_id"])
        # Also by who died right after.
        known = {pk: row["w_id"] for pk, row in before.items()}
        now = {pk: row["w_id"] for pk, row in self.accounts.items() if row["w_id"]}
        heard += [w_id for pk, w_id in now.items() if w_id != known.get(pk)]
        orders = {w_id: order for order, w_id in enumerate(heard)}
        for who, w_id in self.world.upstream.there.items():
            if w_id not in orders:
                continue
            has = here[who]["w_id"] if who in here else "no record"
            doubt = has in orders and (begun[has] > begun[w_id] or orders[has] > orders[w_id])
            if has != w_id and not (doubt or w_id in again and has in orders):
                yield f"{who} is online with {w_id} there, and was heard of; here it has {has!r}"

    def in_doubt(self, code: Code) -> bool:
        happened = {event["happened"] for event in self.events[code.attempt]}
        noted = {EventType.LATE_SUCCESS, EventType.STALE_SUCCESS} <= happened
        # Who resumes a prompt's wait asks who is online.
        return noted or (not code.is_prompt and self.attempts[code.attempt]["resumed_at"] is not None)

    def leases(self) -> Iterator[str]:
        for process in self.world.workers.values():
            held = process.holder.held.values()
            if len(held) > settings.WAIT_SLOTS:
                yield f"{process.name} holds {len(held)} leases"
            if process.silent:
                continue
            calls = {call.attempt for call in self.world.calls() if call.process is process and not call.cut}
            for lease in held:
                row = self.attempts[lease.attempt.pk]
                if row["lease_epoch"] > lease.epoch and row["id"] in calls:
                    yield f"{process.name} waits on for attempt {row['id']}, which is another's"
            known = {(lease.attempt.pk, lease.epoch) for lease in held} | process.holder.unreleased
            for row in self.open():
                mine = row["lease_owner"] == process.name and row["id"] not in process.holder.unsure
                if mine and (row["id"], row["lease_epoch"]) not in known:
                    yield f"attempt {row['id']} is {process.name}'s, which does not know of it"

    def numbers_arrive(self) -> Iterator[str]:
        """A verification code that somebody typed goes to the upstream before anybody is asked for one again."""
        for row in self.open():
            if (
                row["w_id"] in self.world.upstream.unsent_verification_codes
                and row["state"] != AttemptState.WAITING
            ):
                yield f"attempt {row['id']} is {row['state']}; the verification code typed for it was never sent"

    # --- after steps that promise more

    def all_ended(self, account_id: int | None, more: timedelta = CLOSED_AFTER) -> None:
        """Nothing of this account (of any, for None) is open after its deadline and `more`."""
        for row in self.open():
            late = moment(row["deadline_at"]) + more < self.world.clock.at
            if late and account_id in (None, row["account_id"]):
                raise Broken(f"attempt {row['id']} is {row['state']} after its time")

    def nothing_is_left(self) -> None:
        if self.open() or self.world.tasks:
            left = [task.name for task in self.world.tasks]
            raise Broken(f"open at the end: {[row['id'] for row in self.open()]}, and {left}")
        for process in self.world.workers.values():
            if process.holder.held or process.holder.unreleased:
                raise Broken(f"{process.name} has used slots for ever")
