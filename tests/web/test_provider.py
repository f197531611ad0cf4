"""Signing in at a provider over real HTTP: who gets in with which role, and every fault of it is one sentence."""

import re
import subprocess
import sys
import time
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from axes.models import AccessFailureLog, AccessLog
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.core.cache import cache
from django.test import Client

from accounts.models import Identity, SecondFactor, Team
from accounts.roles import RoleCode
from accounts.web.people import changes
from tests.support.factories import PASSWORD
from tests.support.fake_chat_service import certificate_for
from tests.support.oidc_provider import CLIENT, SECRET, Provider
from tests.support.processes import ROOT

pytestmark = pytest.mark.usually("sqlite")

GROUPS = [
    ("wk-admins", "admin"),
    ("wk-operators", "operator"),
    ("wk-east", "team:East"),
    ("wk-gone", "team:Gone"),
]


@pytest.fixture
def provider(settings):
    cache.clear()
    made = Provider()
    settings.OIDC_ISSUER, settings.OIDC_CLIENT_ID, settings.OIDC_CLIENT_SECRET = made.url, CLIENT, SECRET
    settings.OIDC_NAME, settings.OIDC_GROUPS = "Company ID", GROUPS
    settings.AUTHENTICATION_BACKENDS = [
        *settings.AUTHENTICATION_BACKENDS,
        "accounts.web.signing_in.provider.Backend",
    ]
    yield made
    made.close()


def begin(client, path="/login/provider/") -> str:
    """Return the address to which the provider sends the browser back."""
    answer = client.get(path)
    assert answer.status_code == 302, answer.content.decode()
    return requests.get(answer.headers["Location"], allow_redirects=False, timeout=5).headers["Location"]


def sign_in(client=None, path="/login/provider/"):
    """Return the answer to the browser that came back, with its `client`."""
    client = client or Client()
    answer = client.get(begin(client, path))
    answer.client = client
    return answer


def is_in(client) -> bool:
    return client.get("/me/").status_code == 200


def refusal(answer, status: int = 403) -> str:
    page = answer.content.decode()
    assert answer.status_code == status, page
    assert not is_in(answer.client if hasattr(answer, "client") else Client())
    return re.sub(r"\s+", " ", re.search(r'role="alert">(.*?)</div>', page, re.DOTALL)[1])


@pytest.mark.usually("sqlite", "postgres")
@pytest.mark.slow
def test_a_person_is_added_with_the_role_and_teams_of_the_groups_of_each_sign_in(people, provider, caplog):
    provider.person["groups"] = ["/wk-operators", "wk-east", "wk-gone", "others"]
    page = Client().get("/login/?next=/accounts/").content.decode()
    assert "Sign in with Company ID" in page and 'href="/login/provider/?next=/accounts/"' in page
    answer = sign_in(path="/login/provider/?next=/accounts/%3Fq%3Dx")
    assert answer.headers["Location"] == "/accounts/?q=x" and is_in(answer.client)
    person = get_user_model().objects.get(username="Li.Ming")
    assert not person.has_usable_password() and not person.is_staff and not person.is_superuser
    assert changes.role_of(person) == RoleCode.OPERATOR
    assert list(Team.objects.filter(user=person)) == [people.east]
    assert "OIDC_GROUPS names a team that is not there: Gone" in caplog.text
    assert AccessLog.objects.get().path_info == "/login/provider/callback/"
    assert "Company ID" in people.admin.client.get("/people/sign-ins/").content.decode()

    person.groups.add(people.west)  # of which the provider says nothing
    provider.person = provider.person | {"groups": ["wk-admins"], "preferred_username": "another name"}
    assert sign_in().headers["Location"] == "/"
    person = get_user_model().objects.get(pk=person.pk)
    assert (changes.role_of(person), person.is_staff, person.username) == (RoleCode.ADMIN, True, "Li.Ming")
    assert list(Team.objects.filter(user=person)) == [people.west]
    recorded = list(LogEntry.objects.order_by("pk").values_list("change_message", flat=True))
    assert recorded == ["added: Company ID", "synced: operator, East", "synced: admin, West"]
    sign_in()
    assert LogEntry.objects.count() == 3  # nothing changed
    assert Identity.objects.get().subject == "sub-1"


