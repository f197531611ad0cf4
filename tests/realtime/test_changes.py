"""What open pages are sent without a published event: whose rights end, which rows were missed, who is alone."""

from datetime import timedelta

import pytest
from django.contrib.auth import BACKEND_SESSION_KEY
from django.contrib.auth.models import Permission
from django.contrib.sessions.models import Session
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.attention import assignment
from accounts.lib.pubsub import PublishedEvent
from accounts.models import AccountEvent, Drop, Incident, LoginAttempt, WaitsWorker
from accounts.models.event import record
from accounts.models.signing_in.second_factor import TAKEN
from accounts.realtime import changes
from accounts.states import AttemptState, EventType
from accounts.web.signing_in.second_step import is_required
from tests.support.factories import fresh, make_attempt


def seconds_ago(seconds: float):
    return timezone.now() - timedelta(seconds=seconds)


def key(user) -> str:
    return user.client.session.session_key


# --- rights ---------------------------------------------------------------------------------------------


def test_the_rights_of_many_are_those_of_each_alone(people):
    asleep = people.person("asleep", "operator", people.east)
    asleep.is_active = False
    asleep.save()
    own = people.person("own", team=people.west)
    own.user_permissions.add(Permission.objects.get(codename="view_account"))
    boss = people.person("boss", "admin", people.west)
    half = people.person("half", team=people.east)
    half.user_permissions.add(Permission.objects.get(codename="view_every_account"))
    everybody = [people.operator, people.viewer, people.stranger, people.admin, asleep, own, boss, half]

    rights, sessions = changes.rights(
        {user.pk for user in everybody}, {key(user) for user in everybody} | {"gone"}
    )

    assert sessions == {key(user) for user in everybody}
    for user in everybody:
        fresh = type(user).objects.get(pk=user.pk)
        assert (user.pk in rights) is fresh.has_perm("accounts.view_account"), user
        assert user.pk not in rights or rights[user.pk].auth_hash == fresh.get_session_auth_hash()
    sees_all = {user for user, found in rights.items() if found.teams is changes.EVERY_TEAM}
    assert sees_all == {people.admin.pk, boss.pk}
    assert rights[people.operator.pk].teams == {people.east.pk}
    assert rights[own.pk].teams == {people.west.pk}


def test_thousands_are_asked_about_by_as_many_queries_as_one(people):
    def queries(users):
        with CaptureQueriesContext(connection) as captured:
            changes.rights({user.pk for user in users}, {key(user) for user in users})
        return len(captured)

    few = queries([people.operator])
    assert queries([people.operator, people.mate, people.viewer, people.stranger, people.admin]) == few <= 8


def test_who_is_admitted_is_who_django_lets_in(people):
    def signed_in(name: str, role: str = "viewer", **session) -> str:
        user = people.person(name, role, people.east)
        store = user.client.session
        for field, value in session.items():
            store[field] = value
        store.save()
        return store.session_key

    asleep, password, expired = people.mate, people.stranger, people.viewer
    keys = [key(user) for user in (people.operator, people.admin, asleep, password, expired)]
    keys += [signed_in("no role", ""), signed_in("odd", _auth_user_backend="other.Backend"), "gone", ""]
    keys += [signed_in("hashless", _auth_user_hash="")]
    type(asleep).objects.filter(pk=asleep.pk).update(is_active=False)
    password.set_password("another")
    password.save()
    Session.objects.filter(session_key=key(expired)).update(expire_date=seconds_ago(1))

    found = changes.admitted(keys)

    assert [user and user[0] for user in found] == [people.operator.pk, people.admin.pk, *[None] * 8]
    assert found[0][1] == changes.rights({people.operator.pk}, set())[0][people.operator.pk]


def test_a_session_that_has_yet_to_take_its_second_step_is_not_admitted(people, settings):
    own = people.person("own", "viewer", people.east)
    own.user_permissions.add(Permission.objects.get(codename="manage_people"))
    roles = [people.person(f"a {role}", role, people.east) for role in ("lead", "auditor", "admin")]
    users = [people.operator, people.viewer, people.admin, own, *roles]
    keys = [key(user) for user in users]
    for required in ("off", "admins", "all"):
        settings.REQUIRE_TWO_STEP = required
        found = [bool(each) for each in changes.admitted(keys)]
        assert found == [not is_required(fresh(user)) for user in users], required
        assert sum(found) == {"off": 7, "admins": 2, "all": 0}[required]
    session = people.admin.client.session
    session[TAKEN] = True
    session.save()
    assert [bool(found) for found in changes.admitted(keys)] == [user == people.admin for user in users]


def test_sessions_of_the_sign_in_provider_are_admitted_while_there_is_one(people, settings):
    session = people.operator.client.session
    session[BACKEND_SESSION_KEY] = "accounts.web.signing_in.provider.Backend"
    session.save()
    assert changes.admitted([session.session_key]) == [None]
    settings.AUTHENTICATION_BACKENDS = [
        *settings.AUTHENTICATION_BACKENDS,
        "accounts.web.signing_in.provider.Backend",
    ]
    assert changes.admitted([session.session_key])[0][0] == people.operator.pk


