"""The event stream: who hears what, and when a stream ends. Messages are pulled from the real generator."""

import asyncio
import json
import math
import re
import threading

import pytest
from django.conf import settings as django_settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.core.asgi import get_asgi_application
from django.db import connections, transaction
from django.test import AsyncClient
from django.utils import timezone

from accounts.attention import assignment
from accounts.bulk import execute, runs
from accounts.lib import pubsub
from accounts.models import Account, AccountEvent, Incident, UpstreamAccess
from accounts.models.event import gathered, record
from accounts.models.operators.bulk_run import BulkAction
from accounts.realtime import changes, connects, readers, sse
from accounts.states import EventType
from accounts.web.exchange import import_save
from accounts.web.exchange.files.upload import Table
from accounts.web.exchange.import_run import Import
from tests.support.factories import make_attempt
from tests.support.processes import DEADLINE

BACKEND = "django.contrib.auth.backends.ModelBackend"


@pytest.fixture(autouse=True)
def nobody_reads():
    sse._hub.readers.clear()
    connects._admission.headers = []
    yield
    sse._hub.readers.clear()


async def client_for(user) -> AsyncClient:
    client = AsyncClient()
    await client.aforce_login(user, backend=BACKEND)
    return client


class Stream:
    """An open stream; `await heard()` is the next message, as (event, data)."""

    def __init__(self, response):
        self.messages = aiter(response.streaming_content)

    @classmethod
    async def of(cls, user) -> "Stream":
        response = await (await client_for(user)).get("/events/")
        assert response.status_code == 200
        stream = cls(response)
        assert (await stream.message())[0] == "relook"
        async with asyncio.timeout(DEADLINE):
            while (await asyncio.to_thread(pubsub._client().pubsub_numsub, pubsub.CHANNEL))[0][1] != 1:
                await asyncio.sleep(0.01)
        return stream

    async def message(self) -> tuple[str, dict]:
        text = (await asyncio.wait_for(anext(self.messages), DEADLINE)).decode()
        lines = dict(line.split(": ", 1) for line in text.strip().splitlines() if ": " in line)
        return lines.get("event", ""), json.loads(lines.get("data", "{}"))

    async def heard(self) -> tuple[str, dict]:
        """The next message that is more than "reload" or a ping."""
        while (message := await self.message())[0] in ("relook", "ping"):
            pass
        return message

    async def end(self) -> None:
        async with asyncio.timeout(DEADLINE):
            async for _message in self.messages:
                pass


async def change(account) -> int:
    return await asyncio.to_thread(change_now, account)


def change_now(account) -> int:
    try:
        return record(account, EventType.CHANGED).pk
    finally:
        connections.close_all()


def test_who_may_see_an_account_hears_of_it_and_a_stranger_does_not(committed):
    ours, theirs = committed.account(), committed.account(team=committed.west)

    async def story():
        mate, stranger, admin = [
            await Stream.of(u) for u in (committed.mate, committed.stranger, committed.admin)
        ]
        await change(ours)
        await change(theirs)
        assert await mate.heard() == ("change", {"account": ours.pk, "attempt": None, "state": "new"})
        assert await stranger.heard() == ("change", {"account": theirs.pk, "attempt": None, "state": "new"})
        assert [(await admin.heard())[1]["account"] for _ in range(2)] == [ours.pk, theirs.pk]

    asyncio.run(story())


def test_a_message_has_ids_and_a_state_and_nothing_else(committed):
    account = committed.account(label="Secret label", nickname="小诺", wc_id="wxid_1", w_id="w-1")

    async def story():
        stream = await Stream.of(committed.operator)
        await change(account)
        while "relook" in (text := (await asyncio.wait_for(anext(stream.messages), DEADLINE)).decode()):
            pass
        assert (
            text
            == f'event: change\ndata: {{"account": {account.pk}, "attempt": null, "state": "online"}}\n\n'
        )

    asyncio.run(story())