@pytest.mark.slow
def test_without_a_group_that_has_a_role_nobody_gets_in(people, provider):
    provider.person["groups"] = ["others", "wk-east"]
    said = refusal(sign_in())
    assert "You have no role in the portal" in said and "wk-admins, wk-east, wk-gone, wk-operators" in said
    assert not Identity.objects.exists()
    provider.person["groups"] = "wk-operators"
    client = sign_in().client
    assert is_in(client)
    provider.person["groups"] = None
    refusal(sign_in())
    assert not is_in(client)  # that of before has ended too
    assert changes.role_of(Identity.objects.get().user) == ""
    failure = AccessFailureLog.objects.get()
    assert (failure.username, failure.path_info) == ("Li.Ming", "/login/provider/callback/")


def test_without_a_mapping_admins_give_the_role(people, provider, settings):
    settings.OIDC_GROUPS = []
    refusal(sign_in())
    person = Identity.objects.get().user
    changes.set_groups(person, RoleCode.VIEWER, [people.east], by=people.admin)
    assert is_in(sign_in().client)
    assert changes.role_of(person) == RoleCode.VIEWER


def test_locked_people_stay_out(people, provider):
    client = sign_in().client
    person = Identity.objects.get().user
    people.admin.client.post(f"/people/{person.pk}/", {"do": "lock"})
    assert not is_in(client)
    assert "You are locked" in refusal(sign_in())
    get_user_model().objects.filter(pk=person.pk).update(is_active=True)
    client = sign_in().client
    get_user_model().objects.filter(pk=person.pk).update(is_active=False)  # without ending the session
    assert not is_in(client)


@pytest.mark.slow
def test_nobody_takes_over_a_person_who_is_here(people, provider):
    provider.person["groups"] = ["wk-operators", "wk-east"]  # as here
    provider.person |= {"preferred_username": "OPERATOR", "email": "operator@example.com"}
    get_user_model().objects.filter(pk=people.operator.pk).update(email="operator@example.com")
    assert "Somebody has the username OPERATOR here already" in refusal(sign_in())
    assert not Identity.objects.exists()
    # The one who has the password links it.
    client = Client()
    client.post("/login/", {"username": "operator", "password": PASSWORD})
    assert "Link" in client.get("/me/").content.decode()
    assert client.get(leave(client)).headers["Location"] == "/me/"
    assert Identity.objects.get().user == people.operator
    assert sign_in().client.session["_auth_user_id"] == str(people.operator.pk)
    # Somebody else does not get it too, and it can be given up by whom a password lets in.
    other = people.mate.client
    assert "Somebody else is linked" in other.get(leave(other)).content.decode()
    assert Identity.objects.get().user == people.operator
    client.post("/me/", {"do": "unlink"})
    assert not Identity.objects.exists()
    recorded = set(LogEntry.objects.values_list("change_message", flat=True))
    assert recorded == {"identity linked: Company ID", "identity unlinked"}


def leave(client, **data) -> str:
    """Return where the provider sends a browser that was led there by a form."""
    page = client.post("/login/provider/", data).content.decode()
    address = re.search(r'http-equiv="refresh" content="0; url=([^"]+)"', page)[1].replace("&amp;", "&")
    return requests.get(address, allow_redirects=False, timeout=5).headers["Location"]


@pytest.mark.usually("sqlite", "postgres")
@pytest.mark.slow
def test_the_link_to_set_a_password_links_the_provider_instead(people, provider, settings):
    settings.OIDC_GROUPS = []
    person = people.person("newcomer", RoleCode.VIEWER, people.east)
    given = people.admin.client.post(f"/people/{person.pk}/", {"do": "link"}).content.decode()
    link = urlsplit(re.search(r'value="(http://testserver/password/[^"]+)"', given)[1]).path
    for client, number in ((Client(), person.pk), (Client(), "x")):
        assert client.post("/login/provider/", {"person": number}).headers["Location"] == "/login/"
    guest, late = Client(), Client()
    for client in (guest, late):
        page = client.get(link, follow=True).content.decode()
        assert "Or go without a password" in page and f'name="person" value="{person.pk}"' in page
    # The link is of one person only.
    assert guest.post("/login/provider/", {"person": people.mate.pk}).headers["Location"] == "/login/"
    first, second = leave(guest, person=person.pk), leave(late, person=person.pk)
    assert guest.get(first).headers["Location"] == "/" and is_in(guest)
    identity = Identity.objects.get()
    assert identity.user == person
    # It worked once, for whom it was used first.
    provider.person = provider.person | {"sub": "sub-of-another"}
    assert "Try again" in refusal(late.get(second)) and not is_in(late)
    assert Identity.objects.get(user=person).subject == "sub-1"
    assert late.get(link, follow=True).status_code == 200
    assert late.post("/login/provider/", {"person": person.pk}).headers["Location"] == "/login/"