def test_thousands_are_admitted_with_as_many_queries_as_one(people):
    def queries(users):
        with CaptureQueriesContext(connection) as captured:
            assert all(changes.admitted([key(user) for user in users]))
        return len(captured)

    assert queries([people.operator]) == queries([people.operator, people.mate, people.viewer, people.admin])


# --- rows -----------------------------------------------------------------------------------------------


def test_a_row_that_is_committed_late_is_missed_and_one_that_rang_is_not(monkeypatch):
    rows = changes.Rows()
    assert rows.missed([8, 10]) == []
    assert rows.missed([8, 9, 10]) == [9]
    rows.published.add(9)
    assert rows.heard(PublishedEvent(12, 1, 1, None, "new")) is True
    assert rows.heard(PublishedEvent(12, 1, 1, None, "new")) is False
    assert rows.missed([10, 12, 13]) == [13]
    rows.published.update([13])
    assert rows.missed([10, 11, 12, 13]) == [11]
    assert rows.passed_on is None
    monkeypatch.setattr(changes, "COMMIT_SECONDS", -1)
    for _round in range(3):
        rows.missed([11, 12, 13])
    assert rows.floor == rows.passed_on == 13 and rows.published == set()


def test_polling_begins_with_the_newest_rows_between_which_others_may_be_committed_late(people, monkeypatch):
    monkeypatch.setattr(changes, "REPLAYED_MOST", 3)
    account = people.account(w_id="w-1")
    old, first, late, second = (record(account, EventType.CHANGED) for _ in range(4))
    AccountEvent.objects.filter(pk=late.pk).delete()
    rows = changes.Rows()
    seen = changes.poll(None).ids
    assert seen == [second.pk, first.pk, old.pk] and rows.missed(seen) == []
    AccountEvent.objects.bulk_create([late])
    assert rows.missed(changes.poll(rows.floor).ids) == [late.pk]
    assert changes.unpublished_events([second.pk]) == [
        PublishedEvent(second.pk, account.pk, people.east.pk, None, "online")
    ]


def test_every_team_of_an_incident_hears_of_a_note(people):
    ours, theirs = people.account(), people.account(team=people.west)
    incident = Incident.objects.create()
    for account in (ours, people.account(), theirs):
        Drop.objects.create(account=account, w_id="w", incident=incident)
    before = changes.poll(None).notes
    assignment.add_note(incident, "the provider knows", by=people.operator)
    assert sorted(changes.note_events(changes.poll(0).notes - before), key=lambda event: event.account) == [
        PublishedEvent(0, ours.pk, people.east.pk, None, ""),
        PublishedEvent(0, theirs.pk, people.west.pk, None, ""),
    ]


# --- alone ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "alone"),
    [
        ({"queued_at": 20}, 20),
        ({"queued_at": 20, "worker": 4}, 4),
        ({"queued_at": 3, "worker": 9}, 3),
        ({"queued_at": 20, "worker": -5}, 0),
        ({"qr_shown_at": 7}, 7),
        ({"queued_at": 20, "state": AttemptState.CODE_REQUIRED}, 0),
        ({"queued_at": 20, "state": AttemptState.PREPARING}, 20),
        ({"queued_at": 20, "state": AttemptState.PREPARING, "sent_at": 2}, 0),
        ({"queued_at": 20, "state": AttemptState.CANCELLED}, 0),
    ],
)
def test_for_how_long_nobody_has_waited(people, fields, alone):
    worker = fields.pop("worker", None)
    state = fields.pop("state", AttemptState.WAITING)
    if worker is not None:
        WaitsWorker.objects.create(name="worker", alive_until=seconds_ago(worker))
    times = {name: seconds_ago(seconds) for name, seconds in fields.items()}
    attempt = make_attempt(
        people.account(), state, lease_owner="worker" if worker is not None else "", **times
    )
    assert changes.seconds_alone(attempt, timezone.now()) == pytest.approx(alone, abs=1)


def test_logins_without_a_worker_are_sent_in_stages_and_overdue_ones_too(people):
    WaitsWorker.objects.create(name="living", alive_until=seconds_ago(-9))
    fresh, old, older, held, overdue, left, ended = (
        make_attempt(people.account(), queued_at=seconds_ago(seconds))
        for seconds in (1, 6, 9, 60, 60, 60, 60)
    )
    LoginAttempt.objects.filter(pk=held.pk).update(lease_owner="living")
    LoginAttempt.objects.filter(pk=overdue.pk).update(deadline_at=seconds_ago(17))
    LoginAttempt.objects.filter(pk=left.pk).update(deadline_at=seconds_ago(90))
    ended.move(AttemptState.CANCELLED)
    found = {event.attempt: stage for event, stage in changes.alone(timezone.now()).items()}
    assert found == {old.pk: 1, older.pk: 2, overdue.pk: 3}
    assert fresh.pk not in found
