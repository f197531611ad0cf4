"""Ended days are kept, and what reports count stays that of the rows."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from django.db import DatabaseError

from accounts.models import Account, Drop, LoginAttempt, ReportDay
from accounts.reports.figures import Figures
from accounts.reports.history import History
from accounts.states import AttemptState
from tests.support.factories import make_attempt

NOW = datetime(2026, 11, 20, 4, 30, tzinfo=UTC)
DAY = timedelta(days=1)


def happen(account, when: datetime, state: str = AttemptState.SUCCEEDED) -> None:
    """A login and a drop."""
    make_attempt(account, state, created_at=when, qr_shown_at=when - timedelta(seconds=9))
    Drop.objects.create(account=account, at=when, ended_at=when, next_at=None, w_id="w")


def numbers(now: datetime = NOW, accounts=None) -> tuple[int, int]:
    """Logins that ended and drops of the last 30 days, as reports say."""
    figures = Figures(History(now), ZoneInfo("Asia/Shanghai"), accounts)
    logins = sum(day.succeeded + day.other for day in figures.success())
    return logins, sum(bar.drops for bar in figures.drops_by_hour())


def test_ended_days_are_read_once(people, django_assert_num_queries):
    account = people.account()
    for days in (0, 1, 5, 29):
        happen(account, NOW - days * DAY)
    assert numbers() == (4, 4)
    for _again in range(2):
        # For both kinds: what is kept, the number of its rows, the rows of today.
        with django_assert_num_queries(6):
            assert numbers() == (4, 4)
    happen(account, NOW)
    assert numbers() == (5, 5)


def test_accounts_that_changed_their_team_are_counted_for_the_new_one(people):
    account, other = people.account(), people.account()
    happen(account, NOW - 3 * DAY)
    happen(other, NOW - 3 * DAY)
    operator, stranger = (Account.objects.visible_to(who) for who in (people.operator, people.stranger))
    assert (numbers(accounts=operator), numbers(accounts=stranger)) == ((2, 2), (0, 0))
    Account.objects.filter(pk=account.pk).update(team=people.west)
    assert (numbers(accounts=operator), numbers(accounts=stranger)) == ((1, 1), (1, 1))


def test_deleted_and_late_rows_are_noticed(people):
    account, other = people.account(), people.account()
    for days in (2, 3, 4):
        happen(account, NOW - days * DAY)
        happen(other, NOW - days * DAY)
    assert numbers() == (6, 6)
    account.delete()
    assert numbers() == (3, 3)
    happen(other, NOW - 9 * DAY)
    assert numbers() == (4, 4)


def test_a_login_that_is_in_progress_at_midnight_is_counted_by_how_it_ends(people):
    midnight = datetime(2026, 11, 19, tzinfo=UTC)
    happen(people.account(), midnight - timedelta(seconds=1), AttemptState.WAITING)
    for now in (midnight + timedelta(minutes=1), midnight + timedelta(hours=2)):
        assert numbers(now) == (0, 1)
    LoginAttempt.objects.get().move(AttemptState.EXPIRED)
    assert numbers() == (1, 1)


def test_days_that_no_report_needs_are_forgotten(people):
    numbers()
    numbers(NOW + DAY)
    days = set(ReportDay.objects.values_list("day", flat=True))
    assert (min(days), max(days)) == (datetime(2026, 10, 21).date(), NOW.date())
    assert ReportDay.objects.count() == 2 * len(days)


def test_a_database_that_takes_no_rows_still_answers(people, monkeypatch):
    def full(*_args, **_options):
        raise DatabaseError("disk is full")

    happen(people.account(), NOW - 3 * DAY)
    monkeypatch.setattr(ReportDay.objects, "bulk_create", full)
    assert numbers() == numbers() == (1, 1)
    assert not ReportDay.objects.exists()