def test_thousands_of_rows_at_once_are_one_message(committed):
    accounts = [committed.account() for _n in range(3)]

    def import_many() -> None:
        with transaction.atomic(), gathered(100):
            for n in range(sse.MISSED_MOST + 1):
                record(accounts[n % 3], EventType.CHANGED)
        connections.close_all()

    async def story():
        stream = await Stream.of(committed.operator)
        async with asyncio.timeout(DEADLINE):
            while sse._hub.rows.floor is None:
                await asyncio.sleep(0.01)
        (reader,) = sse._hub.readers
        while not reader.queue.empty():
            await stream.message()
        await asyncio.to_thread(import_many)
        while (message := await stream.message())[0] == "ping":
            pass
        assert message[0] == "relook" and reader.queue.empty()

    asyncio.run(story())


@pytest.mark.parametrize("loss", ["session", "role", "active", "password"])
def test_a_stream_ends_when_its_right_ends(committed, loss, monkeypatch):
    monkeypatch.setattr(sse, "RIGHTS_SECONDS", 0.05)

    async def story():
        client = await client_for(committed.operator)
        stream = Stream(await client.get("/events/"))
        if loss == "session":
            await client.alogout()
        elif loss == "role":
            await committed.operator.groups.aclear()
        elif loss == "password":
            committed.operator.set_password("another password")
            await committed.operator.asave()
        else:
            committed.operator.is_active = False
            await committed.operator.asave()
        await stream.end()
        assert (await client.get("/events/")).status_code == 403

    asyncio.run(story())


def test_a_stream_ends_when_its_role_changes_and_opens_again(committed, monkeypatch):
    monkeypatch.setattr(sse, "RIGHTS_SECONDS", 0.05)

    async def story():
        client = await client_for(committed.operator)
        stream = Stream(await client.get("/events/"))
        operators, viewers = [await Group.objects.aget(role=role) for role in ("operator", "viewer")]
        await committed.operator.groups.aremove(operators)
        await committed.operator.groups.aadd(viewers)
        await stream.end()
        assert (await client.get("/events/")).status_code == 200

    asyncio.run(story())


def test_a_team_that_is_left_is_heard_of_no_more(committed, monkeypatch):
    monkeypatch.setattr(sse, "RIGHTS_SECONDS", 0.05)

    async def story():
        _open = await Stream.of(committed.operator)
        await committed.operator.groups.aremove(committed.east)
        reader = next(iter(sse._hub.readers))
        async with asyncio.timeout(DEADLINE):
            while reader.teams and committed.east.pk in reader.teams:
                await asyncio.sleep(0.01)
        assert reader not in sse._hub.readers.by_team[committed.east.pk]

    asyncio.run(story())


def test_nobody_signed_in_hears_nothing(committed):
    async def story():
        assert (await AsyncClient().get("/events/")).status_code == 403

    asyncio.run(story())


def test_one_person_cannot_take_all_streams(committed, monkeypatch):
    monkeypatch.setattr(sse, "STREAMS_PER_USER", 3)

    async def story():
        streams = [await Stream.of(committed.operator) for _ in range(3)]
        answer = await (await client_for(committed.operator)).get("/events/")
        assert (answer.status_code, answer["Retry-After"]) == (503, "10")
        assert (await (await client_for(committed.mate)).get("/events/")).status_code == 200
        del streams

    asyncio.run(story())


def test_all_streams_of_a_process_share_one_connection_to_redis(committed):
    async def story():
        streams = [await Stream.of(user) for user in (committed.operator, committed.mate, committed.admin)]
        assert len(streams) == len(sse._hub.readers)
        subscribers = pubsub._client().pubsub_numsub(pubsub.CHANNEL)
        assert subscribers == [(pubsub.CHANNEL.encode(), 1)]

    asyncio.run(story())


def test_a_reader_that_sleeps_is_cut_off_rather_than_kept_in_memory():
    reader = readers.Reader(1, "key", changes.Rights(changes.EVERY_TEAM, frozenset(), ""))
    for number in range(readers.QUEUE_SIZE + 1):
        reader.put(f"message {number}")
    assert reader.queue.qsize() == 1
    assert reader.queue.get_nowait() is None


