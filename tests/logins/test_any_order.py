"""Steps of logins in any order, as people, phones, workers and the upstream may take them; what always holds is
checked after every one of them.

ANY_ORDER_EXAMPLES and ANY_ORDER_STEPS make another run. The same examples are made every time; others with another
ANY_ORDER_SEED, the first of the seeds, of which there is one for ten examples. Each database has examples of its own.
"""

import logging
import math
import os
import sqlite3
from contextlib import closing, contextmanager

import pytest
from django.db import connection
from hypothesis import HealthCheck, note, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.support import environment
from tests.support.model_based.steps import BREAKS, PEOPLE, TROUBLES
from tests.support.model_based.stories import Stories
from tests.support.model_based.upstream import VERIFICATION_CODE
from tests.support.model_based.world import CLAIM_TROUBLE, PROMPT_TROUBLES, World, install

EXAMPLES = int(os.environ.get("ANY_ORDER_EXAMPLES", "10"))
MANY = 300
STEPS = int(os.environ.get("ANY_ORDER_STEPS", "30"))
SEED = int(os.environ.get("ANY_ORDER_SEED", {"sqlite": "0", "postgres": "1"}[environment.DATABASE]))
# Of a longer run, hypothesis makes most by changing one step of a story that it has told already.
STORIES_IN_A_RUN = 10

# How often each is chosen, of those for which there is something at the moment. One rule chooses among all: of rules of
# its own, hypothesis leaves most out of most examples, and a login that comes to its end needs five kinds of them.
OFTEN = {
    "time_passes": 2, "begin": 5, "prompt": 4, "begun_again": 2, "begin_twice": 1, "phone": 9, "goes_on": 6,
    "breaks": 2, "type_verification_code": 6, "cancel": 1, "open_page": 1, "something_else": 2, "message": 2,
    "messages_together": 1, "answers_together": 4, "poll": 3, "fate": 2, "taken_over": 3,
}  # fmt: skip
DOES = st.sampled_from(
    ["online", "online", "online", "online", "code required", "page", "declined", "run out"]
)
DOES_WITH_PROMPT = st.sampled_from(
    [
        "online",
        "online",
        "online",
        "online",
        "declined",
        "refused",
        "a scan",
        "run out",
        "code required",
        "page",
    ]
)
HOW = st.sampled_from([*[""] * 6, "kill", *BREAKS, *TROUBLES])
BREAK = st.sampled_from(["", "kill", *BREAKS])
WHO = st.sampled_from(["", "", "", *PEOPLE])
WORKER = st.sampled_from("AB")
MEANWHILE = st.sampled_from(["", "", "cancel", "phone", "answer"])
START = st.sampled_from([*[""] * 8, CLAIM_TROUBLE, CLAIM_TROUBLE, *PROMPT_TROUBLES])
SEND = st.sampled_from(["", "", *PROMPT_TROUBLES])
YES = st.booleans()
MOSTLY = st.sampled_from([True, True, True, True, False])


