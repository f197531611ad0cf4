"""Scan links: the page of a phone's owner, and the page on which people here make one."""

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
import time_machine
from django.db import connection
from django.test import Client
from django.utils import timezone

from accounts.attention import archive
from accounts.logins.success import complete_login
from accounts.models import AccountEvent, Channel, Delivery, LoginAttempt, Notification, Rule, ScanLink
from accounts.models.operators.scan_link import LinkState
from accounts.notifications import dispatch, messages
from accounts.reasons import Reason
from accounts.scanning import links
from accounts.states import AttemptState, EventType, Method, NotificationKind, Trigger
from accounts.upstream.responses import LoggedIn, Profile
from accounts.web.scan_link import owner
from tests.support.factories import fresh, make_attempt
from tests.support.processes import DEADLINE
from tests.support.threads import in_thread

HTMX = {"HX-Request": "true"}


@pytest.fixture
def account(people):
    return people.account(
        label="门店 3", wc_id="wxid_shop", state="offline", nickname="nick", mobile="13800000000"
    )


@pytest.fixture
def link(people, account):
    return links.create(account, timedelta(hours=8), by=people.operator)


@pytest.fixture
def visitor():
    return Client(REMOTE_ADDR="198.51.100.7")


def get(visitor, link_or_token, part: str = "", status: int = 200, **data) -> str:
    token = getattr(link_or_token, "token", link_or_token)
    answer = visitor.get(f"/scan/{token}/{part}", data, headers=HTMX if part else {})
    assert answer.status_code == status
    return answer.content.decode()


def do(visitor, link, what: str, status: int = 200, **data) -> str:
    answer = visitor.post(f"/scan/{link.token}/do/", {"do": what, **data}, headers=HTMX)
    assert answer.status_code == status
    return answer.content.decode()


def mode_of(page: str) -> str:
    return re.search(r'data-mode="(\w+)"', page)[1]


def happened(account) -> list[str]:
    return list(account.events.order_by("pk").values_list("happened", flat=True))


# --- what the page tells -----------------------------------------------------------------------------------


def test_it_tells_the_label_and_who_asked_and_nothing_else(visitor, link, account):
    page = get(visitor, link)
    assert mode_of(page) == "ask"
    assert "门店 3" in page
    assert "East" in page
    for secret in ("wxid_shop", "nick", "13800000000", link.created_by_name, "/accounts/", "/sign-in"):
        assert secret not in page, secret


def test_somebody_signed_in_here_sees_what_the_owner_sees(people, link):
    page = get(people.operator.client, link)
    assert "<nav" not in page
    assert "/accounts/" not in page


def test_it_is_in_no_referrer_no_cache_and_no_index(visitor, link):
    answer = visitor.get(f"/scan/{link.token}/")
    assert answer["Referrer-Policy"] == "strict-origin"
    assert answer["X-Robots-Tag"] == "noindex"
    assert "no-store" in answer["Cache-Control"]


def test_it_speaks_the_language_of_the_visitor_and_the_switch_leads_back(visitor, link):
    answer = visitor.get(f"/scan/{link.token}/", headers={"Accept-Language": "zh-CN"})
    assert 'lang="zh-hans"' in answer.content.decode()
    next_page = re.search(r'name="next"\s+value="([^"]+)"', answer.content.decode())[1]
    assert next_page == f"/scan/{link.token}/"


def test_a_revoked_link_and_one_that_never_was_are_answered_alike(people, visitor, link):
    token = link.token
    links.end(link, LinkState.REVOKED, timezone.now(), by=people.operator)
    pages = {get(visitor, name, status=410).replace(name, "…") for name in (token, "x" * len(token))}
    pages = {re.sub(r'name="csrfmiddlewaretoken" value="\w+"', "", page) for page in pages}
    assert len(pages) == 1
    assert "门店 3" not in pages.pop()


def test_an_expired_link_says_so_with_the_same_status(visitor, link):
    with time_machine.travel(timezone.now() + timedelta(hours=9)):
        page = get(visitor, link, status=410)
    assert mode_of(page) == "expired"
    assert fresh(link).token == ""
    assert happened(link.account)[-1] == EventType.LINK_EXPIRED


def test_who_guesses_is_stopped_after_some_tries(visitor, link, monkeypatch):
    monkeypatch.setattr(owner, "MOST_MISSES", 3)
    other = Client(REMOTE_ADDR="198.51.100.8")
    for n in range(3):
        get(other, f"guess{n}", status=410)
    get(other, link, status=410)  # also for a link that is right
    assert mode_of(get(visitor, link)) == "ask"


# --- openings ----------------------------------------------------------------------------------------------


