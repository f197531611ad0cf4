"""The second step of a sign-in: set up, asked for on every way in, thwarting guesses, reset."""

import base64
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.contrib.sessions.models import Session
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.utils import timezone
from django_otp.oath import TOTP

from accounts.models import AuditEntry, SecondFactor
from accounts.roles import RoleCode
from tests.support.factories import PASSWORD
from wkportal import sign_in_limits

pytestmark = pytest.mark.usually("sqlite")

PAGE, STEP = "/me/two-step/", "/login/code/"


def code_of(person, steps: int = 0) -> str:
    """What the app shows now, or so many times 30 s later."""
    totp = TOTP(base64.b32decode(SecondFactor.objects.get(user=person).key))
    totp.time = timezone.now().timestamp() + 30 * steps
    return f"{totp.token():06}"


def wrong_code(person) -> str:
    return str((int(code_of(person)) + 500_000) % 1_000_000).zfill(6)


def set_up(person) -> list[str]:
    """Return the recovery codes."""
    assert person.client.get(PAGE).status_code == 200
    page = person.client.post(PAGE, {"do": "set_up", "code": code_of(person)})
    # Codes of now may be used again: tests are faster than clocks.
    SecondFactor.objects.filter(user=person).update(last_step=-1)
    return re.findall(r"<li>([a-z2-7-]{19})</li>", page.content.decode())


def password_given(name: str, client: Client | None = None, **query) -> Client:
    client = client or Client()
    answer = client.post("/login/", {"username": name, "password": PASSWORD, **query})
    assert answer.headers["Location"] == STEP
    return client


def give(client, code, path=STEP):
    return client.post(path, {"code": code})


def may_try_again(person) -> None:
    SecondFactor.objects.filter(user=person).update(throttling_failure_timestamp=None)


def is_in(client) -> bool:
    return client.get("/me/").status_code == 200


@pytest.mark.usually("sqlite", "postgres")
@pytest.mark.slow
def test_it_is_set_up_by_a_code_and_asked_for_from_then_on(people):
    person, other = people.operator, Client()
    other.post("/login/", {"username": "operator", "password": PASSWORD})
    page = person.client.get(PAGE).content.decode()
    key = SecondFactor.objects.get().key
    assert key in re.sub(r"[\s]", "", page) and "data:image/svg+xml" in page
    assert key[:4] not in connection_text(SecondFactor)
    assert person.client.post(PAGE, {"do": "set_up", "code": "12"}).status_code == 422
    may_try_again(person)
    # Until then it counts for nothing.
    assert is_in(other) and is_in(person.client)
    codes = set_up(person)
    assert len(set(codes)) == 10
    assert is_in(person.client) and not is_in(other)
    page = person.client.get(PAGE).content.decode()
    assert "10 recovery codes left" in page and key not in page and codes[0] not in page
    assert not any(code in connection_text(SecondFactor) for code in codes)

    client = password_given("operator", next="/accounts/")
    assert not is_in(client)
    assert client.get("/admin/").status_code == client.get("/").status_code == 302
    assert AccessLog.objects.count() == 1  # the one of before
    answer = give(client, code_of(person))
    assert answer.headers["Location"] == "/accounts/"
    assert is_in(client) and AccessLog.objects.count() == 2
    assert client.get(STEP).headers["Location"] == "/"


