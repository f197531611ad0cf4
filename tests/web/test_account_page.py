"""The page of an account: one green button, facts folded, 30 days, the history with its filters."""

import re
from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.models import Drop, Incident
from accounts.web.history.account_page import DROPS_LISTED
from tests.support.factories import make_attempt

pytestmark = pytest.mark.usually("sqlite")

NOW = timezone.now()
DAY = timedelta(days=1)


def page(people, account, query="", by=None):
    answer = (by or people.operator).client.get(f"/accounts/{account.pk}/{query}")
    assert answer.status_code == 200
    return answer.content.decode()


def greens(text):
    return re.findall(r'class="btn primary"\s+id="([\w-]+)"', text)


def shown(text):
    return [int(pk) for pk in re.findall(r'id="past-(\d+)"', text)]


def ended(account, state="failed", **fields):
    return make_attempt(account, state, ended_at=NOW, **fields)


@pytest.mark.parametrize("state", ["failed", "expired", "cancelled", "succeeded"])
@pytest.mark.slow
def test_one_button_is_green_while_others_wait_to_be_scanned(people, state):
    people.account(wc_id="wxid_2", state="offline", queued_for_scan_at=NOW)
    account = people.account(wc_id="wxid_1", state="offline", state_since=NOW - DAY)
    attempt = ended(account, state, reason="declined" if state == "failed" else "")
    assert len(greens(page(people, account))) == 1
    there = people.operator.client.get(f"/attempts/{attempt.pk}/").content.decode()
    assert len(greens(there)) == 1 and 'id="next-in-queue"' in there


def test_a_new_account_has_no_row_of_dashes(people):
    text = page(people, people.account(place="Rack 3 · Slot 10", note="ask her"))
    assert "Rack 3 · Slot 10" in text and "ask her" in text
    for part in ('id="details"', 'id="month"', 'id="history"', 'id="check-now"', 'name="relogin_at"'):
        assert part not in text


@pytest.mark.parametrize("state", ["", "waiting", "code_required", "failed", "expired", "cancelled"])
def test_the_panel_says_where_the_phone_is(people, state):
    account = people.account(place="Rack 3 · Slot 10", wc_id="wxid_1", state="offline", state_since=NOW - DAY)
    if state:
        make_attempt(account, state)
    panel = page(people, account).split('id="panel"')[1].split("</section>")[0]
    assert re.search(r'class="plate">\s*<bdi>Rack 3 · Slot 10</bdi>', panel)


def test_thirty_days_name_the_drops_and_only_the_accounts_that_one_sees(people):
    account = people.account(
        wc_id="w1", w_id="w", state="online", first_login_at=NOW - 90 * DAY, state_since=NOW - DAY
    )
    incident = Incident.objects.create()
    for other in (account, people.account(wc_id="w2"), people.account(wc_id="w3", team=people.west)):
        Drop.objects.create(account=other, w_id="w", at=NOW - DAY, ended_at=NOW - DAY / 2, incident=incident)
    text = page(people, account)
    assert text.count("data-day=") == 30
    assert "with 1 other" in text and "with 2 others" not in text
    assert re.search(r'aria-label="30 days: 9\d\.\d% online, 1 drop"', text)


def test_of_very_many_drops_the_newest_are_listed_and_all_are_counted(people):
    account = people.account(
        wc_id="w1", w_id="w", state="online", first_login_at=NOW - 90 * DAY, state_since=NOW
    )
    times = [NOW - DAY - n * DAY / 24 for n in range(DROPS_LISTED + 7)]
    Drop.objects.bulk_create(Drop(account=account, w_id="w", at=at, ended_at=at + DAY / 48) for at in times)
    text = page(people, account)
    assert text.count("data-drop=") == DROPS_LISTED
    assert "7 earlier drops are counted in the table." in text
    assert f"<b>{DROPS_LISTED + 7}</b> drops" in text


@pytest.mark.slow
def test_the_history_is_filtered_and_stays_so_while_it_is_live(people):
    account = people.account(wc_id="w1", state="offline", state_since=NOW, first_login_at=NOW - DAY)
    failed = ended(account, "failed", asked_by=people.operator, asked_by_name="li")
    prompt = ended(account, "expired", method="popup", trigger="recovery")
    assert shown(page(people, account)) == [prompt.pk, failed.pk]
    for query, rows in {
        "?outcome=failed": [failed.pk],
        "?method=popup": [prompt.pk],
        "?who=li": [failed.pk],
        "?who=:recovery": [prompt.pk],
        "?who=:recovery&outcome=failed": [],
        "?outcome=nothing-of-ours": [prompt.pk, failed.pk],
    }.items():
        text = page(people, account, query)
        assert shown(text) == rows, query
        assert f'data-attempt="{prompt.pk}"' in text  # the panel shows the newest one nevertheless
        assert "nothing-of-ours" not in text
    assert "/history/?outcome=failed" in page(people, account, "?outcome=failed")


def test_check_now_keeps_the_page_in_place(people):
    account = people.account(wc_id="w1", w_id="w", state="online", state_since=NOW - DAY, first_login_at=NOW)
    assert f'hx-post="/accounts/{account.pk}/check/"' in page(people, account)


def test_each_key_stands_on_its_button(people):
    account = people.account(wc_id="w1", state="offline", state_since=NOW, first_login_at=NOW - DAY)
    text = page(people, account, by=people.admin)
    for key in "lpce":
        assert f'data-key="{key}"' in text and f"<kbd>{key}</kbd>" in text
