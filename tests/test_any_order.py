"""Steps of logins in any order, as people, phones, workers and the upstream may take them; what always holds is
checked after every one of them.

ANY_ORDER_EXAMPLES and ANY_ORDER_STEPS make a longer run. The same examples are made every time.
"""

import logging
import os
import sqlite3
from contextlib import closing, contextmanager

import pytest
from django.db import connection
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.engine_model import CLAIM_TROUBLE, World, install
from tests.engine_steps import BREAKS, PEOPLE, TROUBLES, Steps
from tests.engine_upstream import NUMBER

EXAMPLES = int(os.environ.get("ANY_ORDER_EXAMPLES", "100"))
STEPS = int(os.environ.get("ANY_ORDER_STEPS", "30"))

# How often each is chosen. One rule chooses among all: of rules of its own, hypothesis leaves most out of most
# examples, and a login that comes to its end needs five kinds of them.
OFTEN = {
    "begin": 5, "phone": 7, "goes_on": 6, "type_number": 3, "cancel": 3, "look_at": 1, "something_else": 1,
    "message": 2, "messages_together": 1, "answers_together": 2, "look": 4, "fate": 3, "time_passes": 2,
}  # fmt: skip
WHAT = st.sampled_from([name for name, times in OFTEN.items() for _time in range(times)])
DOES = st.sampled_from(["online", "online", "online", "online", "number", "page", "declined", "run out"])
HOW = st.sampled_from(["", "", "", "", "", "kill", *BREAKS, *TROUBLES])
WHO = st.sampled_from(["", "", "", *PEOPLE])
WORKER = st.sampled_from("AB")
MEANWHILE = st.sampled_from(["", "", "cancel", "phone", "answer"])
CLAIM = st.sampled_from(["", "", "", "", CLAIM_TROUBLE])
YES = st.booleans()
MOSTLY = st.sampled_from([True, True, True, True, False])


class AnyOrder(RuleBasedStateMachine):
    world: World

    def __init__(self):
        super().__init__()
        self.steps = Steps(self.world)
        self.steady = True

    @rule(data=st.data(), what=WHAT)
    def happens(self, data, what):
        self.draw = data.draw
        self.steady = False
        getattr(self, what)()

    def one_of(self, things: list):
        """One of them; the first ones, which are the newest, more often."""
        return things[min(self.draw(st.integers(0, len(things) - 1)) for _time in range(2))]

    # --- one each of what may happen; where there is nothing to do it with, what makes that possible

    def begin(self):
        worker = self.draw(st.sampled_from(["A", "B", ""]))
        free = self.steps.without_attempt() or self.steps.accounts()
        account = self.draw(st.sampled_from(free if self.draw(MOSTLY) else self.steps.accounts()))
        self.steps.begin(account, queued=self.draw(YES), code=self.draw(YES) or bool(worker), worker=worker)

    def phone(self):
        if not self.steps.shown():
            return self.begin()
        w_id = self.draw(st.sampled_from(self.steps.shown()))
        return self.steps.phone(w_id, self.draw(DOES), self.draw(WHO), heard=self.draw(YES))

    def goes_on(self):
        if not self.steps.tasks():
            return self.begin()
        return self.steps.go_on(self.one_of(self.steps.tasks()), self.draw(HOW))

    def type_number(self):
        if not self.steps.asked():
            return self.phone()
        number = self.draw(st.sampled_from([NUMBER, NUMBER, "111111"]))
        return self.steps.type_number(self.one_of(self.steps.asked()), number, old=self.draw(YES))

    def cancel(self):
        if not self.steps.attempts():
            return self.begin()
        attempts = (self.draw(MOSTLY) and self.steps.open()) or self.steps.attempts()
        return self.steps.cancel(self.one_of(attempts), old=self.draw(YES))

    def look_at(self):
        self.steps.look_at(self.draw(st.sampled_from(self.steps.accounts())))

    def something_else(self):
        what = self.draw(st.sampled_from(["type", "add", "upstream"]))
        if what == "add" and len(self.steps.accounts()) < 5:
            self.steps.add_account()
        elif what == "type":
            account = self.draw(st.sampled_from(self.steps.accounts()))
            self.steps.type_wc_id(account, self.draw(st.sampled_from(PEOPLE)))
        else:
            self.steps.upstream_is(lists=self.draw(YES), tells_w_id=self.draw(YES))

    def message(self):
        if not self.steps.messages:
            return self.begin()
        worker = self.steps.worker(self.draw(WORKER))
        message = self.one_of(self.steps.messages)
        return self.steps.message(worker, message, code=self.draw(YES), trouble=self.draw(CLAIM))

    def messages_together(self):
        ids = self.draw(st.lists(st.sampled_from(self.steps.messages or [0]), min_size=1, max_size=6))
        self.steps.messages_together(self.steps.worker(self.draw(WORKER)), ids)

    def answers_together(self):
        if not self.steps.answers():
            return self.phone()
        task = self.one_of(self.steps.answers())
        return self.steps.answers_together(
            task.process, self.draw(st.sampled_from(["", "", "", "rolled back"]))
        )

    def look(self):
        self.steps.meanwhile(self.draw(MEANWHILE))
        name = self.draw(WORKER)
        awake = [worker for worker in (self.steps.worker(n) for n in name + "AB") if not worker.silent]
        if not awake:
            return self.steps.renew(self.steps.worker(name))
        return self.steps.look(awake[0], at_once=self.draw(MOSTLY), trouble=self.draw(CLAIM))

    def fate(self):
        worker = self.steps.worker(self.draw(WORKER))
        if not self.draw(MOSTLY):
            self.steps.die(worker)
        elif worker.silent:
            return self.steps.renew(worker)
        else:
            self.steps.silence(worker)
        return self.steps.time_passes(10) if self.draw(YES) else None

    def time_passes(self):
        self.steps.meanwhile(self.draw(MEANWHILE))
        self.steps.time_passes(self.draw(st.sampled_from([1, 4, 10, 10, 10, 30, 160])))

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


def profile(examples: int, steps: int = STEPS, **more) -> settings:
    """The same examples every time, kept nowhere."""
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        **more,
    )


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


@pytest.mark.timeout(60 + EXAMPLES * STEPS)
def test_whatever_the_order_is(machine):
    run_state_machine_as_test(machine, settings=profile(EXAMPLES))