def connection_text(model) -> str:
    """All that the database has of a model, as it is stored."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {model._meta.db_table}")
        return str(cursor.fetchall())


@pytest.mark.usually("sqlite", "postgres")
@pytest.mark.slow
def test_no_code_works_twice(people):
    codes = set_up(people.operator)
    used = code_of(people.operator, 1)
    assert give(password_given("operator"), used).status_code == 302
    for code in (used, code_of(people.operator)):  # nor one of before it
        assert give(password_given("operator"), code).status_code == 422
        may_try_again(people.operator)
    typed = f" {codes[3].upper().replace('-', ' ')}"
    assert give(password_given("operator"), typed, f"{STEP}?recovery=1").status_code == 302
    assert give(password_given("operator"), codes[3]).status_code == 422
    may_try_again(people.operator)
    for code in codes[4:]:
        client = password_given("operator")
        assert give(client, code).status_code == 302
    assert "You have 3 recovery codes left" in client.get("/me/").content.decode()


@pytest.mark.usually("sqlite", "postgres")
@pytest.mark.django_db(transaction=True)
def test_of_two_requests_with_one_code_one_gets_in(live):
    code = set_up(live.operator)[0]
    clients = [password_given("operator") for _browser in range(4)]

    def give_and_leave(client) -> int:
        try:
            return give(client, code).status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(len(clients)) as pool:
        found = list(pool.map(give_and_leave, clients))
    assert found.count(302) == 1


@pytest.mark.slow
def test_wrong_codes_are_refused_sign_ins_and_slow_down(people):
    set_up(people.operator)
    client, wrong = password_given("operator"), wrong_code(people.operator)
    assert give(client, "").status_code == 422
    assert not AccessFailureLog.objects.exists()
    answer = give(client, wrong)
    assert answer.status_code == 422 and "This code is wrong" in answer.content.decode()
    refused = AccessFailureLog.objects.get()
    assert (refused.username, refused.path_info) == ("operator", STEP)
    assert wrong not in AccessAttempt.objects.get().post_data
    answer = give(client, code_of(people.operator))
    assert answer.status_code == 422 and "Try again in 1 s" in answer.content.decode()
    assert AccessFailureLog.objects.count() == 1  # it was not looked at
    page = people.admin.client.get("/people/sign-ins/").content.decode()
    assert "Refused, wrong one-time code" in page
    for _guess in range(settings.AXES_FAILURE_LIMIT - 1):
        may_try_again(people.operator)
        answer = give(client, wrong)
    assert answer.status_code == 429
    may_try_again(people.operator)
    assert give(client, code_of(people.operator)).status_code == 429
    elsewhere = password_given("operator", Client(REMOTE_ADDR="203.0.113.7"))
    assert give(elsewhere, code_of(people.operator)).status_code == 302


@pytest.mark.slow
def test_somebody_with_the_password_cannot_keep_its_owner_out_for_long(people):
    set_up(people.operator)
    for number in range(30):
        guesser = password_given("operator", Client(REMOTE_ADDR=f"203.0.113.{number}"))
        may_try_again(people.operator)
        give(guesser, wrong_code(people.operator))
    allowed, why = SecondFactor.objects.get().verify_is_allowed()
    assert not allowed and why["locked_until"] - timezone.now() < timedelta(seconds=257)
    assert sign_in_limits.lockouts() == []


@pytest.mark.parametrize(
    "typed", ["\0", "x" * 5000, "٣" * 6, "🙂", "-12345", "1e5", "²²²²²²", "  ", "½½½½½½"]
)
@pytest.mark.slow
def test_anything_may_be_typed(people, typed):
    set_up(people.operator)
    client = password_given("operator")
    assert client.post(STEP, {"code": typed}).status_code == 422
    assert people.operator.client.post(PAGE, {"do": "remove", "code": typed}).status_code == 422
    assert client.get(f"{STEP}?next=%00&recovery=%00").status_code == 200


@pytest.mark.parametrize("what", ["time", "password", "locked", "deleted", "reset"])
def test_the_right_password_of_before_is_not_enough(people, what):
    set_up(people.operator)
    client, code = password_given("operator"), code_of(people.operator)
    if what == "time":
        session = client.session
        session["halfway"] = session["halfway"] | {"at": session["halfway"]["at"] - 601}
        session.save()
    elif what == "password":
        people.operator.set_password("another one")
        people.operator.save()
    elif what == "locked":
        people.admin.client.post(f"/people/{people.operator.pk}/", {"do": "lock"})
    elif what == "deleted":
        people.operator.delete()
    else:
        SecondFactor.objects.all().delete()
    assert give(client, code).headers["Location"] == "/login/"
    assert not is_in(client)


def test_the_page_without_the_password_leads_to_the_sign_in(people):
    set_up(people.operator)
    for client in (Client(), Client()):
        assert client.get(STEP).headers["Location"] == "/login/"
        assert give(client, code_of(people.operator)).headers["Location"] == "/login/"


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example/x", "javascript:alert(1)"])
def test_nobody_is_led_to_another_host(people, target):
    set_up(people.operator)
    client = password_given("operator", next=target)
    assert give(client, code_of(people.operator), f"{STEP}?next={target}").headers["Location"] == "/"


def test_django_admin_has_no_way_in_of_its_own(people):
    set_up(people.admin)
    client = Client()
    assert client.get("/admin/").headers["Location"] == "/admin/login/?next=/admin/"
    there = client.get("/admin/login/?next=/admin/accounts/plan/").headers["Location"]
    assert there == "/login/?next=/admin/accounts/plan/"
    assert client.get("/admin/login/?next=//evil.example").headers["Location"] == "/login/?next=/admin/"
    client.post("/admin/login/", {"username": "admin", "password": PASSWORD})
    assert client.get("/admin/").status_code == 302
    client = password_given("admin", next="/admin/")
    assert client.get("/admin/").status_code == 302
    assert give(client, code_of(people.admin)).headers["Location"] == "/admin/"
    assert client.get("/admin/").status_code == 200
    assert client.get("/admin/login/").headers["Location"] == "/admin/"
    refused = people.operator.client.get("/admin/", follow=True)
    assert refused.status_code == 403 and "You can’t open Admin" in refused.content.decode()


OTHERS = ("/", "/accounts/", "/admin/", "/admin/auth/user/", "/people/", "/waiting/", "/alarm/", "/me/")


@pytest.mark.slow
def test_whom_the_setting_names_sets_it_up_before_any_other_page(people, settings):
    settings.REQUIRE_TWO_STEP = "admins"
    admin = people.admin.client  # a session of before
    for path in OTHERS:
        assert admin.get(path).headers["Location"].startswith("/login/code/?next="), path
    assert admin.post("/people/new/", {"username": "x"}).headers["Location"] == STEP
    assert admin.get("/events/", headers={"accept": "text/event-stream"}).status_code == 403
    assert admin.head("/events/").status_code == 403
    link = "/scan/no-such-link/"
    assert admin.get(link).status_code == Client().get(link).status_code == 410
    assert admin.get("/healthz").status_code == 200 and admin.get("/nowhere/").status_code == 302
    page = admin.get("/people/", follow=True)
    assert page.request["PATH_INFO"] == PAGE and page.request["QUERY_STRING"] == "next=%2Fpeople%2F"
    assert "You need it to use the portal" in page.content.decode()
    assert "stream.js" not in page.content.decode()
    done = admin.post(f"{PAGE}?next=/people/", {"do": "set_up", "code": code_of(people.admin)})
    assert 'href="/people/"' in done.content.decode()
    for path in OTHERS:
        assert admin.get(path).status_code == 200, path
    assert is_in(people.operator.client)
    settings.REQUIRE_TWO_STEP = "all"
    assert not is_in(people.operator.client) and is_in(admin)


def test_an_earlier_session_of_a_person_who_has_one_is_asked_for_a_code(people, settings):
    settings.REQUIRE_TWO_STEP = "all"
    person = people.operator
    set_up(person)
    session = person.client.session
    del session["second_step"]
    session.save()
    assert person.client.get("/accounts/?q=x").headers["Location"] == f"{STEP}?next=%2Faccounts%2F%3Fq%3Dx"
    assert person.client.get(PAGE).headers["Location"] == STEP
    assert person.client.post(PAGE, {"do": "remove", "code": code_of(person)}).headers["Location"] == STEP
    assert "stream.js" not in person.client.get(STEP).content.decode()
    key = person.client.session.session_key
    answer = give(person.client, code_of(person), f"{STEP}?next=/accounts/")
    assert answer.headers["Location"] == "/accounts/"
    assert is_in(person.client) and person.client.session.session_key != key


@pytest.mark.slow
def test_new_codes_and_removal_need_a_code(people):
    codes, person = set_up(people.operator), people.operator
    other = password_given("operator")
    give(other, codes[0])
    for do in ("codes", "remove"):
        assert person.client.post(PAGE, {"do": do, "code": wrong_code(person)}).status_code == 422
        may_try_again(person)
    assert SecondFactor.objects.get().confirmed and is_in(other)
    page = person.client.post(PAGE, {"do": "codes", "code": code_of(person)}).content.decode()
    assert page.count("<li>") >= 10 and codes[1] not in page
    assert give(password_given("operator"), codes[1]).status_code == 422
    may_try_again(person)
    answer = person.client.post(PAGE, {"do": "remove", "code": code_of(person, 1)})
    assert answer.headers["Location"] == "/me/"
    assert not SecondFactor.objects.exists()
    assert is_in(person.client) and not is_in(other)
    assert Client().post("/login/", {"username": "operator", "password": PASSWORD}).headers["Location"] == "/"
    for wrong in ("", "x", "set_up"):
        assert person.client.post(PAGE, {"do": wrong, "code": "1"}).status_code in (404, 302)
    words = [entry.change_message for entry in LogEntry.objects.order_by("pk")]
    assert words == ["two-step on", "recovery codes", "two-step off"]


def test_a_key_that_was_shown_long_ago_is_another_one(people):
    people.operator.client.get(PAGE)
    first = SecondFactor.objects.get().key
    people.operator.client.get(PAGE)
    assert SecondFactor.objects.get().key == first
    SecondFactor.objects.update(key_made_at=timezone.now() - timedelta(minutes=61))
    people.operator.client.get(PAGE)
    assert SecondFactor.objects.get().key != first


def test_without_the_key_that_encrypted_it_recovery_codes_work_and_nothing_is_overwritten(people, settings):
    codes, person = set_up(people.operator), people.operator
    stored = connection_text(SecondFactor)
    code, settings.SECRET_KEY = code_of(person), "another key that is long enough for anything 0123456789"
    stored_key = re.search(r"gAAAA[^']+", stored)[0]
    client = Client()
    client.post("/login/", {"username": "operator", "password": PASSWORD})
    assert give(client, code).status_code == 422
    may_try_again(person)
    assert give(client, codes[0]).status_code == 302
    assert stored_key in connection_text(SecondFactor)


@pytest.mark.usually("sqlite", "postgres")
@pytest.mark.slow
def test_an_admin_resets_it_and_not_of_people_with_more_rights(people):
    manager = people.person("manager", RoleCode.ADMIN)
    manager.is_staff = True
    manager.save()
    set_up(people.operator), set_up(people.admin), set_up(manager)
    assert "reset_two_step" in manager.client.get(f"/people/{people.operator.pk}/").content.decode()
    for somebody, person in ((manager, people.admin), (people.mate, people.operator)):
        assert somebody.client.post(f"/people/{person.pk}/", {"do": "reset_two_step"}).status_code == 404
    own = manager.client.post(f"/people/{manager.pk}/", {"do": "reset_two_step"})
    assert own.headers["Location"] == PAGE
    assert SecondFactor.objects.filter(confirmed=True).count() == 3
    manager.client.post(f"/people/{people.operator.pk}/", {"do": "reset_two_step"})
    assert not is_in(people.operator.client)
    page = manager.client.get(f"/people/{people.operator.pk}/").content.decode()
    assert "Two-step sign-in removed" in page and "reset_two_step" not in page
    assert LogEntry.objects.latest("pk").user == manager


def test_the_last_admin_who_is_locked_out_gets_in_by_a_command(people, capsys):
    set_up(people.admin)
    call_command("reset_two_step", "admin")
    assert "signs in with the password alone" in capsys.readouterr().out
    assert not SecondFactor.objects.exists() and not is_in(people.admin.client)
    assert "manage.py" in LogEntry.objects.latest("pk").change_message
    entry = AuditEntry.objects.get(kind="factor_removed")
    assert (entry.actor_name, entry.subject_name, entry.way) == ("", "admin", "command")
    for name, why in (("admin", "has not set up"), ("nobody", "Nobody has the username")):
        with pytest.raises(CommandError, match=why):
            call_command("reset_two_step", name)


def test_a_new_password_keeps_the_step(people):
    set_up(people.operator)
    fields = {
        "old_password": PASSWORD,
        "new_password1": "a longer battery",
        "new_password2": "a longer battery",
    }
    people.operator.client.post("/me/", {"do": "password", **fields})
    assert is_in(people.operator.client)
    settings.REQUIRE_TWO_STEP, before = "all", settings.REQUIRE_TWO_STEP
    try:
        assert is_in(people.operator.client)
    finally:
        settings.REQUIRE_TWO_STEP = before


@pytest.mark.slow
def test_nobody_is_signed_in_between_the_two_steps(people):
    set_up(people.operator)
    sessions = Session.objects.count()
    client = password_given("operator")
    assert Session.objects.count() == sessions + 1
    data = Session.objects.get(session_key=client.session.session_key).get_decoded()
    assert set(data) == {"halfway", "_session_expiry"}
    assert client.session.get_expiry_age() <= 600
    # Somebody else may sign in there meanwhile.
    client.post("/login/", {"username": "mate", "password": PASSWORD})
    assert client.get("/").status_code == 200
    assert client.session.get_expiry_age() > 13 * 24 * 3600
    assert client.get(STEP).status_code == 302
