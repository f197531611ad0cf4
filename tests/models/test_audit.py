"""The audit log: what a person does has its entry, with where it came from, and the entry survives what it names."""

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from accounts.attention import archive
from accounts.logins import control, start
from accounts.maintenance import personal_data
from accounts.models import Account, AuditEntry, SignIn
from accounts.models.audit import log as audit
from accounts.models.audit import origin
from accounts.models.audit.entry import OF_EVENTS, AppendOnly, AuditKind
from accounts.models.audit.origin import Origin, Way
from accounts.states import EventType, Trigger
from accounts.tasks import tick
from tests.support.factories import PASSWORD, fresh

# Events that no person causes, or that say what became of what somebody did before.
BY_ITSELF = {
    EventType.ACCOUNT_ONLINE,
    EventType.ACCOUNT_OFFLINE,
    EventType.WAIT_TAKEN,
    EventType.WAIT_RESUMED,
    EventType.LATE_SUCCESS,
    EventType.STALE_SUCCESS,
    EventType.OTHER_ACCOUNT,
    EventType.LISTED_BUT_OFFLINE,
    EventType.ONLINE_BUT_UNLISTED,
    EventType.REASON_TOLD,
    EventType.RECOVERY_ENDED,
    EventType.LINK_DONE,
    EventType.LINK_EXPIRED,
}


def entries(**fields) -> list[AuditEntry]:
    return list(AuditEntry.objects.filter(**fields).order_by("pk"))


def test_every_event_is_one_of_a_person_or_the_portals_own():
    assert OF_EVENTS.keys() | BY_ITSELF == set(EventType)
    assert not OF_EVENTS.keys() & BY_ITSELF


def test_an_action_on_a_page_says_who_what_whom_and_from_where(people):
    account = people.account(label="Shop 1")
    people.operator.client.post(
        f"/accounts/{account.pk}/keep-online/",
        {"wanted": "0", "reason": "holiday"},
        REMOTE_ADDR="203.0.113.9",
        headers={"X-Request-ID": "request-0001"},
    )
    (entry,) = entries()
    assert (entry.kind, entry.actor_id, entry.actor_name) == ("paused", people.operator.pk, "operator")
    assert (entry.way, entry.origin, entry.address) == (Way.PAGE, "keep_online", "203.0.113.9")
    assert (entry.account_id, entry.account_name, entry.team_id) == (account.pk, "Shop 1", people.east.pk)
    assert (entry.team_name, entry.subject_name, entry.request_id) == ("East", "Shop 1", "request-0001")


def test_what_the_portal_does_by_itself_has_no_entry(people):
    account = people.account(wc_id="wxid_1", w_id="w-1")
    attempt, _new = start.start_login(account, trigger=Trigger.RECOVERY, queued=True)
    control.cancel(attempt)
    assert entries() == []


def test_many_accounts_cost_two_statements_more(people, django_assert_max_num_queries):
    def rows(number: int):
        made = [people.account(label=f"{number} {i}") for i in range(number)]
        return Account.objects.filter(pk__in=[account.pk for account in made])

    few, many = rows(2), rows(20)
    with django_assert_max_num_queries(40) as said:
        archive.archive(few, by=people.operator)
    with django_assert_max_num_queries(len(said)):
        archive.archive(many, by=people.operator)
    assert len(entries(kind=AuditKind.ARCHIVED, team_name="East")) == 22


def test_by_what_it_was_done(people, monkeypatch):
    person = people.operator
    monkeypatch.setattr("sys.argv", ["manage.py", "shell"])
    audit.record(AuditKind.LOCKED, about=person)
    with origin.bound(Origin(Way.JOB, "bulk_run")):
        audit.record(AuditKind.LOCKED, about=person, by=people.admin)
    tick.apply()
    audit.record(AuditKind.LOCKED, about=person)
    shell, job, after = entries()
    assert (shell.way, shell.origin, shell.actor_name) == (Way.COMMAND, "shell", "")
    assert (job.way, job.origin, job.actor_name) == (Way.JOB, "bulk_run", "admin")
    assert after.way == Way.COMMAND


def test_on_the_page_of_a_link_nobody_who_is_signed_in_acts(people):
    account = people.account()
    with origin.bound(Origin(Way.PAGE, "scan_link_do", "198.51.100.7")), origin.of_link(12):
        start.start_login(account, by=people.operator, trigger=Trigger.LINK)
    (entry,) = entries()
    assert (entry.kind, entry.way, entry.link_id) == (AuditKind.LOGIN_STARTED, Way.LINK, 12)
    assert (entry.actor_id, entry.actor_name, entry.address) == (None, "", "198.51.100.7")