def test_every_opening_is_recorded_with_time_and_address(visitor, link):
    get(visitor, link)
    get(visitor, link)
    assert [opening.address for opening in link.openings.all()] == ["198.51.100.7"] * 2
    assert fresh(link).state == LinkState.OPENED
    assert happened(link.account).count(EventType.LINK_OPENED) == 1


def test_a_link_is_not_opened_without_end(visitor, link, monkeypatch):
    monkeypatch.setattr(links, "MOST_OPENINGS", 2)
    get(visitor, link)
    get(visitor, link)
    assert mode_of(get(visitor, link, status=429)) == "too_often"
    assert link.openings.count() == 2


def test_opening_it_asks_wkteam_for_nothing(visitor, link):
    """A chat program that draws a preview of the link opens it too."""
    get(visitor, link)
    assert not LoginAttempt.objects.exists()


# --- codes and prompts -------------------------------------------------------------------------------------


def test_the_code_is_shown_and_belongs_to_who_made_the_link(visitor, link, account, upstream, people):
    page = do(visitor, link, "code")
    attempt = account.attempts.get()
    assert mode_of(page) == "code"
    assert "data:image/png;base64," in page
    assert (attempt.trigger, attempt.asked_by, attempt.state) == (Trigger.LINK, people.operator, "waiting")


def test_without_scripts_the_same_page_comes_by_a_redirect(visitor, link, upstream):
    answer = visitor.post(f"/scan/{link.token}/do/", {"do": "code"})
    assert answer["Location"] == f"/scan/{link.token}/"
    assert mode_of(get(visitor, link)) == "code"


def test_a_prompt_gives_way_to_a_code_and_back(visitor, link, account, upstream):
    assert mode_of(do(visitor, link, "prompt")) == "preparing"
    prompt = account.attempts.get()
    assert prompt.method == Method.POPUP
    assert mode_of(do(visitor, link, "code")) == "code"
    assert fresh(prompt).state == AttemptState.CANCELLED
    do(visitor, link, "prompt")
    assert account.attempts.open().get().method == Method.POPUP


def test_a_prompt_that_is_confirmed_at_this_moment_is_not_replaced(visitor, link, account, upstream):
    prompt = make_attempt(account, method=Method.POPUP)

    def in_between(execute, sql, *args):
        if sql.startswith("UPDATE") and LoginAttempt._meta.db_table in sql and not happened:
            happened.append(sql)
            confirm(fresh(prompt), "wxid_shop")
        return execute(sql, *args)

    happened: list[str] = []
    with connection.execute_wrapper(in_between):
        page = do(visitor, link, "code")
    assert mode_of(page) == "done"
    assert list(account.attempts.all()) == [prompt]


def test_a_prompt_stays_if_no_code_may_take_its_place(visitor, link, account, monkeypatch):
    monkeypatch.setattr(links, "MOST_CODES", 0)
    prompt = make_attempt(account, method=Method.POPUP)
    assert mode_of(do(visitor, link, "code")) == "too_often"
    assert fresh(prompt).is_open


def test_two_who_create_a_link_at_once_leave_one(committed):
    account = committed.account(state="offline", wc_id="wxid_shop")
    start = Barrier(2)

    def create(person):
        start.wait(DEADLINE)
        return links.create(account, timedelta(hours=1), by=person).pk

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(in_thread, create, person) for person in (committed.operator, committed.mate)]
        made = [future.result(DEADLINE) for future in futures]
    assert account.scan_links.active().get().pk in made
    assert account.scan_links.filter(state=LinkState.REVOKED).count() == 1


def test_a_login_that_goes_on_already_is_shown_whoever_began_it(visitor, link, account):
    attempt = make_attempt(account, method=Method.POPUP)
    assert mode_of(get(visitor, link)) == "prompt"
    assert account.attempts.get() == attempt


def test_an_account_that_never_logged_in_starts_with_the_code(people, visitor, upstream):
    new = people.account(label="New", wc_id=None)
    link = links.create(new, timedelta(hours=1), by=people.operator)
    page = get(visitor, link)
    assert mode_of(page) == "first"
    assert "data-begin" in page
    assert do(visitor, link, "prompt")
    assert not new.attempts.exists()


def test_an_expired_code_is_renewed_while_somebody_looks_and_then_no_more(visitor, link, account, upstream):
    do(visitor, link, "code")
    for number in range(1, links.RENEWALS + 2):
        attempt = account.attempts.latest("id")
        assert attempt.is_open, number
        attempt.move(AttemptState.EXPIRED, reason=Reason.NO_ANSWER)
        page = get(visitor, link, "live/")
    assert mode_of(page) == "ran_out"
    assert account.attempts.count() == links.RENEWALS + 1
    assert mode_of(do(visitor, link, "code")) == "code"  # a person asks: it begins anew


