"""Old history goes, in small batches; what pages, reports and open pages read stays whole."""

from datetime import timedelta
from io import StringIO

import pytest
from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.conf import settings
from django.contrib.admin.models import CHANGE, LogEntry
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import tasks
from accounts.maintenance import retention
from accounts.models import (
    Account,
    AccountEvent,
    AuditEntry,
    Avatar,
    BulkItem,
    BulkRun,
    Channel,
    Delivery,
    Drop,
    Incident,
    IncidentNote,
    LoginAttempt,
    Notification,
    PlanResult,
    PlanRun,
    ScanLink,
    ScanLinkOpening,
    ScanRun,
    ScanRunItem,
    SignIn,
    SignInUnlock,
)
from accounts.realtime import changes
from accounts.reports.account_days import month_of
from accounts.reports.figures import Figures
from accounts.reports.history import History
from accounts.states import AccountState, AttemptState
from tests.support.factories import make_attempt
from tests.support.stopped_clock import StoppedClock

NOW = timezone.now()
OLD, LESS_OLD, RECENT = NOW - timedelta(days=401), NOW - timedelta(days=91), NOW - timedelta(days=30)
ATTEMPT = {"created_at": OLD, "ended_at": OLD, "deadline_at": OLD}


@pytest.fixture(autouse=True)
def rests(monkeypatch):
    """The rests between batches, which take no time here."""
    clock = StoppedClock()
    monkeypatch.setattr(retention, "time", clock)
    return clock.slept


def deleted() -> dict[str, int]:
    return {name.removeprefix("accounts."): number for name, number in retention.delete_old(600).items()}


def event(account, at, attempt=None) -> AccountEvent:
    return AccountEvent.objects.create(account=account, attempt=attempt, happened="changed", at=at)


def test_what_is_older_than_its_days_goes_with_what_hangs_on_it_and_nothing_else(people):
    account, person = people.account(state=AccountState.ARCHIVED, state_since=LESS_OLD), people.operator
    kept = make_attempt(account, AttemptState.EXPIRED)
    for at in (OLD, RECENT):
        event(account, at, kept)
        incident = Incident.objects.create(at=at, ended_at=at)
        IncidentNote.objects.create(incident=incident, text="x", at=at)
        Drop.objects.create(account=account, incident=incident, w_id="w", at=at, ended_at=at)
        link = ScanLink.objects.create(
            account=account, token_digest=str(at), expires_at=at, created_at=at, ended_at=at, attempt=kept
        )
        ScanLinkOpening.objects.create(link=link, at=at, address="203.0.113.9")
        AccessLog.objects.create(username="a", ip_address="203.0.113.9")
        AccessFailureLog.objects.create(username="a", ip_address="203.0.113.9")
        AccessAttempt.objects.create(username=str(at), ip_address="203.0.113.9", failures_since_start=1)
        for model in (AccessLog, AccessFailureLog, AccessAttempt):
            model.objects.filter(pk=model.objects.latest("pk").pk).update(attempt_time=at)
        SignIn.objects.create(user=person, session_key=str(at), signed_in_at=at, seen_at=at)
        SignInUnlock.objects.create(at=at, by=person)
        AuditEntry.objects.create(at=at, kind="locked", actor_name="a", way="page")
        LogEntry.objects.log_actions(person.pk, [account], CHANGE, "x", single_object=True)
        LogEntry.objects.filter(pk=LogEntry.objects.latest("pk").pk).update(action_time=at)
    channel = Channel.objects.create(name="c", url="json://example.com/")
    for at in (LESS_OLD, RECENT):
        notification = Notification.objects.create(key=str(at), kind="offline", account=account, at=at)
        Delivery.objects.create(channel=channel, notification=notification)
        for run, item in (
            (PlanRun.objects.create(scheduled_at=at, began_at=at, ended_at=at, plan_name="p"), PlanResult),
            (ScanRun.objects.create(person=person, source="new", seen_at=at), ScanRunItem),
            (BulkRun.objects.create(person=person, action="place", ended_at=at), BulkItem),
        ):
            item.objects.create(run=run, account=account, **({"position": 1} if item is ScanRunItem else {}))
    Avatar.objects.create(account=account, png=b"x", source_url="u")
    Avatar.objects.create(account=people.account(), png=b"x", source_url="u", fetched_at=OLD)
    one_of_each = {
        *(
            "accountevent",
            "drop",
            "incident",
            "scanlink",
            "axes.accesslog",
            "axes.accessfailurelog",
            "signin",
            "signinunlock",
            "auditentry",
        ),
        *("axes.accessattempt", "admin.logentry", "notification", "planrun", "scanrun", "bulkrun", "avatar"),
    }
    assert deleted() == dict.fromkeys(one_of_each, 1)
    hanging = (IncidentNote, ScanLinkOpening, Delivery, PlanResult, ScanRunItem, BulkItem, Avatar)
    assert [model.objects.count() for model in hanging] == [1] * len(hanging)
    assert AccountEvent.objects.get().at == RECENT and Drop.objects.get().incident == Incident.objects.get()
    assert deleted() == {}