@pytest.mark.slow
def test_streams_on_which_nothing_happens_are_pinged_again_and_again(committed, monkeypatch):
    monkeypatch.setattr(sse, "PING_SECONDS", 0.3)

    async def story():
        for stream in [await Stream.of(user) for user in (committed.operator, committed.stranger)]:
            assert [await text_with(stream, "event: ping") for _ in range(2)]

    asyncio.run(story())


def test_stop_ends_every_stream(committed):
    async def story():
        stream = await Stream.of(committed.operator)
        sse.stop()
        await stream.end()

    asyncio.run(story())


def test_a_stream_that_opens_while_the_process_stops_ends_too(committed):
    async def story():
        await Stream.of(committed.operator)
        client = await client_for(committed.mate)
        sse.stop()
        late = Stream(await client.get("/events/"))
        await late.end()

    asyncio.run(story())


def test_an_event_that_cannot_be_published_stops_nothing(committed, settings):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    pubsub._client.cache_clear()
    try:
        assert record(committed.account(), EventType.CHANGED).pk
        assert pubsub.ping() is False
    finally:
        pubsub._client.cache_clear()


# --- what no published event announces ------------------------------------------------------------


def unpublished(account) -> int:
    """A row as it stands when its published event got lost."""
    try:
        return AccountEvent.objects.bulk_create([AccountEvent(account=account, happened=EventType.CHANGED)])[
            0
        ].pk
    finally:
        connections.close_all()


async def polled() -> None:
    """The table has been polled, so that what comes now is new."""
    async with asyncio.timeout(DEADLINE):
        while sse._hub.rows.floor is None:
            await asyncio.sleep(0.01)


def test_a_row_whose_published_event_got_lost_is_passed_on_once(committed, monkeypatch):
    monkeypatch.setattr(sse, "POLL_SECONDS", 0.05)
    ours, theirs = committed.account(w_id="w-1"), committed.account(team=committed.west)

    async def story():
        stream = await Stream.of(committed.operator)
        await polled()
        await asyncio.to_thread(unpublished, theirs)
        await asyncio.to_thread(unpublished, ours)
        assert await stream.heard() == ("change", {"account": ours.pk, "attempt": None, "state": "online"})
        await change(ours)
        assert (await stream.heard())[1]["account"] == ours.pk
        assert sse._hub.readers and all(reader.queue.empty() for reader in sse._hub.readers)

    asyncio.run(story())


def test_what_happens_before_the_first_poll_is_seen_by_reloading(committed, monkeypatch):
    account = committed.account()

    async def story():
        stream = Stream(await (await client_for(committed.operator)).get("/events/"))
        assert (await stream.message())[0] == "relook"
        await asyncio.to_thread(unpublished, account)
        assert (await stream.message())[0] == "relook"  # the table has been polled: what comes now is new
        assert sse._hub.rows.floor is not None

    asyncio.run(story())


def test_events_reach_pages_while_redis_is_unreachable(committed, settings, monkeypatch):
    monkeypatch.setattr(sse, "POLL_SECONDS", 0.05)
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    pubsub._client.cache_clear()
    account = committed.account()

    async def story():
        stream = Stream(await (await client_for(committed.operator)).get("/events/"))
        await stream.message()
        await polled()
        await change(account)
        assert (await stream.heard())[1]["account"] == account.pk

    try:
        asyncio.run(story())
    finally:
        pubsub._client.cache_clear()
        pubsub._quiet.until = 0


def noted(account) -> None:
    try:
        incident, _created = Incident.objects.get_or_create()
        incident.drops.get_or_create(account=account, defaults={"w_id": "w"})
        assignment.add_note(incident, "the provider knows", by=get_user_model().objects.first())
    finally:
        connections.close_all()