class AnyOrder(RuleBasedStateMachine):
    world: World

    def __init__(self):
        super().__init__()
        self.steps = Stories(self.world)
        self.steady = True

    @rule(data=st.data())
    def happens(self, data):
        self.draw = data.draw
        self.steady = False
        can = self.can()
        names = [name for name, times in OFTEN.items() if can.get(name, True) for _time in range(times)]
        getattr(self, self.draw(st.sampled_from(names)))()

    def can(self) -> dict[str, object]:
        """What each needs; the others are always possible."""
        steps = self.steps
        free = steps.without_attempt()
        return {
            "begin": free,
            "prompt": [pk for pk in free if pk in steps.with_wc_id()],
            "begun_again": steps.open(),
            "phone": steps.prompts() or steps.shown(),
            "goes_on": steps.ready(),
            "breaks": steps.world.tasks,
            "type_verification_code": steps.asked(),
            "cancel": steps.attempts(),
            "message": steps.messages,
            "messages_together": steps.messages,
            "answers_together": steps.answers(),
            "taken_over": steps.attended(),
        }

    def one_of(self, things: list):
        """One of them; the first ones, which are the newest, more often."""
        return things[min(self.draw(st.integers(0, len(things) - 1)) for _time in range(2))]

    # --- one each of what may happen

    def begin(self):
        self.begin_for(self.steps.without_attempt())

    def begin_twice(self):
        self.begin_for(self.steps.accounts())

    def begin_for(self, accounts: list[int]):
        worker = self.draw(st.sampled_from(["A", "B", ""]))
        account = self.draw(st.sampled_from(accounts))
        how = {"code": self.draw(YES) or bool(worker), "at_once": self.draw(MOSTLY)}
        self.steps.begin(account, queued=self.draw(YES), worker=worker, **how)

    def prompt(self):
        free = self.steps.without_attempt()
        account = self.draw(st.sampled_from([pk for pk in self.steps.with_wc_id() if pk in free]))
        worker = self.draw(st.sampled_from(["A", "B", ""]))
        how = {"trouble": self.draw(SEND), "at_once": self.draw(MOSTLY)}
        self.steps.prompt(account, worker, by_itself=self.draw(YES), **how)

    def begun_again(self):
        attempt = self.one_of(self.steps.open())
        self.steps.begun_again(attempt, prompt=self.draw(YES), worker=self.draw(WORKER))

    def phone(self):
        codes = [self.steps.prompts(), self.steps.shown(), self.steps.late()]
        w_id = self.one_of(self.draw(st.sampled_from([some for some in codes if some])))
        if self.world.upstream.codes[w_id].is_prompt:
            self.steps.phone(w_id, self.draw(DOES_WITH_PROMPT), heard=self.draw(YES))
        else:
            self.steps.phone(w_id, self.draw(DOES), self.draw(WHO), heard=self.draw(YES))

    def goes_on(self):
        task = self.one_of(self.steps.ready())
        if task.started:
            self.steps.go_on(task, self.draw(HOW))
        else:
            self.steps.begins(task, self.draw(SEND))

    def breaks(self):
        self.steps.go_on(self.one_of(self.steps.tasks()), self.draw(BREAK))

    def type_verification_code(self):
        typed = self.draw(st.sampled_from([VERIFICATION_CODE, VERIFICATION_CODE, "111111"]))
        self.steps.type_verification_code(self.one_of(self.steps.asked()), typed, old=self.draw(YES))

    def cancel(self):
        attempts = (self.draw(MOSTLY) and self.steps.open()) or self.steps.attempts()
        self.steps.cancel(self.one_of(attempts), old=self.draw(YES))

    def open_page(self):
        self.steps.open_page(self.draw(st.sampled_from(self.steps.accounts())))

    def something_else(self):
        what = self.draw(st.sampled_from(["type", "add", "upstream", "wanted"]))
        if what == "add" and len(self.steps.accounts()) < 5:
            self.steps.add_account()
        elif what == "type":
            account = self.draw(st.sampled_from(self.steps.accounts()))
            self.steps.type_wc_id(account, self.draw(st.sampled_from(PEOPLE)))
        elif what == "wanted":
            self.steps.wanted(self.draw(st.sampled_from(self.steps.accounts())), online=self.draw(YES))
        else:
            self.steps.upstream_is(lists=self.draw(YES), tells_w_id=self.draw(YES))

    def message(self):
        worker = self.steps.worker(self.draw(WORKER))
        message = self.one_of(self.steps.messages)
        how = {"trouble": self.draw(START), "at_once": self.draw(MOSTLY)}
        self.steps.message(worker, message, code=self.draw(YES), **how)

    def messages_together(self):
        ids = self.draw(st.lists(st.sampled_from(self.steps.messages), min_size=1, max_size=6))
        self.steps.messages_together(self.steps.worker(self.draw(WORKER)), ids)

    def answers_together(self):
        task = self.one_of(self.steps.answers())
        self.steps.answers_together(task.process, self.draw(st.sampled_from(["", "", "", "rolled back"])))

    def poll(self):
        self.steps.meanwhile(self.draw(MEANWHILE))
        name = self.draw(WORKER)
        awake = [worker for worker in (self.steps.worker(n) for n in name + "AB") if not worker.silent]
        if not awake:
            return self.steps.renew(self.steps.worker(name))
        return self.steps.poll(awake[0], at_once=self.draw(MOSTLY), trouble=self.draw(START))

    def fate(self):
        worker = self.steps.worker(self.draw(WORKER))
        if not self.draw(MOSTLY):
            self.steps.die(worker)
        elif worker.silent:
            return self.steps.renew(worker)
        else:
            self.steps.silence(worker)
        return self.steps.time_passes(10) if self.draw(YES) else None

    def taken_over(self):
        process = self.one_of(self.steps.attended()).process
        self.steps.taken_over(process, at_once=self.draw(MOSTLY))

    def time_passes(self):
        self.steps.meanwhile(self.draw(MEANWHILE))
        self.steps.time_passes(self.draw(st.sampled_from([1, 4, 10, 10, 10, 30, 160, 170])))

    # --- always

    @invariant()
    def everything_holds(self):
        self.world.meanwhile = None
        self.steps.rules.check()
        self.steady = True

    def teardown(self):
        try:
            if self.steady:
                self.steady = False
                self.steps.come_to_rest()
                self.steady = True
        finally:
            self.world.end()
            if not self.steady:
                note("\n".join(["the story:", *self.steps.story]))


def tell_stories(machine: type[AnyOrder], stories: int, steps: int = STEPS, **more) -> None:
    """The same ones every time, kept nowhere. Raises what the rules say to the first that breaks them."""
    how = settings(
        max_examples=STORIES_IN_A_RUN,
        stateful_step_count=steps,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        **more,
    )
    for run in range(SEED, SEED + math.ceil(stories / STORIES_IN_A_RUN)):
        run_state_machine_as_test(seed(run)(machine), settings=how)


@pytest.fixture
def machine(transactional_db, monkeypatch, settings):
    """The class of the machine, in a world of its own."""
    settings.WK_LOGIN_WAIT_SECONDS, settings.WK_TIMEOUT_SECONDS, settings.WAIT_SLOTS = 150, 15, 3
    world = World()
    install(world, monkeypatch)
    logging.disable(logging.WARNING)  # thousands of lines about what these tests do on purpose
    with kept_open():
        yield type("AnyOrder", (AnyOrder,), {"world": world})
    logging.disable(logging.NOTSET)


@contextmanager
def kept_open():
    """SQLite writes its log back whenever the last connection is closed, which here is after every other step."""
    if connection.vendor != "sqlite":
        yield
        return
    with closing(sqlite3.connect(connection.settings_dict["NAME"])) as another:
        another.execute("SELECT count(*) FROM django_migrations").fetchall()
        yield


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("stories", [EXAMPLES, pytest.param(MANY, marks=pytest.mark.long)])
def test_whatever_the_order_is(machine, stories):
    tell_stories(machine, stories)