def test_a_password_link_leads_past_no_second_step(people, provider):
    SecondFactor.objects.create(
        user=people.viewer, confirmed=True, key="A" * 32, key_made_at=people.viewer.date_joined
    )
    guest = opened(people.viewer, people.admin)
    assert "Or go without a password" not in guest.page
    data = {"person": people.viewer.pk}
    assert guest.post("/login/provider/", data).headers["Location"] == "/login/"
    assert not Identity.objects.exists() and not is_in(guest)


def test_a_link_that_was_begun_and_given_up_is_not_for_who_signs_in_next(people, provider):
    guest = opened(people.viewer, people.admin)
    assert "Or go without a password" in guest.page
    leave(guest, person=people.viewer.pk)
    sign_in(guest)
    assert Identity.objects.get().user.username == "Li.Ming"
    assert guest.session["_auth_user_id"] == str(Identity.objects.get().user.pk)


def opened(person, admin) -> Client:
    """A browser in which the link to set this person's password was opened, with its `page`."""
    token, uid = changes.password_link(person, by=admin)
    client = Client()
    client.page = client.get(f"/password/{token}/{uid}/", follow=True).content.decode()
    return client


def test_the_page_of_the_password_asks_the_provider_nothing(people, provider):
    answer = Client().post("/login/?code=x&state=y", {"username": "viewer", "password": "wrong"})
    assert answer.status_code == 200 and not provider.asked


def test_a_browser_that_did_not_begin_gets_nothing(people, provider):
    back = begin(Client())
    other = Client()
    assert "begun in another browser" in refusal(other.get(back))
    begin(other)
    assert "can’t be used" in refusal(other.get(back), 502)  # another state
    client = Client()
    back = begin(client)
    assert client.get(back).status_code == 302
    client.post("/logout/")
    assert "Try again" in refusal(client.get(back))  # a second time
    denied = client.get("/login/provider/callback/?error=access_denied&state=x")
    assert "cancelled at Company ID" in refusal(denied)
    for junk in ("", "?code=x", "?state=x", "?code=%00&state=%00"):
        assert Client().get(f"/login/provider/callback/{junk}").status_code == 403


NOW = int(time.time())


@pytest.mark.parametrize(
    "lies",
    [
        {"nonce": "another"}, {"nonce": None}, {"iss": "http://127.0.0.1:1/realm"}, {"iss": None}, {"aud": "another"},
        {"aud": None}, {"aud": [CLIENT, "another"]}, {"azp": "another"}, {"exp": NOW - 60}, {"exp": None}, {"sub": None},
        {"sub": "of-another"}, {"iat": NOW + 9999}, {"nbf": NOW + 9999},
    ],
    ids=lambda lies: next(iter(lies)),  # the values are other ones in each worker
)  # fmt: skip
@pytest.mark.slow
def test_an_id_token_that_proves_nothing_is_refused(people, provider, lies):
    provider.lies = lies
    assert "can’t be used" in refusal(sign_in(), 502)
    assert not Identity.objects.exists()
    provider.lies = {}
    assert is_in(sign_in().client)


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        ({"preferred_username": "李明 \u200b"}, "李明"), ({"preferred_username": "a/b\0c <i>"}, "a.b.c..i."),
        ({"preferred_username": "x" * 500}, "x" * 150), ({"preferred_username": None}, "sub-1"),
        ({"preferred_username": ["x"]}, "sub-1"), ({"preferred_username": "\u2800"}, "sub-1"),
        ({"sub": "s" * 256}, None), ({"sub": "s\0"}, None), ({"sub": 5}, None), ({"groups": 5}, None),
        ({"groups": [{"name": "wk-operators"}, None, "wk-operators"]}, "Li.Ming"),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.usually("sqlite", "postgres")