@pytest.mark.parametrize("redis", ["answers", "is unreachable"])
def test_what_no_event_row_tells_reaches_pages_whatever_redis_does(committed, monkeypatch, redis):
    monkeypatch.setattr(sse, "POLL_SECONDS", 10 * DEADLINE if redis == "answers" else 0.05)
    account = committed.account()

    async def story():
        stream = await Stream.of(committed.operator)
        await polled()
        if redis == "is unreachable":
            monkeypatch.setattr(pubsub._quiet, "until", math.inf)
        for _ in range(4):  # a poll or two still come from the start
            heard = asyncio.create_task(stream.heard())
            while not heard.done():  # Redis answered too late: nothing is published for some seconds
                await asyncio.to_thread(noted, account)
                await asyncio.wait([heard], timeout=pubsub.QUIET_SECONDS)
            assert heard.result() == ("change", {"account": account.pk, "attempt": None, "state": ""})

    asyncio.run(story())


@pytest.mark.slow
def test_listening_ends_at_whatever_moment_it_is_cancelled():
    """Else the process does not end, and who listens next in it hears nothing."""

    async def hear():
        async for _event in pubsub.listen():
            pass

    async def ends_when_cancelled_after(rounds: int) -> bool:
        listening = asyncio.ensure_future(hear())
        for _round in range(rounds):
            await asyncio.sleep(0)
        listening.cancel()
        done, _pending = await asyncio.wait([listening], timeout=DEADLINE)
        return listening in done

    async def story():
        assert all([await ends_when_cancelled_after(rounds) for rounds in range(200)])

    asyncio.run(story())


