"""The rows that waits begin from and end in: accounts that were online before, each with a code just shown.

Needs Django's settings, so it is imported once the rig stands.
"""

import collections
import io
from datetime import datetime, timedelta

import redis
from django.conf import settings
from django.db import connection
from django.utils import timezone

from accounts.lib import images
from accounts.models import Account, AccountEvent, Avatar, LoginAttempt
from accounts.states import AccountState, AttemptState, EventType
from bench import standin

# From the moment at which a worker takes the wait; where it asks for the code, too, there is one more.
EVENTS_PER_LOGIN = (EventType.WAIT_TAKEN, EventType.ATTEMPT_MOVED, EventType.ACCOUNT_ONLINE)
CODE = "http://weixin.qq.com/x/4f0cXwTQyZb8mJd1kE9a"
# Workers look for rows that were handed over some seconds ago, in case their message was lost.
PARKED, OVERDUE = timedelta(days=1), timedelta(seconds=10)
TABLES = "accounts_account, accounts_loginattempt, accounts_accountevent, accounts_avatar"
# An event row never changes: the transaction that wrote it is the one that wrote the login down.
COMMITTED = """
    SELECT attempt.w_id, extract(epoch FROM pg_xact_commit_timestamp(event.xmin))::float8
    FROM accounts_accountevent event JOIN accounts_loginattempt attempt ON attempt.id = event.attempt_id
    WHERE event.happened = 'attempt_moved' AND event.to_state = 'succeeded'
"""


def clear() -> None:
    """An empty database and broker; statistics as after a while, so that plans are those of a running system."""
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {TABLES} RESTART IDENTITY CASCADE")
    with redis.Redis.from_url(settings.REDIS_URL) as broker:
        broker.flushall()


def seed(count: int, first: int = 0, warm: bool = False, shown: bool = True) -> list[int]:
    """Open attempts numbered from `first`, of accounts that the upstream tells nothing new about; their ids.

    Their code is shown already, or still has to be asked for. No worker looks for them before `put_out`.
    """
    now = timezone.now()
    picture = io.BytesIO()
    images.draw_code(CODE).resize((300, 300)).save(picture, "PNG")
    code, png = images.read_code(picture.getvalue())
    accounts = Account.objects.bulk_create([_account(first + n, warm) for n in range(count)], batch_size=1000)
    Avatar.objects.bulk_create(
        [Avatar(account=account, png=png, source_url=account.avatar_url) for account in accounts],
        batch_size=1000,
    )
    showing = {
        "state": AttemptState.WAITING,
        "qr_text": code,
        "qr_png": png,
        "sent_at": now,
        "qr_shown_at": now,
    }
    attempts = [
        LoginAttempt(
            account=account,
            seq=1,
            proxy=1,
            w_id=standin.w_id(first + n, warm) if shown else "",
            created_at=now,
            queued_at=now + PARKED,
            deadline_at=now + timedelta(seconds=settings.WK_LOGIN_WAIT_SECONDS),
            **(showing if shown else {}),
        )
        for n, account in enumerate(accounts)
    ]
    LoginAttempt.objects.bulk_create(attempts, batch_size=1000)
    with connection.cursor() as cursor:
        cursor.execute(f"ANALYZE {TABLES}")
    return [attempt.pk for attempt in attempts]


def put_out(ids: list[int], overdue: bool = False) -> None:
    """Now whoever begins logins has handed these over; `overdue`: so long ago that workers look for them."""
    when = timezone.now() - (OVERDUE if overdue else timedelta())
    LoginAttempt.objects.filter(pk__in=ids).update(queued_at=when)


def _account(number: int, warm: bool) -> Account:
    told = standin.profile(standin.w_id(number, warm))
    return Account(
        label=f"Shop {number}",
        wc_id=told["wcId"],
        state=AccountState.OFFLINE,
        login_seq=1,
        proxy=1,
        nickname=told["nickName"],
        wechat_number=told["wAccount"],
        avatar_url=told["smallHeadImgUrl"],
        sex=told["sex"],
        region=f"{told['country']} {told['city']}",
        signature=told["signature"],
        mobile=told["mobilePhone"],
    )


def succeeded(ids: list[int]) -> int:
    found = LoginAttempt.objects.filter(pk__range=(ids[0], ids[-1]), state=AttemptState.SUCCEEDED)
    return found.count()


def commit_times() -> dict[str, float]:
    """wId to the moment, in seconds since 1970, at which its success was committed."""
    with connection.cursor() as cursor:
        cursor.execute(COMMITTED)
        return dict(cursor.fetchall())


def events(ids: list[int]) -> dict[tuple[str, str], int]:
    """How many event rows of each kind those attempts have: {(what happened, to state): number}."""
    rows = AccountEvent.objects.filter(attempt__pk__range=(ids[0], ids[-1]))
    return collections.Counter(rows.values_list("happened", "to_state"))


def holders(ids: list[int]) -> dict[str, int]:
    """How many of those waits each worker process holds."""
    rows = LoginAttempt.objects.filter(pk__range=(ids[0], ids[-1]), state=AttemptState.WAITING)
    return collections.Counter(rows.exclude(lease_owner="").values_list("lease_owner", flat=True))


def looks(ids: list[int]) -> dict[str, object]:
    """What the first of those logins left in its rows; of times and names only whether they are there."""
    attempt = LoginAttempt.objects.filter(pk=ids[0]).values().get()
    account = Account.objects.filter(pk=attempt["account_id"]).values().get()
    events = AccountEvent.objects.filter(attempt=ids[0]).order_by("happened").values()
    found = {}
    for title, row in (("attempt", attempt), ("account", account), *((e["happened"], e) for e in events)):
        for name, value in row.items():
            own = isinstance(value, datetime) or name in ("id", "account_id", "attempt_id")
            found[f"{title}.{name}"] = value is not None if own else value
    return found