def test_claims_may_be_anything(people, provider, claims, name):
    provider.person |= claims
    answer = sign_in()
    if name is None:
        refusal(answer, 502)
    else:
        assert answer.status_code == 302
    names = get_user_model().objects.filter(identity__isnull=False).values_list("username", flat=True)
    assert list(names) == ([name] if name else [])


@pytest.mark.parametrize("algorithm", ["none", "HS256"])
def test_only_a_key_of_the_provider_signs(people, provider, algorithm):
    provider.algorithm = algorithm
    assert "can’t be used" in refusal(sign_in(), 502)


@pytest.mark.slow
def test_the_keys_of_the_provider_may_change(people, provider):
    assert is_in(sign_in().client)
    provider.rotate()
    assert is_in(sign_in().client)
    client = Client()
    back = begin(client)
    signed, provider.keys = provider.keys, lambda _fields: kept
    kept = signed({})
    provider.rotate()
    assert "can’t be used" in refusal(client.get(back), 502)


@pytest.mark.parametrize(
    ("broken", "status"),
    [
        ({"/.well-known/openid-configuration": 500}, 503),
        ({"/.well-known/openid-configuration": 404}, 502),
        ({"/.well-known/openid-configuration": b"<html>"}, 502),
        ({"/.well-known/openid-configuration": b"[]"}, 502),
        ({"/.well-known/openid-configuration": b'{"issuer": "https://evil.example"}'}, 502),
        ({"/token": 503}, 503),
        ({"/token": b"{}"}, 502),
        ({"/token": b'"x"'}, 502),
        ({"/token": b'{"id_token": 5}'}, 502),
        ({"/keys": 500}, 503),
        ({"/keys": b"{}"}, 502),
        ({"/me": 401}, 502),
        ({"/me": b'{"sub": "of-another"}'}, 502),
    ],
    ids=str,
)
@pytest.mark.slow
def test_a_broken_provider_gets_one_sentence(people, provider, broken, status):
    provider.broken = broken
    client = Client()
    answer = client.get("/login/provider/")
    if answer.status_code == 302:
        answer = sign_in(client)
    said = refusal(answer, status)
    assert ("Company ID is not responding" in said) == (status == 503)
    assert Client().post("/login/", {"username": "operator", "password": PASSWORD}).headers["Location"] == "/"
    provider.broken = {}
    assert is_in(sign_in().client)


def test_a_provider_that_is_down_leaves_the_password(people, provider):
    client = sign_in().client
    back = begin(waiting := Client())
    provider.close()
    assert "Company ID is not responding" in refusal(waiting.get(back), 503)
    cache.clear()
    asked = len(provider.asked)
    assert "Company ID is not responding" in refusal(Client().get("/login/provider/"), 503)
    assert is_in(client)
    assert Client().post("/login/", {"username": "operator", "password": PASSWORD}).headers["Location"] == "/"
    assert people.operator.client.get("/accounts/").status_code == 200
    assert client.post("/logout/").headers["Location"] == "/login/"
    assert len(provider.asked) == asked


def test_a_certificate_of_the_company_is_trusted_where_it_is_named(people, provider, settings, tmp_path):
    authority = tmp_path / "authority.pem"
    secure = Provider(certificate_for(["localhost"], authority))
    try:
        settings.OIDC_ISSUER = secure.url
        assert "Company ID is not responding" in refusal(Client().get("/login/provider/"), 503)
        settings.OIDC_CA_BUNDLE = str(authority)
        client = Client()
        there = client.get("/login/provider/").headers["Location"]
        back = requests.get(there, allow_redirects=False, timeout=5, verify=authority).headers["Location"]
        assert client.get(back).headers["Location"] == "/" and is_in(client)
    finally:
        secure.close()


def test_a_wrong_secret_of_ours_is_no_answer(people, provider):
    provider.secret = "another"
    assert "can’t be used" in refusal(sign_in(), 502)


