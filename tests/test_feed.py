"""The event stream: who hears what, and when a stream ends. Messages are pulled from the real generator."""

import asyncio
import json

import pytest
from django.db import connections
from django.test import AsyncClient

from accounts import events, feed
from accounts.history import record
from accounts.states import Happened

BACKEND = "django.contrib.auth.backends.ModelBackend"


@pytest.fixture(autouse=True)
def nobody_reads():
    feed._hub.readers.clear()
    yield
    feed._hub.readers.clear()


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
        async with asyncio.timeout(10):
            while (await asyncio.to_thread(events._client().pubsub_numsub, events.CHANNEL))[0][1] != 1:
                await asyncio.sleep(0.01)
        return stream

    async def message(self) -> tuple[str, dict]:
        text = (await asyncio.wait_for(anext(self.messages), 10)).decode()
        lines = dict(line.split(": ", 1) for line in text.strip().splitlines() if ": " in line)
        return lines.get("event", ""), json.loads(lines.get("data", "{}"))

    async def heard(self) -> tuple[str, dict]:
        """The next message that is more than "look again"."""
        while (message := await self.message())[0] == "relook":
            pass
        return message

    async def end(self) -> None:
        with pytest.raises(StopAsyncIteration):
            while True:
                await asyncio.wait_for(anext(self.messages), 10)


async def ring(account) -> int:
    return await asyncio.to_thread(ring_now, account)


def ring_now(account) -> int:
    try:
        return record(account, Happened.CHANGED).pk
    finally:
        connections.close_all()


def test_who_may_see_an_account_hears_of_it_and_a_stranger_does_not(committed):
    ours, theirs = committed.account(), committed.account(team=committed.west)

    async def story():
        mate, stranger, admin = [
            await Stream.of(u) for u in (committed.mate, committed.stranger, committed.admin)
        ]
        await ring(ours)
        await ring(theirs)
        assert await mate.heard() == ("change", {"account": ours.pk, "attempt": None, "state": "new"})
        assert await stranger.heard() == ("change", {"account": theirs.pk, "attempt": None, "state": "new"})
        assert [(await admin.heard())[1]["account"] for _ in range(2)] == [ours.pk, theirs.pk]

    asyncio.run(story())


def test_a_message_has_ids_and_a_state_and_nothing_else(committed):
    account = committed.account(label="Secret label", nickname="小诺", wc_id="wxid_1", w_id="w-1")

    async def story():
        stream = await Stream.of(committed.operator)
        number = await ring(account)
        while "relook" in (text := (await asyncio.wait_for(anext(stream.messages), 10)).decode()):
            pass
        assert (
            text
            == f'id: {number}\nevent: change\ndata: {{"account": {account.pk}, "attempt": null, "state": "online"}}\n\n'
        )

    asyncio.run(story())


@pytest.mark.parametrize("loss", ["session", "role", "active"])
def test_a_stream_ends_when_its_right_ends(committed, loss, monkeypatch):
    monkeypatch.setattr(feed, "RIGHTS_SECONDS", 0.05)

    async def story():
        client = await client_for(committed.operator)
        stream = Stream(await client.get("/events/"))
        if loss == "session":
            await client.alogout()
        elif loss == "role":
            await committed.operator.groups.aclear()
        else:
            committed.operator.is_active = False
            await committed.operator.asave()
        await stream.end()
        assert (await client.get("/events/")).status_code == 403

    asyncio.run(story())


def test_a_team_that_is_left_is_heard_of_no_more(committed, monkeypatch):
    monkeypatch.setattr(feed, "RIGHTS_SECONDS", 0.05)
    account = committed.account()

    async def story():
        _open = await Stream.of(committed.operator)
        await committed.operator.groups.aremove(committed.east)
        reader = next(iter(feed._hub.readers))
        async with asyncio.timeout(5):
            while reader.teams and committed.east.pk in reader.teams:
                await asyncio.sleep(0.01)
        assert reader.may_see(events.Ring(1, account.pk, committed.east.pk, None, "new")) is False

    asyncio.run(story())


def test_nobody_signed_in_hears_nothing(committed):
    async def story():
        assert (await AsyncClient().get("/events/")).status_code == 403

    asyncio.run(story())


def test_one_person_cannot_take_all_streams(committed, monkeypatch):
    monkeypatch.setattr(feed, "STREAMS_PER_USER", 3)

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
        assert len(streams) == len(feed._hub.readers)
        subscribers = events._client().pubsub_numsub(events.CHANNEL)
        assert subscribers == [(events.CHANNEL.encode(), 1)]

    asyncio.run(story())


def test_a_reader_that_sleeps_is_cut_off_rather_than_kept_in_memory():
    reader = feed._Reader(1, "key", feed.EVERY_TEAM)
    for number in range(feed.QUEUE_SIZE + 1):
        reader.put(f"message {number}")
    assert reader.queue.qsize() == 1
    assert reader.queue.get_nowait() is None


def test_stop_ends_every_stream(committed):
    async def story():
        stream = await Stream.of(committed.operator)
        feed.stop()
        await stream.end()

    asyncio.run(story())


def test_a_doorbell_that_does_not_work_stops_nothing(committed, settings):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    events._client.cache_clear()
    try:
        assert record(committed.account(), Happened.CHANGED).pk
        assert events.ping() is False
    finally:
        events._client.cache_clear()
