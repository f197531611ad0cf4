"""The rows of a login, written by the reference as the ORM offers it: the same rows and rings as the product's."""

# ruff: noqa: E402 - Django has to be set up before its models can be imported
import json

import django

django.setup()

import redis
from django.conf import settings
from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone

from accounts.lib.pubsub import CHANNEL
from accounts.models import Account, AccountEvent, LoginAttempt
from accounts.states import AccountState, AttemptState, EventType

_redis = redis.Redis.from_url(settings.REDIS_URL)


def waiting() -> list[tuple[int, int, str]]:
    """(attempt's id, account's id, wId) of every wait that was put out and that nobody has taken."""
    rows = LoginAttempt.objects.filter(
        state=AttemptState.WAITING, lease_owner="", queued_at__lte=timezone.now()
    )
    found = list(rows.order_by("pk").values_list("pk", "account_id", "w_id"))
    connection.close()
    return found


def take(attempt_id: int, account_id: int) -> None:
    now = timezone.now()
    with transaction.atomic():
        LoginAttempt.objects.filter(pk=attempt_id, state=AttemptState.WAITING, lease_owner="").update(
            lease_owner="bare",
            lease_epoch=F("lease_epoch") + 1,
            wait_started_at=now,
        )
        event = _event(EventType.WAIT_TAKEN, attempt_id, account_id, now)
    _ring(event, AttemptState.WAITING)


def finish(attempt_id: int, account_id: int, answer: dict) -> None:
    now, data = timezone.now(), answer["data"]
    with transaction.atomic():
        rows = LoginAttempt.objects.filter(pk=attempt_id, state=AttemptState.WAITING).update(
            state=AttemptState.SUCCEEDED, ended_at=now, w_id=data["wId"], reason="", upstream_code=answer["code"],
            upstream_text=answer["message"], qr_text="", qr_png=None, page_url="", verify_code="", lease_owner="",
        )  # fmt: skip
        if not rows:
            return
        moved = _event(
            EventType.ATTEMPT_MOVED, attempt_id, account_id, now,
            from_state=AttemptState.WAITING, to_state=AttemptState.SUCCEEDED, detail=answer["message"],
        )  # fmt: skip
        Account.objects.filter(pk=account_id, bound_seq__lt=1).update(
            wc_id=data["wcId"], w_id=data["wId"], bound_seq=1, state=AccountState.ONLINE, state_since=now,
            verified_at=now, last_login_at=now, first_login_at=now, relogin_at=None, merged_into=None, proxy=1,
            nickname=data["nickName"], wechat_number=data["wAccount"], avatar_url=data["smallHeadImgUrl"],
            sex=data["sex"], region=f"{data['country']} {data['city']}", signature=data["signature"],
            mobile=data["mobilePhone"],
        )  # fmt: skip
        online = _event(
            EventType.ACCOUNT_ONLINE, attempt_id, account_id, now,
            from_state=AccountState.OFFLINE, to_state=AccountState.ONLINE,
        )  # fmt: skip
    _ring(moved, AttemptState.SUCCEEDED)
    _ring(online, AttemptState.SUCCEEDED)


def _event(happened: str, attempt_id: int, account_id: int, now, **more: str) -> AccountEvent:
    return AccountEvent.objects.create(
        account_id=account_id, attempt_id=attempt_id, happened=happened, at=now, **more
    )


def _ring(event: AccountEvent, state: str) -> None:
    ring = {
        "id": event.pk,
        "account": event.account_id,
        "team": None,
        "attempt": event.attempt_id,
        "state": state,
    }
    _redis.publish(CHANNEL, json.dumps(ring))
