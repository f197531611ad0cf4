"""PostgreSQL whose oldest snapshot is held, by a dump or an idle transaction elsewhere: no version of a row is removed."""

from datetime import timedelta

import psycopg
import pytest
import time_machine
from django.db import connection
from django.utils import timezone

from accounts import tasks
from accounts.lib.lists.keyset_pagination import PER_PAGE
from accounts.logins import expire, leases
from accounts.models import Account, LoginAttempt
from accounts.presence import sweep
from accounts.realtime import changes
from accounts.states import AttemptState
from tests.support import environment
from tests.support.factories import make_account, make_attempt

pytestmark = [pytest.mark.database("postgres"), pytest.mark.slow]
# An hour in a shorter form: of a worker's renewals a third, of the checks a third, every account logs in.
ACCOUNTS, CHECKS, RENEWALS, LOGINS, OLD_LOGINS = 400, 20, 400, 400, 4000

# Blocks. Some steps read hardly any, and for each account that a page shows it reads the versions that its login left.
A_FEW = 5
SHOWN = {"list": PER_PAGE}
# A check reads every online account, and a login leaves a second version of its account. How many of them share a
# block depends on what the table held before.
VERSIONS = {"presence check": 2}


@pytest.fixture
def held_snapshot(committed):
    """Call it to hold the snapshot of this moment until the test ends."""
    with psycopg.connect(environment.database_url) as other:
        other.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        yield lambda: other.execute("SELECT 1")
        other.rollback()


def blocks(step) -> int:
    """How many blocks of tables and indexes a step reads, from memory or disk."""

    def so_far() -> int:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_stat_force_next_flush()")
            cursor.execute(
                "SELECT sum(coalesce(heap_blks_hit, 0) + coalesce(heap_blks_read, 0)"
                " + coalesce(idx_blks_hit, 0) + coalesce(idx_blks_read, 0)) FROM pg_statio_user_tables"
            )
            return int(cursor.fetchone()[0])

    before = so_far()
    step()
    return so_far() - before


def log_in_and_end(account: Account) -> None:
    """The writes of a login: claimed, decided."""
    attempt = make_attempt(account, queued_at=timezone.now() - timedelta(seconds=5))
    with leases.take(attempt.pk):
        attempt.refresh_from_db()
        attempt.move(AttemptState.CANCELLED)


def test_what_runs_all_the_time_costs_no_more_after_many_writes(held_snapshot, holder, committed, upstream):
    leases.begin()
    accounts = []
    for number in range(ACCOUNTS):
        w_id = upstream.person(f"wxid_{number}", online=True)["wId"]
        accounts.append(make_account(wc_id=f"wxid_{number}", w_id=w_id, state="online", team=committed.east))
    client = committed.operator.client
    steps = {
        "presence check": sweep.check,
        "claim": leases.claim_orphaned,
        "overdue": expire.end_overdue,
        "what is due": lambda: tasks.find_due(timezone.now()),
        "logins without a worker": lambda: changes.alone(timezone.now()),
        "list": lambda: client.get("/accounts/"),
        "account": lambda: client.get(f"/accounts/{accounts[0].pk}/"),
    }
    past = timezone.now() - timedelta(days=1)
    ended = {
        "state": AttemptState.CANCELLED,
        "created_at": past,
        "deadline_at": past,
        "ended_at": past,
    }
    # The last login of each account did not succeed, before as after: as many questions are asked about them.
    LoginAttempt.objects.bulk_create(
        LoginAttempt(account=accounts[n % ACCOUNTS], seq=n // ACCOUNTS, **ended) for n in range(OLD_LOGINS)
    )
    Account.objects.update(login_seq=(OLD_LOGINS - 1) // ACCOUNTS)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
    for step in steps.values():
        step()
    before = {name: min(blocks(step) for _ in range(3)) for name, step in steps.items()}
    held_snapshot()
    for account in accounts[:LOGINS]:
        log_in_and_end(account)
    for _ in range(RENEWALS):
        holder.renew()
    for _ in range(CHECKS):
        sweep.check()
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    with time_machine.travel(timezone.now() + timedelta(hours=1)):
        for step in steps.values():
            step()
        after = {name: min(blocks(step) for _ in range(3)) for name, step in steps.items()}
    most = {
        name: 1.5 * VERSIONS.get(name, 1) * read + A_FEW * SHOWN.get(name, 1) for name, read in before.items()
    }
    assert {name for name in before if after[name] > most[name]} == set(), f"{before}, {after}"