def test_entries_survive_what_they_name(people):
    account = people.account(label="Shop 1", note="not in the log")
    audit.record(AuditKind.GROUPS, about=people.mate, by=people.admin, detail="Operators, East")
    archive.archive(Account.objects.filter(pk=account.pk), by=people.mate)
    audit.record(AuditKind.RENAMED, about=people.east, by=people.admin, detail="Orient")
    get_user_model().objects.filter(pk=people.mate.pk).delete()
    personal_data.erase(account)
    account.delete()
    people.east.delete()
    of_person, of_account, of_team = entries()
    assert (of_person.subject, of_person.subject_name, of_person.detail) == (
        "auth.user",
        "mate",
        "Operators, East",
    )
    assert (of_account.actor_name, of_account.team_name) == ("mate", "East")
    assert (of_account.account_name, of_account.subject_name) == (f"#{of_account.account_id}",) * 2
    assert (of_team.subject_name, of_team.detail) == ("East", "Orient")


def test_a_deleted_account_takes_its_personal_data_along(people):
    account, other = people.account(label="Shop 1"), people.account(label="Shop 2")
    for each in (account, other):
        with origin.bound(Origin(Way.LINK, "scan_link", "198.51.100.7")):
            audit.record(AuditKind.LINK_OPENED, about=each, detail="198.51.100.7")
        with origin.bound(Origin(Way.PAGE, "edit_account", "203.0.113.9")):
            audit.record(AuditKind.CHANGED, about=each, by=people.operator, detail="label, note")
            audit.record(AuditKind.ASSIGNED, about=each, by=people.operator, detail="asked Mr Wang")
    personal_data.erase(account)
    values = [(e.account_name, e.detail, e.address) for e in entries(account_id=account.pk)]
    name = f"#{account.pk}"
    assert values == [(name, "", None), (name, "label, note", "203.0.113.9"), (name, "", "203.0.113.9")]
    kept = [(e.account_name, e.detail, e.address) for e in entries(account_id=other.pk)]
    assert kept[0] == ("Shop 2", "198.51.100.7", "198.51.100.7")
    assert kept[2] == ("Shop 2", "asked Mr Wang", "203.0.113.9")


@pytest.mark.parametrize(
    "query", ["q=Care+1+%E5%BA%97", "q=Care%201%20%e5%ba%97", "sort=&q=%43are%201%20%E5%BA%97"]
)
def test_a_deleted_account_is_not_named_in_what_was_searched_for(people, query):
    account = people.account(label="Care 1 店")
    answer = people.admin.client.get("/accounts/export.csv", QUERY_STRING=query)
    assert b"".join(answer.streaming_content)
    (entry,) = entries(kind=AuditKind.EXPORTED)
    assert "q=Care+1+%E5%BA%97" in entry.detail
    personal_data.erase(account)
    assert entries(kind=AuditKind.EXPORTED)[0].detail == "q=…"


@pytest.mark.slow
def test_what_the_audit_log_cannot_say_is_not_done(people, monkeypatch):
    def full(*_args, **_fields):
        raise RuntimeError("the disk is full")

    client, other = people.viewer.client, Client(raise_request_exception=False)
    client.raise_request_exception = False
    other.post("/login/", {"username": "viewer", "password": PASSWORD})
    session = SignIn.objects.get(session_key=other.session.session_key)
    monkeypatch.setattr(audit, "record", full)
    password = {
        "old_password": PASSWORD,
        "new_password1": "a new long one",
        "new_password2": "a new long one",
    }
    for sent in (
        {"do": "password", **password},
        {"do": "end_session", "session": session.pk},
        {"do": "end_others"},
    ):
        assert client.post("/me/", sent).status_code == 500
        assert fresh(people.viewer).check_password(PASSWORD)
        assert other.get("/me/").status_code == client.get("/me/").status_code == 200


def test_an_entry_never_changes(people):
    entry = audit.record(AuditKind.LOCKED, about=people.mate, by=people.admin)
    entry.detail = "other"
    for change in (entry.save, entry.delete):
        with pytest.raises(AppendOnly):
            change()
    assert entries() == [entry] and entries()[0].detail == ""


def test_an_export_that_is_broken_off_has_no_number(people):
    def export(number: int) -> AuditEntry:
        entry = audit.record(AuditKind.EXPORTED, by=people.admin, name="accounts")
        rows = audit.counted(entry, [["head"], ["1"], ["2"]])
        for _row in range(number):
            next(rows, None)
        return AuditEntry.objects.get(pk=entry.pk)

    assert [export(2).number, export(4).number] == [None, 2]


def test_what_admins_do_to_people_has_its_entry(people):
    mate = people.mate
    for sent in ({"do": "lock"}, {"do": "unlock"}, {"do": "link"}, {"do": "sign_out"}):
        people.admin.client.post(f"/people/{mate.pk}/", sent)
    found = entries(subject="auth.user", subject_id=mate.pk)
    assert [entry.kind for entry in found] == ["locked", "unlocked", "password_link", "signed_out"]
    assert {entry.actor_name for entry in found} == {"admin"}
