"""What holds after every fault: the rows of the database and the books of the upstream, compared with each other.

`violations` lists every sentence that is not true; `assert_sound` waits until what has to end has ended, and fails
with all of them. What a test's own fault explains is said by the test, as a number, never looked away from.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import timedelta

from django.db import connection
from django.db.models import Count, Q
from django.utils import timezone

from accounts.models import Account, AccountEvent, LoginAttempt
from accounts.states import (
    ATTEMPT_MOVES,
    FINAL_STATES,
    OPEN_STATES,
    AccountState,
    AttemptState,
    EventType,
    Method,
)
from tests.support.environment import CANARIES
from tests.support.processes import until
from tests.support.simulator import Simulator
from tests.support.stack import Stack

BOUND = timedelta(seconds=20)
MOVES = (EventType.ATTEMPT_STARTED, EventType.ATTEMPT_MOVED)
WAITS = (EventType.WAIT_TAKEN, EventType.WAIT_RESUMED)
CAPABILITIES = ("qr_text", "page_url", "verify_code")


@dataclass(frozen=True)
class Explained:
    """What the fault of the test explains.

    `sign_ins`: how often the developer may have signed in. `parallel`: waits at once for one wId, where a process
    that was stopped wakes up beside its successor. `unsent`: codes that were about to be asked for when the call
    could not leave. `repeated`: calls for a code that were refused for their Authorization and made again.
    `offline`: accounts that are online at the upstream and not here, because nobody was left to hear of it.
    """

    sign_ins: int = 1
    parallel: int = 1
    unsent: int = 0
    repeated: int = 0
    offline: int = 0


def assert_sound(upstream: Simulator, stack: Stack | None = None, *, ended: bool = True, **explained) -> None:
    """Wait until every attempt has ended (unless `ended` is False), then check everything."""
    if ended:
        until_ended()
    found = violations(upstream.state(), stack.log if stack else "", Explained(**explained))
    assert not found, "\n".join(["broken:", *found])


def until_ended(more: float = 10) -> None:
    """Every attempt ends: at its deadline and the bound after it. `more` is for a machine that is busy."""
    last = LoginAttempt.objects.open().order_by("-deadline_at").values_list("deadline_at", flat=True).first()
    left = (last + BOUND - timezone.now()).total_seconds() if last else 0
    until(
        lambda: not LoginAttempt.objects.open().exists(),
        f"attempts are open after their time: {list(LoginAttempt.objects.open().values('id', 'state', 'deadline_at'))}",
        seconds=max(left, 0) + more,
    )


def violations(state: dict, log: str = "", explained: Explained | None = None) -> list[str]:
    explained = explained or Explained()
    return [
        *one_open_attempt(),
        *ended_in_time(),
        *nothing_left_behind(),
        *chains(),
        *codes(state, explained),
        *prompts(state),
        *online(state, explained),
        *waits(state, explained),
        *secrets(state, log),
        *sign_ins(state, explained),
    ]


# --- the rows alone


def one_open_attempt() -> list[str]:
    rows = LoginAttempt.objects.open().values("account").annotate(n=Count("id")).filter(n__gt=1)
    return [f"account {row['account']} has {row['n']} open attempts" for row in rows]


def ended_in_time() -> list[str]:
    late = LoginAttempt.objects.open().filter(deadline_at__lt=timezone.now() - BOUND)
    return [f"attempt {row.pk} is {row.state} after its deadline and 20 s" for row in late]


def nothing_left_behind() -> list[str]:
    """By SQL: what the models would not show."""
    left = " OR ".join(f"{name} <> ''" for name in CAPABILITIES)
    final = ", ".join(f"'{state}'" for state in FINAL_STATES)
    open_states = ", ".join(f"'{state}'" for state in OPEN_STATES)
    questions = {
        "has a capability left": f"state IN ({final}) AND ({left} OR qr_png IS NOT NULL)",
        "ended and has a lease": f"state IN ({final}) AND lease_owner <> ''",
        "ended without a time": f"state IN ({final}) AND ended_at IS NULL",
        "is open with an end": f"state IN ({open_states}) AND ended_at IS NOT NULL",
    }
    found = []
    with connection.cursor() as cursor:
        for what, condition in questions.items():
            cursor.execute(f"SELECT id FROM accounts_loginattempt WHERE {condition}")
            found += [f"attempt {row[0]} {what}" for row in cursor.fetchall()]
    return found


def chains() -> list[str]:
    """Each move has its event, in order, and nothing else has one."""
    events = defaultdict(list)
    for event in AccountEvent.objects.filter(attempt__isnull=False).order_by("id"):
        events[event.attempt_id].append(event)
    found = []
    for attempt in LoginAttempt.objects.light():
        found += [f"attempt {attempt.pk}: {words}" for words in chain(attempt, events[attempt.pk])]
    for account in Account.objects.all():
        found += [f"account {account.pk}: {words}" for words in account_chain(account)]
    return found


def chain(attempt: LoginAttempt, events: list[AccountEvent]) -> list[str]:
    moves = [(event.from_state, event.to_state) for event in events if event.happened in MOVES]
    if not moves or moves[0] != ("", AttemptState.PREPARING):
        return [f"its history begins with {moves[:1]}"]
    found = []
    for (_before, here), (there, after) in zip(moves, moves[1:], strict=False):
        if here != there or after not in ATTEMPT_MOVES[there]:
            found.append(f"{here} was followed by a move from {there} to {after}")
    if moves[-1][1] != attempt.state:
        found.append(f"its history ends with {moves[-1][1]}, and it is {attempt.state}")
    ends = sum(to in FINAL_STATES for _from, to in moves)
    if ends != (attempt.state in FINAL_STATES):
        found.append(f"it ended {ends} times")
    taken = sum(event.happened in WAITS for event in events)
    if taken > attempt.lease_epoch:
        found.append(f"{taken} waits were noted, and {attempt.lease_epoch} leases taken")
    return found


def account_chain(account: Account) -> list[str]:
    moves = list(
        account.events.filter(happened__in=(EventType.ACCOUNT_ONLINE, EventType.ACCOUNT_OFFLINE))
        .order_by("id")
        .values_list("from_state", "to_state")
    )
    if not moves:
        return [] if account.state == AccountState.NEW else [f"{account.state} without a history"]
    return [] if moves[-1][1] == account.state else [f"its history ends with {moves[-1][1]}"]


# --- the rows and the upstream's books


def codes(state: dict, explained: Explained) -> list[str]:
    """`/iPadLogin` was sent once for every attempt that says so, and never twice."""
    scans = LoginAttempt.objects.filter(method=Method.QR)
    sent = scans.exclude(sent_at=None)
    calls = state["calls"].get("/iPadLogin", 0)
    found = []
    if calls != sent.count() - explained.unsent + explained.repeated:
        found.append(f"{calls} calls for a code, {sent.count()} attempts that asked for one ({explained})")
    made = [login["wId"] for login in state["logins"] if login["method"] == "qr"]
    known = Counter(scans.exclude(w_id="").values_list("w_id", flat=True))
    found += [f"{n} attempts have wId {w_id}" for w_id, n in known.items() if n > 1]
    found += [f"wId {w_id} is none of the upstream's" for w_id in known if w_id not in set(made)]
    strays = [w_id for w_id in made if w_id not in known]
    lost = sent.filter(w_id="").count()
    if len(strays) > lost:
        found.append(f"{len(strays)} codes belong to no attempt, and {lost} answers got lost")
    return found


def prompts(state: dict) -> list[str]:
    """`/secondLogin` was sent at most once for every attempt that says so: who died right before it sent none."""
    prompts_sent = LoginAttempt.objects.filter(method=Method.POPUP)
    sent, calls = prompts_sent.exclude(sent_at=None).count(), state["calls"].get("/secondLogin", 0)
    found = [f"{calls} prompts, and {sent} attempts that sent one"] if calls > sent else []
    made = {login["wId"] for login in state["logins"]}
    known = Counter(prompts_sent.exclude(w_id="").values_list("w_id", flat=True))
    found += [f"{n} prompts have wId {w_id}" for w_id, n in known.items() if n > 1]
    return [
        *found,
        *(f"wId {w_id} of a prompt is none of the upstream's" for w_id in known if w_id not in made),
    ]


def online(state: dict, explained: Explained) -> list[str]:
    """Who is online there is online here, with the same wId, and the other way round."""
    here = dict(Account.objects.filter(state=AccountState.ONLINE).values_list("wc_id", "w_id"))
    there = state["online"]
    found = [
        f"{wc_id} is online with {w_id} here, and {there.get(wc_id, 'not')} there"
        for wc_id, w_id in here.items()
        if there.get(wc_id) != w_id
    ]
    missing = [wc_id for wc_id in there if wc_id not in here]
    if len(missing) != explained.offline:
        found.append(f"{missing} are online there and not here; {explained.offline} explained")
    odd = Account.objects.filter(~Q(state=AccountState.ONLINE) & ~Q(w_id=""))
    return [*found, *(f"account {row.pk} is {row.state} and has a wId" for row in odd)]


def waits(state: dict, explained: Explained) -> list[str]:
    return [
        f"{login['max_parallel']} waits at once for {login['wId']}"
        for login in state["logins"]
        if login["max_parallel"] > explained.parallel
    ]


def secrets(state: dict, log: str) -> list[str]:
    """In the logs of all processes, written at DEBUG."""
    kept = {name: value for name, value in CANARIES.items() if value in log}
    found = [f"{name} is in a log" for name in kept]
    if state["authorization"] in log:
        found.append("the Authorization is in a log")
    capabilities = [
        (login["wId"], login[name]) for login in state["logins"] for name in ("qr_url", "phone_url")
    ]
    found += [
        f"an address of the code of {w_id} is in a log" for w_id, text in capabilities if text and text in log
    ]
    return found


def sign_ins(state: dict, explained: Explained) -> list[str]:
    count = state["calls"].get("/member/login", 0)
    return [f"signed in {count} times"] if count > explained.sign_ins else []