def test_a_link_has_a_limited_number_of_codes(visitor, link, account, upstream, monkeypatch):
    monkeypatch.setattr(links, "MOST_CODES", 1)
    do(visitor, link, "code")
    account.attempts.get().move(AttemptState.CANCELLED, reason=Reason.CANCELLED)
    assert mode_of(do(visitor, link, "code")) == "too_often"
    assert account.attempts.count() == 1


def test_nothing_is_sent_again_while_nothing_changes(visitor, link, upstream):
    page = do(visitor, link, "code")
    seen = re.search(r"\?seen=([^\"]+)", page)[1]
    get(visitor, link, "live/", 204, seen=seen)
    link.account.attempts.get().move(AttemptState.CODE_REQUIRED)
    page = get(visitor, link, "live/", seen=seen)
    assert mode_of(page) == "verify"
    assert fresh(link).state == LinkState.SCANNED


def test_a_verification_code_is_sent_and_a_wrong_one_keeps_what_was_typed(visitor, link, account):
    attempt = make_attempt(account, state=AttemptState.CODE_REQUIRED)
    page = do(visitor, link, "verify", 422, code="12 ab !")
    assert 'value="12 ab !"' in page
    do(visitor, link, "verify", code="135790")
    assert (fresh(attempt).state, fresh(attempt).verify_code) == ("waiting", "135790")


def test_another_account_that_scans_is_refused_and_said_without_its_name(visitor, link, account, people):
    other = people.account(label="Other", wc_id="wxid_other", state="offline")
    make_attempt(account)
    link = links.find(link.token)
    attempt = account.attempts.get()
    ScanLink.objects.filter(pk=link.pk).update(attempt=attempt)
    attempt.move(
        AttemptState.FAILED,
        reason=Reason.WRONG_ACCOUNT,
        other_account=other,
        other_name="Other",
        upstream_text="Other",
    )
    page = get(visitor, link)
    assert mode_of(page) == "wrong_account"
    assert "Other" not in page
    assert fresh(link).state == LinkState.SCANNED
    assert fresh(account).state == "offline"


# --- the end -----------------------------------------------------------------------------------------------


def confirm(attempt, wc_id: str) -> None:
    complete_login(attempt, LoggedIn(Profile(wc_id=wc_id, w_id=f"w-new-{attempt.pk}")))


def test_it_is_done_when_the_account_logs_in_and_opens_no_second_login(visitor, link, account, upstream):
    token = link.token
    do(visitor, link, "code")
    confirm(account.attempts.get(), "wxid_shop")
    assert mode_of(get(visitor, token, "live/")) == "done"
    assert fresh(link).state == LinkState.DONE
    assert happened(account)[-1] == EventType.LINK_DONE
    visitor.post(f"/scan/{token}/do/", {"do": "code"}, headers=HTMX)
    assert account.attempts.count() == 1
    assert mode_of(get(visitor, token)) == "done"


def test_a_known_phone_that_scans_for_a_new_record_is_said_without_a_name(people, visitor, upstream):
    people.account(label="Known", wc_id="wxid_known", state="offline", nickname="nick", team=people.west)
    new = people.account(label="New")
    link = links.create(new, timedelta(hours=1), by=people.operator)
    token = link.token
    do(visitor, link, "code")
    confirm(new.attempts.get(), "wxid_known")
    page = get(visitor, token, "live/")
    assert mode_of(page) == "done" and "data-merged" in page
    assert fresh(link).state == LinkState.DONE
    for secret in ("Known", "nick", "wxid_known", "West"):
        assert secret not in page
    assert "data-merged" in get(visitor, token)


def test_a_login_by_another_way_ends_it_without_anybody_looking(link, account):
    confirm(make_attempt(account), "wxid_shop")
    links.settle_due()
    assert (fresh(link).state, fresh(link).token) == (LinkState.DONE, "")


@pytest.mark.slow
def test_an_archived_account_has_none(link, account, people):
    archive.archive(type(account).objects.filter(pk=account.pk), by=people.operator)
    links.settle_due()
    assert fresh(link).state == LinkState.REVOKED


def test_one_that_expires_during_a_login_lets_it_end(visitor, link, account, upstream):
    do(visitor, link, "code")
    ScanLink.objects.update(expires_at=timezone.now())
    links.settle_due()
    assert mode_of(get(visitor, link, "live/")) == "code"
    account.attempts.get().move(AttemptState.FAILED, reason=Reason.DECLINED)
    assert mode_of(get(visitor, link, "live/")) == "expired"


# --- the page of the people here ---------------------------------------------------------------------------


def link_page(person, account, status: int = 200, **data) -> str:
    path = f"/accounts/{account.pk}/link/"
    answer = person.client.post(path, data) if data else person.client.get(path)
    assert answer.status_code == status
    return answer.content.decode()


