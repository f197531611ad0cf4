"""A simulated week: every account that can be online is online or in the scan queue, and people are notified."""

from collections import Counter, defaultdict
from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db.models import Count

from accounts.models import Account, AccountEvent, Delivery, Drop, Incident, LoginAttempt, PlanResult, PlanRun
from accounts.models.notification import DeliveryState
from accounts.models.recovery_policy import policy_for
from accounts.states import AccountState, DropKind, EventType, Method, NextStep, NotificationKind
from tests.support import environment
from tests.support.simulated_week import (
    BEGINNING,
    DAY,
    PLAN_TIME,
    SEVEN_DAYS,
    TWO_DAYS,
    ZONE,
    Mailbox,
    Week,
    install,
    make_channel,
)

MINUTE = timedelta(minutes=1)


# Minutes of computing, of which the database's part is small: its queries are tested with both elsewhere.
DAYS = [pytest.mark.long] if environment.DATABASE != "sqlite" else []


@pytest.fixture(
    params=[pytest.param(TWO_DAYS, marks=DAYS), pytest.param(SEVEN_DAYS, marks=pytest.mark.long)],
    ids=["days", "a week"],
)
def week(request, transactional_db, monkeypatch, settings):
    settings.WK_PRESENCE_SECONDS = 60
    found = Week(request.param, seed=20260302)
    install(found, monkeypatch)
    found.people(get_user_model().objects, Group.objects.create(name="Shops"))
    mailbox = Mailbox()
    make_channel(mailbox)
    found.process.holder.works = True
    try:
        found.run()
        found.messages = list(mailbox.messages)
        yield found
    finally:
        mailbox.shutdown()
        mailbox.server_close()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_days_of_many_accounts(week):
    everybody_is_accounted_for(week)
    no_cap_was_exceeded(week)
    no_scheduled_time_ran_twice(week)
    the_record_explains_every_account(week)
    people_were_notified_once(week)
    nothing_was_believed_while_the_upstream_was_unreachable(week)


def everybody_is_accounted_for(week):
    states = Counter()
    for account in Account.objects.all():
        drop = account.drops.open().first()
        if account.wc_id in week.phones.there:
            assert (account.state, account.w_id) == (AccountState.ONLINE, week.phones.there[account.wc_id])
            assert drop is None and account.queued_for_scan_at is None
            states["online"] += 1
        elif not account.keep_online:
            assert account.queued_for_scan_at is None and drop.next_at is None
            states["paused"] += 1
        else:
            assert account.state == AccountState.OFFLINE and account.queued_for_scan_at is not None, account
            assert drop.next_step == NextStep.SCAN
            states["to scan"] += 1
    assert (
        states["online"] > 0.7 * week.course.established and states["to scan"] > 2 and states["paused"] > 2
    ), states
    assert not LoginAttempt.objects.open().exists()


def no_cap_was_exceeded(week):
    by_account = defaultdict(list)
    accounts = {account.wc_id: account for account in Account.objects.select_related("policy")}
    for at, wc_id in week.phones.prompts:
        account = accounts[wc_id]
        policy = policy_for(account)
        by_account[wc_id].append(at)
        assert policy.popup and account.keep_online, wc_id
        # It was decided some seconds before it was sent.
        moments = (at, at - timedelta(seconds=15))
        assert any(policy.is_within(moment) and account.is_within(moment) for moment in moments), (wc_id, at)
    assert len(week.phones.prompts) > 0.9 * week.course.established
    for wc_id, times in by_account.items():
        for n, at in enumerate(times):
            assert sum(at - DAY < other <= at for other in times[: n + 1]) <= 3, (wc_id, at)
    times = sorted(at for at, _wc_id in week.phones.prompts)
    begun = sorted(
        LoginAttempt.objects.filter(method=Method.POPUP)
        .exclude(sent_at=None)
        .values_list("sent_at", flat=True)
    )
    assert len(begun) == len(times)  # each attempt prompted once
    reasons = Counter(wc_id for _at, wc_id in week.phones.asked_why)
    asked = defaultdict(list)
    for at, wc_id in week.phones.asked_why:
        assert all(at - before >= timedelta(hours=12) for before in asked[wc_id]), wc_id
        asked[wc_id].append(at)
    assert reasons