@pytest.mark.parametrize("path", ["/logout/", "/admin/logout/"])
def test_signing_out_ends_the_session_at_the_provider_too(people, provider, path):
    client = sign_in().client
    page = client.post(path).content.decode()
    assert not is_in(client)
    address = re.search(r'url=([^"]+)"', page)[1].replace("&amp;", "&")
    asked = parse_qs(urlsplit(address).query)
    assert address.startswith(f"{provider.url}/out?")
    assert asked["post_logout_redirect_uri"] == ["http://testserver/login/"] and asked["client_id"] == [
        CLIENT
    ]
    assert asked["id_token_hint"]
    assert people.operator.client.post("/logout/").headers["Location"] == "/login/"
    cache.clear()
    provider.described = {}  # has no page for that, and no claims beside the token
    client = sign_in().client
    assert client.post("/logout/").headers["Location"] == "/login/"


def test_the_provider_asks_for_the_second_step(people, provider, settings):
    settings.REQUIRE_TWO_STEP = "all"
    client = sign_in().client
    assert is_in(client)
    assert client.get("/accounts/").status_code == 200
    assert not SecondFactor.objects.exists()


def test_the_password_may_be_for_emergencies_only(people, provider, settings):
    settings.LOCAL_SIGN_IN = "superusers"
    client = Client()
    page = client.get("/login/").content.decode()
    assert "in emergencies" in page
    answer = client.post("/login/", {"username": "operator", "password": PASSWORD})
    assert "People sign in with Company ID here" in answer.content.decode() and not is_in(client)
    assert AccessFailureLog.objects.get().username == "operator"
    assert client.post("/login/", {"username": "admin", "password": PASSWORD}).headers["Location"] == "/"
    # So nobody else can give up what lets them in.
    for person, left in ((people.mate, 1), (people.admin, 0)):
        Identity.objects.create(
            user=person, issuer=provider.url, subject="x", linked_at=people.mate.date_joined
        )
        assert ('value="unlink"' in person.client.get("/me/").content.decode()) == (not left)
        person.client.post("/me/", {"do": "unlink"})
        assert Identity.objects.filter(user=person).count() == left
        Identity.objects.all().delete()


def test_a_superuser_keeps_all_rights_and_the_last_admin_the_role(people, provider):
    Identity.objects.create(
        user=people.admin, issuer=provider.url, subject="sub-1", linked_at=people.admin.date_joined
    )
    provider.person["groups"] = []
    assert is_in(sign_in().client)
    people.admin.refresh_from_db()
    assert people.admin.is_superuser and people.admin.is_staff
    admin = people.person("manager", RoleCode.ADMIN)
    Identity.objects.update(user=admin)
    people.admin.delete()
    assert is_in(sign_in().client)
    assert changes.role_of(admin) == RoleCode.ADMIN


def test_admins_whom_the_provider_lets_in_count(people, provider, settings):
    bosses = [people.person(name, RoleCode.ADMIN) for name in ("first", "second")]
    for boss in bosses:
        boss.set_unusable_password()
        boss.save()
        Identity.objects.create(
            user=boss, issuer=provider.url, subject=boss.username, linked_at=boss.date_joined
        )
    people.admin.delete()
    assert set(changes.admins()) == set(bosses)
    provider.person |= {"sub": "first", "groups": ["wk-operators"]}
    assert is_in(sign_in().client)
    assert changes.role_of(bosses[0]) == RoleCode.OPERATOR
    provider.person |= {"sub": "second"}
    assert is_in(sign_in().client)
    assert changes.role_of(bosses[1]) == RoleCode.ADMIN  # the last one
    # A password that nobody may use lets nobody in.
    people.person("third", RoleCode.ADMIN)
    settings.LOCAL_SIGN_IN = "superusers"
    assert list(changes.admins()) == bosses[1:]


@pytest.mark.slow
def test_without_a_provider_nothing_for_it_is_loaded():
    loads = "import sys, django; django.setup(); import wkportal.urls"
    says = f"{loads}; print([name for name in ('jwt', 'mozilla_django_oidc') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", says], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def test_without_a_provider_there_is_no_page_for_it(people):
    for path in ("/login/provider/", "/login/provider/callback/?code=x&state=y"):
        assert Client().get(path).status_code == 404
    assert people.operator.client.post("/login/provider/").status_code == 404
    assert "/login/provider/" not in Client().get("/login/").content.decode()
    assert "/login/provider/" not in people.operator.client.get("/me/").content.decode()
