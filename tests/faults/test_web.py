"""The web under streams that are cut, ids that are none, a restart, a crowd of tabs, and no more files to open."""

import http.client
import itertools
import os
import resource
import signal
import socket
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from django.db import connection
from playwright.sync_api import Page

from accounts.models import AccountEvent, LoginAttempt
from accounts.realtime.sse import STREAMS_PER_USER
from tests.support import chromium
from tests.support.fault_proxy import Proxy
from tests.support.invariants import assert_sound
from tests.support.processes import DEADLINE, until
from tests.support.scenarios import (
    ROUNDS,
    Listener,
    all_end,
    ends,
    marks,
    running_stack,
    waiting,
)
from tests.support.stack import Operator, Stack

pytestmark = marks("postgres")
# Playwright's loop runs in this thread; the database calls beside it are ordinary ones.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
STREAMS = 500 if ROUNDS > 1 else 120
running = running_stack("web", "waits")


def confirm(upstream, attempts: list[LoginAttempt]) -> None:
    for attempt in attempts:
        upstream.wait(wId=attempt.w_id, step3_now=1)
        upstream.phone("confirm", wId=attempt.w_id)


# --- streams


def test_a_stream_that_resumes_at_an_unknown_event(stack, operator, upstream, live):
    """Whatever a browser says it heard last, it is told to reload, and hears nothing of other teams."""
    hidden = waiting(Operator(stack, live.stranger), upstream, live.account(team=live.west))
    known, theirs = (
        AccountEvent.objects.filter(attempt__isnull=(which is None)).order_by("pk").last()
        for which in (None, hidden)
    )
    places = ["0", "-1", "9" * 40, "1.5", "abc", "' OR 1=1 --", "\xff\xfe", "x" * 5000, str(theirs.pk)]
    places += [str(theirs.pk - 1), str(known.pk) if known else "1"]
    account = live.account()
    with ExitStack() as open_pages:
        pages = [open_pages.enter_context(Listener(operator, last_id=place)) for place in places]
        for page in pages:
            page.hears("relook")
        attempt = waiting(operator, upstream, account)
        upstream.phone("confirm", wId=hidden.w_id)
        ends(hidden)
        confirm(upstream, [attempt])
        for page in pages:
            page.hears("change", account=account.pk, attempt=attempt.pk, state="succeeded")
            changed = {data["account"] for event, data in page.received if event == "change"}
            assert changed == {account.pk}
    ends(attempt)
    assert_sound(upstream, stack)


def test_a_stream_that_is_cut_again_and_again_is_none_too_many(stack, operator, upstream, live):
    address = urlsplit(stack.url)
    attempt = waiting(operator, upstream, live.account())
    with Proxy((address.hostname, address.port)) as proxy:
        operator.url = f"http://127.0.0.1:{proxy.port}"
        for _ in range(STREAMS_PER_USER + 10):
            with Listener(operator) as page:
                page.hears("relook")
                proxy.cut()
                assert page.ended.wait(DEADLINE)
        with Listener(operator) as page:
            page.hears("relook")
            confirm(upstream, [attempt])
            page.hears("change", attempt=attempt.pk, state="succeeded")
    ends(attempt)
    assert_sound(upstream, stack)


class Stream:
    """A browser's stream without a thread of its own, for hundreds of them."""

    def __init__(self, operator: Operator):
        address = urlsplit(operator.url)
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in operator.http.cookies)
        self.call = http.client.HTTPConnection(address.hostname, address.port, timeout=30)
        self.call.request("GET", "/events/", headers={"Cookie": cookies})
        self.answer = self.call.getresponse()

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_exc) -> None:
        self.answer.close()
        self.call.close()

    def hears(self, words: bytes) -> None:
        while words not in (line := self.answer.readline()):
            assert line, "the stream ended"

    def rest(self) -> bytes:
        """What is still said until the end; an end that is none raises IncompleteRead, or a reset."""
        return self.answer.read()


