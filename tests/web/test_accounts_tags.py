"""How states, times and links are drawn, and what every page keeps to: nothing inline, nothing unescaped."""

import json
import re
from datetime import timedelta

import pytest
from django.utils import timezone, translation

from accounts.models import Account, Avatar
from accounts.states import AttemptState
from accounts.templatetags import accounts_tags
from tests.support.factories import make_attempt

pytestmark = pytest.mark.usually("sqlite")

HOSTILE = "<script>alert(1)</script>\"'&"


def page(client, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200
    return answer.content.decode()


# --- times ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.9, "59 s"), (60, "1 min"), (3599, "59 min"), (3600, "1 h"), (86_399, "23 h"),
     (86_400, "1 day"), (172_800, "2 days"), (60 * 86_400, "2 months"), (-5, "0 s")],
)  # fmt: skip
def test_a_duration_has_one_unit(seconds, words):
    assert accounts_tags.words_for(seconds) == words


def test_the_browser_gets_the_same_table_of_units():
    words = json.loads(accounts_tags.time_words())
    assert [(limit, size) for limit, size, _words in words["units"]] == [
        (None if limit == float("inf") else limit, size) for limit, size, _words in accounts_tags.UNITS
    ]
    assert all("{n}" in words for _limit, _size, words in words["units"])
    assert "{time}" in words["ago"]


@pytest.mark.parametrize(("seconds", "text"), [(112.9, "1:52"), (150, "2:30"), (9, "0:09"), (-1, "0:00")])
def test_what_is_left_is_a_clock(seconds, text):
    assert accounts_tags.clock(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.42, "0.4 s"), (21.4, "21 s"), (150, "2 min 30 s"), (120, "2 min"), (7200, "2 h")]
)
def test_how_long_something_took(seconds, text):
    begin = timezone.now()
    assert accounts_tags.took(begin, begin + timedelta(seconds=seconds)) == text


def test_no_time_is_a_dash():
    assert (
        accounts_tags.ago(None)
        == accounts_tags.lasting(None)
        == accounts_tags.when(None)
        == accounts_tags.took(None, None)
        == "—"
    )


def test_a_relative_time_has_its_seconds_and_the_exact_time():
    drawn = accounts_tags.ago(timezone.now() - timedelta(minutes=2))
    assert re.fullmatch(
        r'<time datetime="[^"]+" title="\d{4}-\d\d-\d\d [^"]+" data-ago="120">2 min ago</time>', drawn
    )


# --- the list -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "text"), [(312, "312"), (10_000, "10,000"), (10_001, "10,000+")])
def test_a_count_ends_where_counting_does(count, text):
    assert accounts_tags.capped(count) == text


def test_the_avatars_of_a_page_are_found_with_one_query(people, django_assert_num_queries):
    accounts = [people.account(avatar_url="http://example.com/a") for _ in range(3)]
    Avatar.objects.create(account=accounts[1], png=b"png", source_url="http://example.com/a")
    with django_assert_num_queries(1):
        accounts_tags.know_avatars(accounts)
        pictures = [accounts_tags.avatar(account) for account in accounts]
    assert [bool(picture) for picture in pictures] == [False, True, False]
    Avatar.objects.update(fetched_at=timezone.now())
    assert accounts_tags.avatar(Account.objects.get(pk=accounts[1].pk)) != pictures[1]


def test_a_drop_looks_other_than_an_account_that_may_be_offline(people):
    kept = people.account(state="offline", wc_id="a1")
    let_go = people.account(state="offline", wc_id="a2", keep_online=False)
    assert accounts_tags.account_chip(kept)["kind"] == "failed"
    assert accounts_tags.account_chip(let_go)["kind"] == ""


def test_a_person_has_one_role(people):
    assert [accounts_tags.role(user) for user in (people.admin, people.operator, people.viewer)] == [
        "Admin",
        "Operator",
        "Viewer",
    ]


# --- what every page keeps to ---------------------------------------------------------------------------


def hostile_account(people, state: str) -> Account:
    account = people.account(label=HOSTILE, nickname=HOSTILE, note=HOSTILE, region=HOSTILE)
    reason = {"failed": "wrong_account", "expired": "not_scanned", "cancelled": "cancelled"}.get(state, "")
    make_attempt(
        account,
        state,
        reason=reason,
        other_name=HOSTILE if reason == "wrong_account" else "",
        upstream_text=HOSTILE,
        upstream_code="<u>1</u>",
        page_url="https://example.com/?a=<b>" if state == AttemptState.PAGE_REQUIRED else "",
        asked_by_name=HOSTILE,
    )
    return account


@pytest.mark.slow
@pytest.mark.parametrize("state", AttemptState.values)
def test_no_page_has_anything_inline_or_unescaped(people, state):
    account = hostile_account(people, state)
    attempt = account.attempts.get()
    for path in (
        "/accounts/",
        f"/accounts/{account.pk}/",
        f"/attempts/{attempt.pk}/",
        f"/accounts/{account.pk}/edit/",
    ):
        drawn = page(people.operator.client, path)
        assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son[a-z]+=|javascript:", drawn)
        assert "<u>1</u>" not in drawn and "=<b>" not in drawn and "alert(1)</script>" not in drawn
        ids = re.findall(r'\sid="([^"]+)"', drawn)
        assert len(ids) == len(set(ids))


@pytest.mark.parametrize("state", AttemptState.values)
def test_the_panel_carries_the_attempt_and_its_state(people, state):
    attempt = make_attempt(people.account(), state)
    for path in (f"/accounts/{attempt.account_id}/", f"/attempts/{attempt.pk}/"):
        (panel,) = re.findall(r'<section id="panel"[^>]*>', page(people.operator.client, path))
        assert f'data-attempt="{attempt.pk}"' in panel and f'data-state="{state}"' in panel


@pytest.mark.slow
def test_without_javascript_only_pages_that_wait_refresh(people):
    for state in AttemptState.values:
        attempt = make_attempt(people.account(), state)
        refreshes = 'http-equiv="refresh"' in page(people.operator.client, f"/attempts/{attempt.pk}/")
        assert refreshes == (state in (AttemptState.PREPARING, AttemptState.WAITING))


def test_a_viewer_gets_no_code_and_no_button(people):
    attempt = make_attempt(people.account(), qr_png=b"png")
    drawn = page(people.viewer.client, f"/accounts/{attempt.account_id}/")
    assert "qr.png" not in drawn and "/cancel/" not in drawn and "/login/" not in drawn


def test_a_fragment_begins_with_the_element_it_replaces(people):
    attempt = make_attempt(people.account())
    pk = attempt.account_id
    for path, root in (
        (f"/accounts/{pk}/live/", '<div id="account-live"'),
        (f"/accounts/{pk}/history/", '<div id="account-history"'),
        (f"/attempts/{attempt.pk}/live/", '<div id="attempt-live"'),
        (f"/accounts/{pk}/row/", f'<tr id="row-{pk}"'),
        ("/accounts/counts/", '<nav class="groups card" id="tabs"'),
    ):
        assert " ".join(page(people.operator.client, path).split()).startswith(root)


def test_dates_follow_the_language():
    moment = timezone.now() - timedelta(days=400)
    with translation.override("zh-hans"):
        assert re.search(r">\d{4}-\d\d-\d\d \d\d:\d\d<", accounts_tags.when(moment))
