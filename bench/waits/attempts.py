"""The login attempts of a run: seeded as waits of known accounts, handed over to a client, counted when they are done."""

import collections
from datetime import datetime, timedelta

import redis
from django.conf import settings
from django.db import connection
from django.utils import timezone

from accounts.lib import images
from accounts.models import Account, AccountEvent, Avatar, LoginAttempt
from bench import upstream_stub

QR_TEXT = "http://weixin.qq.com/x/4f0cXwTQyZb8mJd1kE9a"
# Workers claim waits that no message brought to them, some seconds after they were handed over.
NOT_YET = timedelta(days=1)
IDS = ("id", "account_id", "attempt_id")
COLUMNS = {"nickname": "nickName", "wechat_id": "wAccount", "avatar_url": "smallHeadImgUrl"}
COLUMNS |= {"sex": "sex", "signature": "signature", "mobile": "mobilePhone"}
TABLES = "accounts_account, accounts_loginattempt, accounts_accountevent, accounts_avatar"
# Event rows never change, so the transaction that wrote the event is the one that wrote the success.
COMMITTED = """
    SELECT attempt.w_id, extract(epoch FROM pg_xact_commit_timestamp(event.xmin))::float8
    FROM accounts_accountevent event JOIN accounts_loginattempt attempt ON attempt.id = event.attempt_id
    WHERE event.happened = 'attempt_moved' AND event.to_state = 'succeeded'
"""


def execute(sql: str, *values: str) -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchall() if cursor.description else []


def connections(application: str) -> int:
    sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s AND backend_type = 'client backend'"
    return execute(sql, application)[0][0]


def commit_times() -> dict[str, float]:
    """When the success of each wId was committed, in seconds since 1970."""
    return dict(execute(COMMITTED))


def clear() -> None:
    execute(f"TRUNCATE {TABLES} RESTART IDENTITY CASCADE")
    with redis.Redis.from_url(settings.REDIS_URL) as broker:
        broker.flushall()


def seed(count: int, first: int = 0, warm: bool = False) -> list[int]:
    """Create attempts numbered from `first` and return their ids; what the upstream will say of the accounts is known."""
    now, qr_png = timezone.now(), images.code_png(QR_TEXT)
    w_ids = [upstream_stub.w_id(number, warm) for number in range(first, first + count)]
    accounts = Account.objects.bulk_create(map(known_account, w_ids), batch_size=1000)
    avatars = [Avatar(account=account, png=qr_png, source_url=account.avatar_url) for account in accounts]
    Avatar.objects.bulk_create(avatars, batch_size=1000)
    row = {"state": "waiting", "qr_text": QR_TEXT, "qr_png": qr_png, "seq": 1, "proxy": 1}
    row |= {"sent_at": now, "qr_shown_at": now, "queued_at": now + NOT_YET, "deadline_at": now + NOT_YET}
    pairs = zip(accounts, w_ids, strict=True)
    attempts = [LoginAttempt(account=account, w_id=w_id, **row) for account, w_id in pairs]
    LoginAttempt.objects.bulk_create(attempts, batch_size=1000)
    execute(f"ANALYZE {TABLES}")
    return [attempt.pk for attempt in attempts]


def known_account(w_id: str) -> Account:
    data = upstream_stub.profile(w_id)
    row = {"wc_id": data["wcId"], "state": "offline", "login_seq": 1, "proxy": 1}
    return Account(label=w_id, **row, **profile_columns(data))


def profile_columns(data: dict) -> dict[str, object]:
    region = f"{data['country']} {data['city']}"
    return {column: data[name] for column, name in COLUMNS.items()} | {"region": region}


def hand_over(ids: list[int]) -> None:
    """Mark them as queued, as the web process does before it sends the messages."""
    LoginAttempt.objects.filter(pk__in=ids).update(queued_at=timezone.now())


def logins(ids: list[int]) -> list[tuple[int, int, str]]:
    attempts = LoginAttempt.objects.filter(pk__in=ids).order_by("pk")
    return list(attempts.values_list("pk", "account_id", "w_id"))


def succeeded(ids: list[int]) -> int:
    return LoginAttempt.objects.filter(pk__range=(ids[0], ids[-1]), state="succeeded").count()


def waits_per_worker(ids: list[int]) -> list[int]:
    held = LoginAttempt.objects.filter(pk__range=(ids[0], ids[-1])).exclude(lease_owner="")
    return sorted(collections.Counter(held.values_list("lease_owner", flat=True)).values())


def columns(attempt_id: int) -> dict[str, object]:
    """What one login wrote, by column; of times and ids only whether they are set."""
    attempt = LoginAttempt.objects.filter(pk=attempt_id).values().get()
    rows = {"attempt": attempt, "account": Account.objects.filter(pk=attempt["account_id"]).values().get()}
    rows |= {event["happened"]: event for event in AccountEvent.objects.filter(attempt=attempt_id).values()}
    return {
        f"{title}.{name}": value is not None if isinstance(value, datetime) or name in IDS else value
        for title, row in rows.items()
        for name, value in row.items()
    }