def test_an_operator_creates_copies_and_revokes_it(people, account):
    link_page(people.operator, account, 302, do="create", hours="1")
    first = account.scan_links.get()
    page = link_page(people.operator, account)
    assert f"/scan/{first.token}/" in page
    assert first.expires_at - first.created_at == timedelta(hours=1)
    link_page(people.operator, account, 302, do="create", hours="8")
    assert fresh(first).state == LinkState.REVOKED
    second = account.scan_links.active().get()
    link_page(people.operator, account, 302, do="revoke")
    assert fresh(second).state == LinkState.REVOKED
    assert second.token not in link_page(people.operator, account)
    assert AccountEvent.objects.filter(happened=EventType.LINK_REVOKED, actor=people.operator).count() == 2


def test_neither_a_viewer_nor_another_team_gets_it(people, account, link):
    for person, status in ((people.viewer, 403), (people.stranger, 404)):
        link_page(person, account, status)
        link_page(person, account, status, do="create", hours="1")
        assert person.client.get(f"/accounts/{account.pk}/link/live/").status_code == status
    assert fresh(link).is_active


@pytest.mark.parametrize("hours", ["", "0", "9999", "x"])
def test_only_the_offered_times_are_taken(people, account, hours):
    link_page(people.operator, account, 422, do="create", hours=hours)
    assert not account.scan_links.exists()


def test_an_online_account_has_none(people):
    online = people.account(w_id="w")
    link_page(people.operator, online, 302, do="create", hours="1")
    assert not online.scan_links.exists()


def test_the_token_is_encrypted_at_rest_and_gone_after_the_end(link):
    token = link.token
    with connection.cursor() as cursor:
        cursor.execute("SELECT token, token_digest FROM accounts_scanlink")
        assert token not in str(cursor.fetchall())


# --- sending it --------------------------------------------------------------------------------------------


@pytest.fixture
def channel(people):
    channel = Channel.objects.create(name="Group", url="json://example.com/x", language="en")
    Rule.objects.create(channel=channel, kinds=[NotificationKind.OFFLINE]).teams.add(people.east)
    return channel


def test_it_is_sent_by_a_channel_of_the_team_in_a_message_of_its_own(
    people, account, link, channel, settings
):
    settings.WK_PUBLIC_URL = "https://portal.example.com/"
    link_page(people.operator, account, 302, do="send", channel=channel.pk)
    delivery = Delivery.objects.get()
    title, body = messages.message([delivery], channel)
    assert title == "Please log in: 门店 3"
    assert f"https://portal.example.com/scan/{link.token}/" in body
    assert fresh(link).state == LinkState.SENT
    rows = str(list(Notification.objects.values_list())) + str(list(AccountEvent.objects.values_list()))
    assert link.token not in rows


@pytest.mark.parametrize("number", ["9" * 30, "٣", "-1", ""])
def test_a_channel_that_is_none_is_not_found(people, account, link, number):
    link_page(people.operator, account, 404, do="send", channel=number)


def test_no_other_teams_channel_gets_it(people, account, link, channel, settings):
    settings.WK_PUBLIC_URL = "https://portal.example.com/"
    channel.rules.get().teams.set([people.west])
    link_page(people.operator, account, 404, do="send", channel=channel.pk)
    assert not Delivery.objects.exists()


def test_neither_a_digest_nor_a_silence_holds_it_back(account, link, channel, settings):
    settings.WK_PUBLIC_URL = "https://portal.example.com/"
    account.silenced_until = timezone.now() + timedelta(hours=1)
    account.save()
    for number in range(dispatch.MANY + 2):
        one = Notification.objects.create(key=f"p{number}", kind=NotificationKind.PLAN, at=timezone.now())
        Delivery.objects.create(channel=channel, notification=one, next_at=timezone.now())
    links.send(link, channel)
    batch, message = dispatch.next_message(channel, dispatch.claim(channel.pk))
    assert [delivery.notification.kind for delivery in batch] == [NotificationKind.SCAN_LINK]
    assert link.token in message[1]


def test_a_link_that_was_revoked_meanwhile_is_not_sent(people, link, channel, settings):
    settings.WK_PUBLIC_URL = "https://portal.example.com/"
    links.send(link, channel)
    links.end(link, LinkState.REVOKED, timezone.now(), by=people.operator)
    lease = dispatch.claim(channel.pk)
    assert dispatch.next_message(channel, lease)[0] == []


def test_rules_do_not_choose_it(people):
    page = people.admin.client.get("/admin/accounts/channel/add/").content.decode()
    assert 'value="offline"' in page
    assert 'value="scan_link"' not in page