def test_the_web_is_restarted_under_many_open_streams(stack, upstream, live):
    per_user = STREAMS_PER_USER - 10
    people = [live.person(f"crowd-{n}", "operator", live.east) for n in range(-(-STREAMS // per_user))]
    operators = [operator for person in people for operator in [Operator(stack, person)] * per_user]
    attempt = waiting(operators[0], upstream, live.account())
    with ExitStack() as open_pages:
        streams = [open_pages.enter_context(Stream(operator)) for operator in operators]
        for stream in streams:
            stream.hears(b"relook")
        stack.send("web", signal.SIGTERM)
        for stream in streams:
            stream.rest()  # each is ended in order, none is cut off
        assert stack.ended("web") == -signal.SIGTERM
    confirm(upstream, [attempt])
    stack.start("web")
    stack.wait_ready("web")
    with ExitStack() as open_pages:
        streams = [open_pages.enter_context(Stream(operator)) for operator in operators]
        for stream in streams:
            stream.hears(b"relook")
        ends(attempt)
        assert 'data-state="succeeded"' in operators[-1].get(f"/attempts/{attempt.pk}/").text
    assert_sound(upstream, stack)


@pytest.mark.parametrize("operators", [pytest.param(1, marks=pytest.mark.long), 2])
def test_many_clicks_at_once_begin_one_login(stack, upstream, live, operators):
    account, clicks = live.account(), 200
    people = [live.operator, live.mate][:operators]
    desks = [Operator(stack, people[n % operators]) for n in range(8)]
    together = threading.Barrier(clicks)

    def click(n):
        together.wait()
        return desks[n % 8].post(f"/accounts/{account.pk}/login/").headers.get("Location")

    with ThreadPoolExecutor(clicks) as pool:
        places = set(pool.map(click, range(clicks)))
    attempt = LoginAttempt.objects.get()
    assert places == {f"/attempts/{attempt.pk}/"}
    upstream.wait(wId=attempt.w_id, step3_now=1)
    upstream.phone("confirm", wId=attempt.w_id)
    ends(attempt)
    assert upstream.calls("/iPadLogin") == 1
    assert_sound(upstream, stack)


def test_two_hundred_tabs_of_one_person(stack, operator, upstream, live):
    """So many streams as one person may have, and all other tabs are told to come back later; nothing else suffers."""
    account = live.account()
    with ExitStack() as open_tabs:
        tabs = [open_tabs.enter_context(Stream(operator)) for _ in range(200)]
        told = [tab.answer.status for tab in tabs]
        assert (told.count(200), told.count(503)) == (STREAMS_PER_USER, 200 - STREAMS_PER_USER)
        assert all(tab.answer.headers["Retry-After"] for tab in tabs if tab.answer.status == 503)
        with Listener(Operator(stack, live.mate)) as other:
            other.hears("relook")
            attempt = waiting(operator, upstream, account)
            other.hears("change", account=account.pk, state="waiting")
        confirm(upstream, [attempt])
        for tab in tabs:
            if tab.answer.status == 200:
                tab.hears(b"succeeded")
    ends(attempt)
    until(lambda: operator.get("/events/", stream=True).status_code == 200, "no stream is free again")
    assert_sound(upstream, stack)


# --- clicks of a person


@pytest.fixture
def page(stack, live, upstream):
    with chromium.browser() as chrome:
        context = chrome.new_context()
        chromium.has_signed_in(context, stack.url, live.operator)
        yield context.new_page()


def shows_a_code(page: Page) -> None:
    page.locator("[data-attempt][data-state=waiting]").first.wait_for()


@pytest.mark.browser
def test_a_double_click_and_a_way_back_begin_one_login(page, stack, upstream, live):
    accounts = {how: live.account() for how in ("double click", "enter and click", "back and again")}
    for how, account in accounts.items():
        page.goto(f"{stack.url}/accounts/{account.pk}/")
        form = page.locator("form[action$='/login/']").first
        if how == "double click":
            form.locator("button").dblclick(no_wait_after=True)
        elif how == "enter and click":
            form.evaluate(
                "f => { for (const n of [1, 2, 3]) f.requestSubmit(); f.querySelector('button').click(); }"
            )
        else:
            form.locator("button").click()
            shows_a_code(page)
            page.goto(stack.url)
            page.go_back()
            if form.is_visible():
                form.locator("button").click()
        shows_a_code(page)
    attempts = [account.attempts.get() for account in accounts.values()]
    confirm(upstream, attempts)
    all_end(attempts)
    assert upstream.calls("/iPadLogin") == 3
    assert_sound(upstream, stack)


# --- files

# Where connections to the database are files that are opened when they are needed, these come first.
NO_ROOM = {"postgresql": "Unreachable while waiting", "sqlite": "unable to open database file"}


@contextmanager
def open_files(process: subprocess.Popen, more: int):
    """It may open only so many more than it has open now: the limit is one on their numbers."""
    before = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    used = {int(entry.name) for entry in Path(f"/proc/{process.pid}/fd").iterdir()}
    free = itertools.islice((number for number in itertools.count() if number not in used), more + 1)
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (list(free)[-1], before[1]))
    try:
        yield
    finally:
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, before)


def test_a_worker_may_open_no_more_files(stack, operator, upstream, live):
    before = [waiting(operator, upstream, live.account()) for _ in range(4)]
    worker = stack.processes["waits"]
    with open_files(worker, more=2):
        attempts = [operator.log_in(live.account()) for _ in range(8)]
        until(lambda: NO_ROOM[connection.vendor] in stack.log_of("waits"), "there is always room")
        for attempt in before + attempts:  # what their calls give back may go to another call
            upstream.phone("confirm", wId=attempt.w_id)
    all_end(before + attempts)
    assert worker.poll() is None
    assert_sound(upstream, stack)


def answers(stack: Stack) -> bool:
    try:
        return requests.get(stack.url + "/healthz", timeout=3).ok
    except requests.RequestException:
        return False


def test_the_web_may_open_no_more_files(stack, operator, upstream, live):
    attempt = waiting(operator, upstream, live.account())
    address, web = urlsplit(stack.url), stack.processes["web"]
    with open_files(web, more=8), ExitStack() as browsers:
        for _ in range(40):
            browsers.enter_context(socket.create_connection((address.hostname, address.port)))
        until(lambda: not answers(stack), "there is always room")
        confirm(upstream, [attempt])
        ends(attempt)
    until(lambda: operator.get(f"/attempts/{attempt.pk}/").ok, "the web does not come back")
    after = waiting(operator, upstream, live.account())
    confirm(upstream, [after])
    ends(after)
    assert web.poll() is None
    assert_sound(upstream, stack)
