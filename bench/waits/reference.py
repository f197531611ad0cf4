"""The reference: an asyncio client that holds the same calls, and writes the same rows as the product, by plain ORM.

It does just this: no queue, no leases, no recovery, no retries.
"""

import asyncio
import concurrent.futures
import json
import os

import aiohttp
import django

django.setup()

import redis
from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from accounts.lib.pubsub import CHANNEL
from accounts.models import Account, AccountEvent, LoginAttempt
from bench.processes import answer_requests_async
from bench.waits.attempts import profile_columns

THREADS = 8
_redis = redis.Redis.from_url(settings.REDIS_URL)


class Client:
    def __init__(self, session: aiohttp.ClientSession):
        self.session, self.pool = session, concurrent.futures.ThreadPoolExecutor(THREADS)
        self.running: set[asyncio.Task] = set()

    async def begin(self, logins: list[tuple[int, int, str]]) -> None:
        """Begin these: (id of the attempt, id of the account, wId)."""
        for login in logins:
            task = asyncio.create_task(self.log_in(*login))
            self.running.add(task)
            task.add_done_callback(self.running.discard)

    async def log_in(self, attempt_id: int, account_id: int, w_id: str) -> None:
        await self.in_pool(claim, attempt_id, account_id)
        async with self.session.post("/getIPadLoginInfo", json={"wId": w_id}) as response:
            answer = await response.json(content_type=None)
        await self.in_pool(succeed, attempt_id, account_id, answer)

    async def in_pool(self, step, *args):
        return await asyncio.get_running_loop().run_in_executor(self.pool, step, *args)


def claim(attempt_id: int, account_id: int) -> None:
    now = timezone.now()
    with transaction.atomic():
        held = {"lease_owner": "reference", "lease_epoch": F("lease_epoch") + 1, "wait_started_at": now}
        LoginAttempt.objects.filter(pk=attempt_id, state="waiting", lease_owner="").update(**held)
        claimed = record("wait_taken", "waiting", attempt_id, account_id, now)
    _redis.publish(CHANNEL, claimed)


def succeed(attempt_id: int, account_id: int, answer: dict) -> None:
    now, data = timezone.now(), answer["data"]
    with transaction.atomic():
        LoginAttempt.objects.filter(pk=attempt_id, state="waiting").update(
            state="succeeded", ended_at=now, w_id=data["wId"], reason="", upstream_code=answer["code"],
            upstream_text=answer["message"], qr_text="", qr_png=None, page_url="", verify_code="", lease_owner="",
        )  # fmt: skip
        states = {"from_state": "waiting", "to_state": "succeeded", "detail": answer["message"]}
        moved = record("attempt_moved", "succeeded", attempt_id, account_id, now, **states)
        Account.objects.filter(pk=account_id, bound_seq__lt=1).update(
            wc_id=data["wcId"], w_id=data["wId"], bound_seq=1, state="online", state_since=now,
            checked_at=now, last_login_at=now, first_login_at=now, relogin_at=None, merged_into=None, proxy=1,
            **profile_columns(data),
        )  # fmt: skip
        states = {"from_state": "offline", "to_state": "online"}
        online = record("account_online", "succeeded", attempt_id, account_id, now, **states)
    for event in (moved, online):
        _redis.publish(CHANNEL, event)


def record(happened: str, state: str, attempt_id: int, account_id: int, now, **more: str) -> str:
    """Write an event row; return what is published of it."""
    ids = {"account_id": account_id, "attempt_id": attempt_id}
    event = AccountEvent.objects.create(happened=happened, at=now, **ids, **more)
    return json.dumps(
        {"id": event.pk, "account": account_id, "team": None, "attempt": attempt_id, "state": state}
    )


async def main() -> None:
    connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=None)
    headers, url = {"Authorization": os.environ["WK_AUTHORIZATION"]}, os.environ["WK_BASE_URL"]
    async with aiohttp.ClientSession(url, connector=connector, timeout=timeout, headers=headers) as session:
        await answer_requests_async(Client(session))


if __name__ == "__main__":
    asyncio.run(main())
