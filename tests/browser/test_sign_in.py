"""Signing in with a real browser, under the policy that pages are sent with: two steps, and a provider."""

import base64
import os

import pytest
from axes.models import AccessAttempt
from django_otp.oath import TOTP
from playwright.sync_api import expect

from accounts.models import Identity, SecondFactor
from tests.support import chromium
from tests.support.factories import PASSWORD
from tests.support.oidc_provider import CLIENT, SECRET, Provider
from tests.support.processes import until
from tests.support.stack import Stack

pytestmark = [pytest.mark.live, pytest.mark.browser, pytest.mark.timeout(180), pytest.mark.usually("sqlite")]
# Playwright's loop runs in this thread; the database calls beside it are ordinary ones.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"


@pytest.fixture(scope="module")
def provider():
    made = Provider()
    yield made
    made.close()


@pytest.fixture(scope="module")
def stack(django_db_setup, django_db_blocker, provider, tmp_path_factory):
    secret = tmp_path_factory.mktemp("secrets") / "client"
    secret.write_text(SECRET + "\n")
    settings = {
        "REQUIRE_TWO_STEP": "admins",
        "OIDC_ISSUER": provider.url,
        "OIDC_CLIENT_ID": CLIENT,
        "OIDC_CLIENT_SECRET_FILE": str(secret),
        "OIDC_NAME": "Company ID",
        "OIDC_GROUPS": "wk-operators=operator,wk-operators=team:East",
    }
    with django_db_blocker.unblock(), Stack("web", **settings) as running:
        yield running


def give_password(page, stack, name: str, path: str = "/") -> None:
    page.goto(f"{stack.url}{path}")
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()


def wait_for_stream(page) -> None:
    """The page hears what happens: it has asked for its stream, and was let in."""
    with page.expect_response(lambda answer: "/events/" in answer.url and answer.status == 200):
        page.reload()


def test_an_admin_sets_up_the_second_step_and_takes_it(stack, live, new_page):
    page = new_page(locale="en")
    give_password(page, stack, "admin", "/admin/")
    expect(page.get_by_role("heading", name="Set up two-step sign-in")).to_be_visible()
    address = chromium.code_on(page)  # as the app on the phone reads it
    factor = SecondFactor.objects.get()
    assert address.startswith("otpauth://totp/wkportal%3Aadmin") and f"secret={factor.key}" in address
    code = f"{TOTP(base64.b32decode(factor.key)).token():06}"
    page.get_by_label("One-time code").fill(f"{code[:3]} {code[3:]}")
    page.get_by_role("button", name="Set up").click()
    expect(page.locator(".recovery-codes li")).to_have_count(10)
    codes = page.locator(".recovery-codes li").all_inner_texts()
    page.get_by_role("link", name="I have kept them").click()
    page.goto(f"{stack.url}/accounts/")
    wait_for_stream(page)

    other = new_page(locale="en")
    give_password(other, stack, "admin", "/admin/")
    other.get_by_role("link", name="Use a recovery code instead").click()
    other.get_by_label("Recovery code").fill(codes[0])
    other.get_by_role("button", name="Sign in").click()
    expect(other).to_have_url(f"{stack.url}/admin/")
    secrets = (factor.key, code, *codes)
    assert not [secret for secret in secrets if secret in stack.log]


def test_a_person_signs_in_and_out_at_the_provider(stack, live, provider, new_page):
    page = new_page(locale="en")
    page.goto(f"{stack.url}/accounts/")
    page.get_by_role("link", name="Sign in with Company ID").click()
    expect(page).to_have_url(f"{stack.url}/accounts/")
    wait_for_stream(page)
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url(f"{provider.url}/out?**")
    page.goto(f"{stack.url}/accounts/")
    expect(page.get_by_label("Username")).to_be_visible()
    assert SECRET not in stack.log and not AccessAttempt.objects.exists()


def test_who_is_here_already_links_the_provider(stack, live, provider, new_page):
    provider.person = provider.person | {"sub": "sub-2", "preferred_username": "operator"}
    page = new_page(locale="en")
    give_password(page, stack, "operator", "/me/")
    page.get_by_role("button", name="Link", exact=True).click()
    expect(page.get_by_text("From now on you can sign in there too")).to_be_visible()
    until(lambda: Identity.objects.filter(user=live.operator, subject="sub-2").exists())
