"""The reference: an asyncio client that holds the same calls, writes the same rows by plain ORM, and does just this."""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import aiohttp
import django

django.setup()

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from accounts.lib.pubsub import PublishedEvent, publish
from accounts.models import Account, AccountEvent, LoginAttempt
from accounts.upstream.responses import Answer, login_answer
from bench.processes import answer_requests_async

WRITERS = ThreadPoolExecutor(8)


class Client:
    def __init__(self, session: aiohttp.ClientSession):
        self.session, self.running = session, set()

    def begin(self, logins: list[tuple[int, int, str]]) -> None:
        """Begin these: (id of the attempt, id of the account, wId)."""
        for attempt_id, account_id, w_id in logins:
            ids = {"attempt_id": attempt_id, "account_id": account_id}
            task = asyncio.create_task(self.log_in(ids, w_id))
            self.running.add(task)
            task.add_done_callback(self.running.discard)

    async def log_in(self, ids: dict[str, int], w_id: str) -> None:
        run = asyncio.get_running_loop().run_in_executor
        await run(WRITERS, claim, ids)
        async with self.session.post("/getIPadLoginInfo", json={"wId": w_id}) as response:
            answer = await response.json()
        await run(WRITERS, succeed, ids, Answer(answer["code"], answer["message"], answer["data"]))


def claim(ids: dict[str, int]) -> None:
    with transaction.atomic():
        held = {
            "lease_owner": "reference",
            "lease_epoch": F("lease_epoch") + 1,
            "wait_started_at": timezone.now(),
        }
        LoginAttempt.objects.filter(pk=ids["attempt_id"], state="waiting", lease_owner="").update(**held)
        claimed = AccountEvent.objects.create(happened="wait_taken", **ids)
    publish([published(claimed, "waiting")])


def succeed(ids: dict[str, int], answer: Answer) -> None:
    now, profile = timezone.now(), login_answer(answer).profile
    with transaction.atomic():
        LoginAttempt.objects.filter(pk=ids["attempt_id"], state="waiting").update(
            state="succeeded", ended_at=now, w_id=profile.w_id, reason="", upstream_code=answer.code,
            upstream_text=answer.text, qr_text="", qr_png=None, page_url="", verify_code="", lease_owner="",
        )  # fmt: skip
        states = {"from_state": "waiting", "to_state": "succeeded", "detail": answer.text}
        moved = AccountEvent.objects.create(happened="attempt_moved", at=now, **states, **ids)
        Account.objects.filter(pk=ids["account_id"], bound_seq__lt=1).update(
            bound_seq=1, state="online", state_since=now, checked_at=now, last_login_at=now,
            first_login_at=now, relogin_at=None, merged_into=None, proxy=1, **asdict(profile),
        )  # fmt: skip
        states = {"from_state": "offline", "to_state": "online"}
        online = AccountEvent.objects.create(happened="account_online", at=now, **states, **ids)
    publish([published(event, "succeeded") for event in (moved, online)])


def published(event: AccountEvent, state: str) -> PublishedEvent:
    return PublishedEvent(event.pk, event.account_id, None, event.attempt_id, state)


async def main() -> None:
    connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=None)
    headers, url = {"Authorization": os.environ["WK_AUTHORIZATION"]}, os.environ["WK_BASE_URL"]
    async with aiohttp.ClientSession(url, connector=connector, timeout=timeout, headers=headers) as session:
        await answer_requests_async(Client(session))


asyncio.run(main())