def test_the_last_login_of_each_account_and_its_last_success_stay_for_ever(people):
    one, other = people.account(), people.account()
    success = [make_attempt(one, AttemptState.SUCCEEDED, **ATTEMPT) for _n in range(3)][-1]
    failures = [make_attempt(one, AttemptState.FAILED, **ATTEMPT) for _n in range(3)]
    only = make_attempt(other, AttemptState.EXPIRED, **ATTEMPT)
    open_one = make_attempt(people.account(), created_at=OLD)
    for attempt in (success, failures[0]):
        event(one, RECENT, attempt)
    assert deleted() == {"loginattempt": 4}
    assert set(LoginAttempt.objects.all()) == {success, failures[-1], only, open_one}
    # What is younger than the login that it is about stays, without it.
    assert set(AccountEvent.objects.values_list("attempt", flat=True)) == {success.pk, None}
    assert people.operator.client.get(f"/attempts/{only.pk}/").status_code == 200
    assert people.operator.client.get(f"/accounts/{other.pk}/").status_code == 200


def test_what_is_not_over_stays_however_old_it_is(people):
    account = people.account(state=AccountState.OFFLINE, wc_id="wxid_1")
    incident = Incident.objects.create(at=OLD)
    Drop.objects.create(account=account, w_id="w", at=OLD, incident=incident)
    make_attempt(account, created_at=OLD)
    for kind in ("incident", "upstream", "limits"):
        Notification.objects.create(key=kind, kind=kind, at=OLD)
    ScanLink.objects.create(account=account, token_digest="x", expires_at=OLD, created_at=OLD)
    (
        BulkRun.objects.create(action="place", created_at=OLD),
        PlanRun.objects.create(scheduled_at=OLD, began_at=OLD),
    )
    assert deleted() == {}


def test_many_rows_go_in_short_statements_with_a_rest_after_each(people, rests, monkeypatch):
    monkeypatch.setattr(retention, "AT_ONCE", 10)
    account = people.account()
    AccountEvent.objects.bulk_create(
        AccountEvent(account=account, happened="changed", at=OLD + timedelta(hours=n % 7)) for n in range(95)
    )
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert deleted() == {"accountevent": 95}
    deletes = [query["sql"] for query in queries if query["sql"].startswith("DELETE")]
    assert len(rests) == len(deletes) == 10


def test_a_run_ends_at_its_time_and_the_next_goes_on(people, monkeypatch):
    monkeypatch.setattr(retention, "AT_ONCE", 10)
    account = people.account()
    AccountEvent.objects.bulk_create(
        AccountEvent(account=account, happened="changed", at=OLD) for _n in range(25)
    )
    assert retention.delete_old(-1) == {"accounts.accountevent": 10}
    tasks.delete_old_rows()
    assert not AccountEvent.objects.exists()


def test_days_of_0_keep_for_ever(people, settings):
    event(people.account(), OLD)
    settings.RETENTION_DAYS = {**settings.RETENTION_DAYS, "events": 0}
    assert deleted() == {}


def test_the_command_says_what_it_would_delete_and_deletes_it(people):
    account = people.account()
    event(account, OLD), event(account, OLD), event(account, RECENT)
    said = StringIO()
    call_command("prune", dry_run=True, stdout=said)
    assert "events, 400 days: 2 rows of accounts.accountevent would be deleted" in said.getvalue()
    assert "avatars, 90 days: 0 rows of accounts.avatar would be deleted" in said.getvalue()
    assert AccountEvent.objects.count() == 3
    call_command("prune", stdout=said)
    assert "events, 400 days: 2 rows of accounts.accountevent deleted" in said.getvalue()
    assert AccountEvent.objects.get().at == RECENT


def test_every_kind_has_its_days_and_every_name_of_days_is_a_kind():
    assert settings.RETENTION_DAYS.keys() == retention.KINDS.keys()


@pytest.mark.slow
def test_reports_and_open_pages_say_the_same_before_and_after(people):
    """What is deleted is older than all that they read."""
    account = people.account(
        state=AccountState.OFFLINE, wc_id="wxid_1", first_login_at=OLD, last_login_at=OLD
    )
    for at in (OLD, RECENT + timedelta(hours=1)):
        make_attempt(account, AttemptState.SUCCEEDED, created_at=at, qr_shown_at=at, ended_at=at)
        Drop.objects.create(
            account=account, w_id="w", at=at, ended_at=at + timedelta(hours=1), online_since=at
        )
        event(account, at)
    pages = ("/", f"/accounts/{account.pk}/", "/accounts/", "/incidents/")

    def seen() -> tuple:
        figures = Figures(History(timezone.now()), timezone.get_current_timezone(), Account.objects.all())
        month = month_of(account, NOW, timezone.get_current_timezone())
        answers = [people.operator.client.get(page).status_code for page in pages]
        return figures.success(), figures.time_to_scan(), figures.drops_by_proxy(), month.days, answers

    rows = changes.Rows()
    rows.missed(changes.poll(None).ids)
    before = seen()
    assert deleted() == {"accountevent": 1, "loginattempt": 1, "drop": 1}
    assert seen() == before
    assert rows.missed(changes.poll(rows.floor).ids) == []
    newest = event(account, NOW)
    assert rows.missed(changes.poll(rows.floor).ids) == [newest.pk]