def test_many_rows_without_a_published_event_are_one_reload_for_all(committed, monkeypatch):
    monkeypatch.setattr(sse, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(sse, "MISSED_MOST", 3)
    account = committed.account()

    def many():
        try:
            AccountEvent.objects.bulk_create(
                AccountEvent(account=account, happened=EventType.CHANGED) for _ in range(5)
            )
        finally:
            connections.close_all()

    async def story():
        stream = await Stream.of(committed.stranger)
        await polled()
        while not all(reader.queue.empty() for reader in sse._hub.readers):
            await stream.message()
        await asyncio.to_thread(many)
        kind, data = await stream.message()
        assert kind == "relook" and data["within"] >= 0

    asyncio.run(story())


def test_a_login_that_no_worker_waits_for_is_sent_and_a_page_that_connects_again_reloads(
    committed, monkeypatch
):
    monkeypatch.setattr(sse, "POLL_SECONDS", 0.05)
    attempt = make_attempt(committed.account(), queued_at=timezone.now() - timezone.timedelta(seconds=6))

    async def story():
        stream = await Stream.of(committed.operator)
        while "relook" in (text := (await asyncio.wait_for(anext(stream.messages), DEADLINE)).decode()):
            pass
        assert text.startswith("id: 0\n") and f'"attempt": {attempt.pk}' in text

    asyncio.run(story())


def test_the_alarm_is_sent_to_all_when_it_begins_and_when_it_ends(committed, monkeypatch):
    monkeypatch.setattr(sse, "POLL_SECONDS", 0.05)
    access = {"base_url": django_settings.WK_BASE_URL, "account": django_settings.WK_ACCOUNT}

    def refuse():
        try:
            UpstreamAccess.objects.update_or_create(**access, defaults={"refused_at": timezone.now()})
        finally:
            connections.close_all()

    def let_in():
        try:
            UpstreamAccess.objects.filter(**access).update(refused_at=None)
        finally:
            connections.close_all()

    async def story():
        stream = await Stream.of(committed.viewer)
        await polled()
        for step in (refuse, let_in):
            await asyncio.to_thread(step)
            assert (await stream.heard())[0] == "alarm"

    asyncio.run(story())


# --- another team -----------------------------------------------------------------------------------------


def by_form(account, team, admin) -> None:
    typed = {"label": account.label, "team": team.pk, "tag_names": "", "keep_online": "on"}
    assert admin.client.post(f"/accounts/{account.pk}/edit/", typed).status_code == 302


def by_admin_form(account, team, admin) -> None:
    sent = {"label": account.label, "team": team.pk, "keep_online": "on"}
    assert admin.client.post(f"/admin/accounts/account/{account.pk}/change/", sent).status_code == 302


def by_bulk(account, team, admin) -> None:
    mine = Account.objects.filter(pk=account.pk)
    execute.go_on(runs.start(admin, BulkAction.TEAM, {"team": team.pk}, mine).pk)


def by_import(account, team, admin) -> None:
    table = Table(["Label", "Team"], {2: [account.label, team.name]})
    assert import_save.save(Import(admin, table, ["label", "team"]))


def with_a_lost_event(account, team, _admin) -> None:
    left = account.team_id
    Account.objects.filter(pk=account.pk).update(team=team)
    row = AccountEvent(account=account, happened=EventType.CHANGED, left_team=left)
    AccountEvent.objects.bulk_create([row])


WAYS = (by_form, by_admin_form, by_bulk, by_import, with_a_lost_event)


def moved(way, account, team, admin) -> None:
    try:
        way(account, team, admin)
        assert Account.objects.get(pk=account.pk).team == team
    finally:
        connections.close_all()


def test_whichever_way_an_account_changes_team_both_teams_hear_of_it(committed, monkeypatch):
    monkeypatch.setattr(sse, "POLL_SECONDS", 0.05)
    ways = {committed.account(label=way.__name__).pk: way for way in WAYS}

    async def story():
        mate, stranger = await Stream.of(committed.mate), await Stream.of(committed.stranger)
        await polled()
        for account in await asyncio.to_thread(lambda: list(Account.objects.order_by("pk"))):
            way = ways[account.pk]
            await asyncio.to_thread(moved, way, account, committed.west, committed.admin)
            for stream in (mate, stranger):
                assert (await stream.heard())[1]["account"] == account.pk, way.__name__

    asyncio.run(story())


def test_the_pages_of_a_team_learn_of_its_deletion(committed, monkeypatch):
    """Also those of who sees all accounts: they show the team."""
    monkeypatch.setattr(sse, "RIGHTS_SECONDS", 0.05)
    account = committed.account()

    def delete() -> None:
        try:
            answer = committed.admin.client.post(f"/people/teams/{committed.east.pk}/delete/", {"sure": "1"})
            assert answer.status_code == 302
        finally:
            connections.close_all()

    async def story():
        admin, mate = await Stream.of(committed.admin), await Stream.of(committed.mate)
        await asyncio.to_thread(delete)
        async with asyncio.timeout(DEADLINE):
            while (await admin.heard())[1]["account"] != account.pk:
                pass  # of a test before this one
        assert (await mate.message())[0] in ("change", "relook")
        reader = next(reader for reader in sse._hub.readers if reader.user_id == committed.mate.pk)
        async with asyncio.timeout(DEADLINE):
            while reader.teams:
                await asyncio.sleep(0.01)

    asyncio.run(story())


# --- a stream that continues another one --------------------------------------------------------------


@pytest.fixture
def quickly(monkeypatch):
    """Rows count as passed on at the second poll, and streams are pinged often."""
    monkeypatch.setattr(sse, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(sse, "PING_SECONDS", 0.3)
    monkeypatch.setattr(changes, "COMMIT_SECONDS", -1)


async def text_with(stream: Stream, words: str) -> str:
    """The first text of the stream that contains them."""
    while words not in (text := (await asyncio.wait_for(anext(stream.messages), DEADLINE)).decode()):
        pass
    return text


async def interrupted(user) -> str:
    """The last ID that a browser has when its stream is cut."""
    stream = await Stream.of(user)
    text = await text_with(stream, "-")
    await stream.messages.aclose()
    return re.match(r"id: (\S+)\nevent: ping\n", text)[1]


async def continued(user, last_id: str, how: str = "header") -> str:
    """All but pings that a stream which continues another one is sent until its page knows what it missed."""
    named = (
        {"headers": {"Last-Event-ID": last_id}} if how == "header" else {"query_params": {"last": last_id}}
    )
    stream = Stream(await (await client_for(user)).get("/events/", **named))
    sent = [(await anext(stream.messages)).decode().partition("\n")[2]]
    reader = max(sse._hub.readers, key=lambda reader: reader.number)
    async with asyncio.timeout(DEADLINE):
        while reader.last_id:
            await asyncio.sleep(0.01)
        reader.put(None)
        sent += [text.decode() async for text in stream.messages]
    return re.sub(r"(id: \S+\n)?event: ping\ndata: {}\n\n", "", "".join(sent)).strip()


@pytest.mark.parametrize("how", ["header", "address"])
@pytest.mark.slow
def test_a_page_is_told_what_it_missed_and_reloads_nothing(committed, quickly, how):
    ours, theirs = committed.account(), committed.account(team=committed.west)

    async def story():
        last_id = await interrupted(committed.operator)
        assert await continued(committed.operator, last_id, how) == ""
        await asyncio.to_thread(unpublished, theirs)
        await change(ours)
        missed = {"account": ours.pk, "attempt": None, "state": "new"}
        told = f"event: change\ndata: {json.dumps(missed)}"
        for _ in range(2):  # perhaps told twice: as missed, and when Redis brings it
            assert set((await continued(committed.operator, last_id, how)).split("\n\n")) == {told}
        await asyncio.to_thread(moved, with_a_lost_event, ours, committed.west, None)
        assert "event: change" in await continued(committed.operator, last_id, how)

    asyncio.run(story())


@pytest.mark.parametrize(
    "why", ["teams", "alarm", "alone", "many", "forgotten", "unknown", "another person", "note", "restored"]
)
@pytest.mark.slow
def test_a_page_reloads_if_the_rows_do_not_tell_all_that_it_missed(committed, quickly, monkeypatch, why):
    account = committed.account()

    def happens():
        try:
            if why == "teams":
                committed.operator.groups.add(committed.west)
            elif why == "alarm":
                access = {"base_url": django_settings.WK_BASE_URL, "account": django_settings.WK_ACCOUNT}
                UpstreamAccess.objects.update_or_create(**access, defaults={"refused_at": timezone.now()})
            elif why == "alone":
                make_attempt(account, queued_at=timezone.now() - timezone.timedelta(seconds=6))
            elif why == "note":
                noted(account)
            elif why == "restored":  # a backup of an earlier moment took the place of the database
                AccountEvent.objects.all().delete()
                sse._hub.rows = changes.Rows()  # as web begins after a restore
            elif why in ("many", "forgotten"):
                monkeypatch.setattr(
                    *((sse, "MISSED_MOST", 2) if why == "many" else (changes, "REPLAYED_MOST", 3))
                )
                AccountEvent.objects.bulk_create(
                    AccountEvent(account=account, happened=EventType.CHANGED) for _ in range(4)
                )
        finally:
            connections.close_all()

    async def story():
        if why == "restored":
            await change(account)
        last_id = await interrupted(committed.operator)
        await asyncio.to_thread(happens)
        last_id = f"{last_id[:-8]}00000000" if why == "unknown" else last_id
        person = committed.mate if why == "another person" else committed.operator
        assert "event: relook" in await continued(person, last_id)

    asyncio.run(story())


def test_a_page_reloads_if_what_no_row_tells_was_sent_before_the_interruption(committed, quickly):
    make_attempt(committed.account(), queued_at=timezone.now() - timezone.timedelta(seconds=6))

    async def story():
        stream = await Stream.of(committed.operator)
        assert (await text_with(stream, "event: change")).startswith("id: 0\n")
        assert (await text_with(stream, "event: ping")) == "event: ping\ndata: {}\n\n"

    asyncio.run(story())


def test_a_page_reloads_when_its_teams_change(committed, monkeypatch):
    monkeypatch.setattr(sse, "RIGHTS_SECONDS", 0.05)

    async def story():
        stream = await Stream.of(committed.operator)
        await polled()
        while not all(reader.queue.empty() for reader in sse._hub.readers):
            await stream.message()
        await committed.operator.groups.aadd(committed.west)
        assert (await stream.message()) == ("relook", {"within": 0})

    asyncio.run(story())


# --- outside of Django ----------------------------------------------------------------------------------


class Connection:
    """One request to the whole ASGI application, as a server makes it."""

    def __init__(self, cookie: str, django=None, **scope):
        self.sent: asyncio.Queue = asyncio.Queue()
        self.received: asyncio.Queue = asyncio.Queue()
        self.received.put_nowait({"type": "http.request", "body": b"", "more_body": False})
        headers = [
            (b"host", b"testserver"),
            (b"cookie", f"{django_settings.SESSION_COOKIE_NAME}={cookie}".encode()),
        ]
        self.scope = {
            "type": "http", "method": "GET", "path": "/events/", "raw_path": b"/events/", "query_string": b"",
            "headers": headers, "http_version": "1.1", "scheme": "http", "server": ("testserver", 80),
            "client": ("127.0.0.1", 1), "asgi": {"version": "3.0"}, **scope,
        }  # fmt: skip
        application = connects.outside(django or get_asgi_application())
        self.task = asyncio.create_task(application(self.scope, self.received.get, self.sent.put))

    async def answer(self) -> dict:
        return await asyncio.wait_for(self.sent.get(), DEADLINE)


async def session_of(user) -> str:
    return (await client_for(user)).cookies[django_settings.SESSION_COOKIE_NAME].value


def test_an_open_stream_keeps_no_thread_and_ends_with_its_browser(committed):
    account = committed.account()

    async def story():
        keys = [await session_of(committed.operator) for _ in range(8)]
        before = set(threading.enumerate())
        opened = [Connection(key) for key in keys]
        for connection in opened:
            head = await connection.answer()
            names = dict(head["headers"])
            assert head["status"] == 200 and b"Content-Length" not in names
            assert names[b"Content-Type"] == b"text/event-stream" and names[b"X-Frame-Options"] == b"DENY"
            first = (await connection.answer())["body"].decode()
            low, high = sse.RETRY_MILLISECONDS
            assert low <= int(re.match(r"retry: (\d+)\n", first)[1]) <= high and "event: relook" in first
        async with asyncio.timeout(DEADLINE):
            while any("Executor" in thread.name for thread in set(threading.enumerate()) - before):
                await asyncio.sleep(0.01)
        await change(account)
        for connection in opened:
            while b"event: change" not in (await connection.answer())["body"]:
                pass
            connection.received.put_nowait({"type": "http.disconnect"})
        await asyncio.wait_for(asyncio.gather(*(connection.task for connection in opened)), DEADLINE)
        assert not sse._hub.readers and not +sse._hub.readers.of_user

    asyncio.run(story())


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/events/", 403), ("POST", "/events/", 403), ("GET", "/login/", 200)],
)
def test_everything_else_is_djangos(committed, method, path, status):
    async def story():
        connection = Connection("none", method=method, path=path)
        assert (await connection.answer())["status"] == status
        await asyncio.wait_for(connection.task, DEADLINE)

    asyncio.run(story())


def test_a_head_request_asks_which_answer_it_would_be(committed):
    async def story():
        assert (await (await client_for(committed.operator)).head("/events/")).status_code == 200
        assert (await AsyncClient().head("/events/")).status_code == 403
        assert not sse._hub.readers

    asyncio.run(story())


def test_after_the_first_stream_django_is_asked_only_where_the_answer_is_no(committed, monkeypatch):
    monkeypatch.setattr(sse, "STREAMS_PER_USER", 2)
    asked = []
    django = get_asgi_application()

    async def counting(scope, receive, send):
        asked.append(scope["path"])
        await django(scope, receive, send)

    async def story():
        key = await session_of(committed.operator)
        first, second = [await opened(key, counting) for _ in range(2)]
        assert first["headers"] == second["headers"] and second["status"] == 200
        assert len(asked) == 1
        for cookie, status in ((key, 503), ("none", 403)):
            assert (await opened(cookie, counting))["status"] == status
        assert (await opened(await session_of(committed.mate), counting, host=b"evil.example"))[
            "status"
        ] == 400
        assert len(asked) == 4

    asyncio.run(story())


async def opened(key: str, django, host: bytes = b"testserver") -> dict:
    """The head of the answer to a browser's request for a stream."""
    cookie = f"{django_settings.SESSION_COOKIE_NAME}={key}".encode()
    connection = Connection("", django, headers=[(b"host", host), (b"cookie", cookie)])
    return await connection.answer()