def no_scheduled_time_ran_twice(week):
    runs = PlanRun.objects.exclude(plan_name="")
    doubled = runs.values("plan", "scheduled_at").annotate(n=Count("pk")).filter(n__gt=1)
    assert not doubled.exists()
    times = sorted(run.scheduled_at.astimezone(ZONE) for run in runs)
    assert [time.time() for time in times] == [PLAN_TIME] * week.course.days
    assert (
        len({time.date() for time in times}) == week.course.days
    )  # also the one that was missed, when everything ran again
    late = max(runs, key=lambda run: run.began_at - run.scheduled_at)
    assert late.began_at - late.scheduled_at > timedelta(hours=1)
    assert not PlanResult.objects.filter(ended_at=None, run__ended_at__isnull=False).exists()


def the_record_explains_every_account(week):
    for account in Account.objects.all():
        moves = list(
            AccountEvent.objects.filter(account=account, happened__in=MOVES)
            .order_by("id")
            .values_list("happened", flat=True)
        )
        offline = moves.count(EventType.ACCOUNT_OFFLINE)
        assert offline == account.drops.count() == week.dropped[account.wc_id], (account.wc_id, moves)
        state = (
            AccountState.ONLINE
            if account.first_login_at and account.first_login_at < BEGINNING
            else AccountState.NEW
        )
        for move in moves:
            if move == EventType.ACCOUNT_OFFLINE:
                assert state == AccountState.ONLINE
                state = AccountState.OFFLINE
            else:
                state = AccountState.ONLINE
        assert state == account.state
    kinds = Counter(Drop.objects.values_list("kind", flat=True))
    assert kinds[DropKind.FIRST_NIGHT] >= 0.75 * week.course.newcomers and kinds[DropKind.AT_ONCE] >= 2, kinds
    ended = Drop.objects.exclude(ended_at=None)
    assert {Method.QR, Method.POPUP} <= set(ended.values_list("ended_by", flat=True))
    assert not ended.filter(ended_at__lt=BEGINNING).exists()


MOVES = (EventType.ACCOUNT_ONLINE, EventType.ACCOUNT_OFFLINE)


def people_were_notified_once(week):
    sent = Delivery.objects.filter(state=DeliveryState.SENT).select_related("notification__drop")
    assert not Delivery.objects.unsent().filter(next_at__lt=week.at - MINUTE).exists()
    of_kind = defaultdict(Counter)
    for delivery in sent:
        notification = delivery.notification
        of_kind[notification.kind][notification.drop_id or notification.incident_id or -notification.pk] += 1
    for kind, counts in of_kind.items():
        assert max(counts.values()) == 1, kind
    assert len(week.messages) == sent.values("message").distinct().count()

    mass = Incident.objects.get()
    assert (mass.shares, mass.shared) == ("proxy", "3") and abs(mass.at - week.course.mass_drop) < 45 * MINUTE
    assert mass.drops.count() >= 0.8 * week.course.mass
    assert of_kind[NotificationKind.INCIDENT] == {mass.pk: 1} == of_kind[NotificationKind.INCIDENT_OVER]
    alone = {NotificationKind.OFFLINE, NotificationKind.TO_SCAN}
    for drop in Drop.objects.select_related("account"):
        notified = sum(of_kind[kind][drop.pk] for kind in alone)
        if drop.incident_id or not drop.account.keep_online:
            assert notified == 0
        elif drop.account.queued_for_scan_at and drop.ended_at is None:
            assert of_kind[NotificationKind.TO_SCAN][drop.pk] == 1, drop
        elif drop.ended_at and drop.ended_at - drop.at < 3 * MINUTE:
            assert notified == 0, drop
    for text in (message["message"] for message in week.messages):
        assert "wxid_" not in text


def nothing_was_believed_while_the_upstream_was_unreachable(week):
    during = AccountEvent.objects.filter(
        happened=EventType.ACCOUNT_OFFLINE, at__gt=week.course.outage[0], at__lt=week.course.outage[1]
    )
    assert not during.exists()
