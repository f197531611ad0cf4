"""The pages: what they show, what they say about bad input, and how many queries they need."""

import re
from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import (
    Account,
    Drop,
    Incident,
    LoginAttempt,
    Tag,
    UnmanagedAccount,
    UpstreamAccess,
    WaitsWorker,
)
from accounts.reasons import Reason, advice
from accounts.states import FINAL_STATES, OPEN_STATES, AttemptState
from accounts.status import readiness
from accounts.web.forms import AccountForm
from accounts.web.history import account_page
from tests.support.factories import make_attempt
from wkportal import __version__

pytestmark = pytest.mark.usually("sqlite")


def html(answer, status: int = 200) -> str:
    assert answer.status_code == status
    return answer.content.decode()


def rows(page: str) -> list[int]:
    return [int(number) for number in re.findall(r'<tr[^>]*data-account="(\d+)"', page)]


def queries(client, path: str) -> int:
    with CaptureQueriesContext(
        connection,
    ) as captured:
        html(client.get(path))
    return len(captured)


# --- the list -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?sort=-label",
        "?sort=place",
        "?group=waiting",
        "?group=online",
        "?q=account",
        "?tag=vip",
        "?page=last",
    ],
)
@pytest.mark.slow
def test_the_list_needs_as_many_queries_for_2n_rows_as_for_n(people, query):
    def grow(number):
        for count in range(number):
            account = people.account(**({"w_id": f"w{Account.objects.count()}"} if count % 2 else {}))
            account.tags.add(
                Tag.objects.get_or_create(name="vip")[0], Tag.objects.get_or_create(name=f"t{count}")[0]
            )
            make_attempt(account, asked_by=people.operator)

    client = people.operator.client
    grow(6)
    client.get("/accounts/")
    few = queries(client, f"/accounts/{query}")
    grow(6)
    assert queries(client, f"/accounts/{query}") == few
    # Who it is and what they may (6), the groups of the matches (2 and the matches), the rows and what they say (8), the
    # filters' choices and saved views (4), the frame (3), the tag's ID: by an index, and none for what was not asked.
    assert few <= 25


@pytest.mark.parametrize(
    ("text", "found"),
    [("旗舰", ["旗舰店 01"]), ("贝塔", ["旗舰店 01"]), ("WL9", ["旗舰店 01"]), ("hi12", ["Backup phone"]),
     ("旗舰 贝塔", ["旗舰店 01"]), ("旗舰 hi12", []), ("%", []), ("_nothing_", []), ("'; DROP TABLE", []), ("", ["Backup phone", "旗舰店 01"])],
)  # fmt: skip
@pytest.mark.usually("sqlite", "postgres")
def test_the_search_looks_in_label_nickname_wc_id_and_wechat_id(people, text, found):
    people.account(label="旗舰店 01", nickname="贝塔同学", wc_id="wxid_wl9q")
    people.account(label="Backup phone", wechat_id="hi1212")

    page = html(people.operator.client.get("/accounts/", {"q": text}))

    names = dict(Account.objects.values_list("pk", "label"))
    assert sorted(names[pk] for pk in rows(page)) == sorted(found)


@pytest.mark.usually("sqlite", "postgres")
@pytest.mark.slow
def test_the_groups_filter_count_and_add_up(people):
    new, online, offline = (
        people.account(),
        people.account(w_id="w1"),
        people.account(state="offline", wc_id="x1"),
    )
    waiting = make_attempt(people.account()).account
    failed = make_attempt(people.account(), "failed", reason="declined").account
    expected = {
        "": {new, online, offline, waiting, failed},
        "attention": {failed},
        "online": {online},
        "waiting": {waiting},
        "offline": {offline},
        "new": {new},
    }
    for group, accounts in expected.items():
        page = html(people.operator.client.get("/accounts/", {"group": group}))
        assert set(rows(page)) == {account.pk for account in accounts}
        assert re.search(rf'aria-current="[^"]*"[^>]*>.*?<b>{len(accounts)}</b>', page, re.DOTALL)


def test_an_address_of_the_time_of_states_leads_to_the_group_of_that_name(people):
    online = people.account(w_id="w1")
    people.account()
    page = html(people.operator.client.get("/accounts/", {"state": "online", "sort": "state"}))
    assert rows(page) == [online.pk]


@pytest.mark.parametrize(
    "junk",
    [
        "?group=junk",
        "?team=7&proxy=x&rack=%00",
        "?page=>attention.junk.1",
        "?page=<online.2026-01-01.1",
        "?sort=password",
        "?page=zzz",
        "?page=>99",
        "?tag=%00",
        "?q=%00",
        "?sort=__class__&page=<1",
    ],
)
@pytest.mark.usually("sqlite", "postgres")
def test_a_junk_question_is_a_list_all_the_same(people, junk):
    account = people.account()
    found = rows(html(people.operator.client.get(f"/accounts/{junk}")))
    assert found == [account.pk]


def test_a_merged_record_is_not_listed_and_leads_to_the_other(people):
    kept = people.account(label="Kept")
    merged = people.account(label="Joined", merged_into=kept)
    client = people.operator.client
    assert rows(html(client.get("/accounts/"))) == [kept.pk]
    assert client.get(f"/accounts/{merged.pk}/").headers["Location"] == f"/accounts/{kept.pk}/"


def test_a_record_merged_into_a_hidden_one_says_so_without_its_name(people):
    kept = people.account(label="Their secret label", team=people.west)
    merged = people.account(label="Joined", merged_into=kept)
    page = html(people.operator.client.get(f"/accounts/{merged.pk}/"))
    assert "Their secret label" not in page


# --- one account ----------------------------------------------------------------------------------------


def test_an_online_account_carries_its_ids_and_others_do_not(people):
    client = people.operator.client
    online = people.account(w_id="w-9", wc_id="wxid_9")
    offline = people.account(state="offline", wc_id="wxid_8")

    page = html(client.get(f"/accounts/{online.pk}/"))
    assert 'data-wc-id="wxid_9"' in page and 'data-w-id="w-9"' in page
    assert "data-w-id" not in html(client.get(f"/accounts/{offline.pk}/"))


@pytest.mark.parametrize("reason", Reason.values)
def test_every_reason_says_what_happened_and_what_to_do(people, reason):
    assert advice(reason)
    state = {"cancelled": "cancelled", "not_scanned": "expired"}.get(reason, "failed")
    attempt = make_attempt(
        people.account(), state, reason=reason, upstream_text="上游的话", upstream_code="1001"
    )
    page = html(people.operator.client.get(f"/attempts/{attempt.pk}/"))

    assert f'data-reason="{reason}"' in page
    assert str(Reason(reason).label).replace("'", "&#x27;") in page
    assert "上游的话" in page


@pytest.mark.parametrize("state", AttemptState.values)
def test_the_panel_has_the_code_only_while_it_is_good(people, state):
    attempt = make_attempt(
        people.account(), state, **({} if state in FINAL_STATES else {"qr_png": b"\x89PNG"})
    )
    page = html(people.operator.client.get(f"/accounts/{attempt.account_id}/live/"))

    assert f'data-attempt="{attempt.pk}"' in page and f'data-state="{state}"' in page
    assert (f"/attempts/{attempt.pk}/qr.png" in page) is (state == "waiting")
    assert (f"/attempts/{attempt.pk}/cancel/" in page) is (state in OPEN_STATES)


def test_who_started_it_is_named(people):
    attempt = make_attempt(people.account(), asked_by=people.mate, asked_by_name="mate")
    assert "mate" in html(people.operator.client.get(f"/accounts/{attempt.account_id}/"))


def test_a_wait_that_nobody_takes_is_called_that(people):
    now = timezone.now()
    attempt = make_attempt(people.account(), qr_shown_at=now - timedelta(seconds=5))
    assert 'data-warning="no_worker"' in html(people.operator.client.get(f"/attempts/{attempt.pk}/"))
    WaitsWorker.objects.create(name="worker", alive_until=now + timedelta(seconds=9))
    LoginAttempt.objects.update(lease_owner="worker")
    assert 'data-warning="no_worker"' not in html(people.operator.client.get(f"/attempts/{attempt.pk}/"))


def test_a_page_that_reads_an_overdue_attempt_ends_it(committed):
    attempt = make_attempt(committed.account(), deadline_at=timezone.now() - timedelta(seconds=17))
    assert 'data-state="expired"' in html(committed.operator.client.get(f"/attempts/{attempt.pk}/"))


def test_the_mobile_number_is_masked(people):
    account = people.account(mobile="13812345678")
    page = html(people.operator.client.get(f"/accounts/{account.pk}/"))
    assert "138****5678" in page and "13812345678" not in page


def test_the_panel_shows_the_newest_login_on_every_page_of_the_history(people, monkeypatch):
    monkeypatch.setattr(account_page, "HISTORY_SIZE", 1)
    account = people.account()
    older, newer = (make_attempt(account, AttemptState.CANCELLED) for _ in range(2))
    for cursor, listed in (("", newer), (f"?page=%3E{newer.pk}", older)):
        shown = html(people.operator.client.get(f"/accounts/{account.pk}/{cursor}"))
        below = html(people.operator.client.get(f"/accounts/{account.pk}/history/{cursor}"))
        assert f'data-attempt="{newer.pk}"' in shown
        assert f"/attempts/{listed.pk}/" in shown and f"/attempts/{listed.pk}/" in below


@pytest.mark.parametrize("path", ["/accounts/{}/", "/accounts/{}/live/", "/accounts/{}/history/"])
@pytest.mark.slow
def test_an_account_with_a_long_history_needs_no_more_queries(people, path):
    account = people.account()
    for _count in range(3):
        make_attempt(account, "failed", reason="refused", asked_by=people.mate)
    people.operator.client.get(path.format(account.pk))
    few = queries(people.operator.client, path.format(account.pk))
    for _count in range(12):
        make_attempt(account, "failed", reason="refused", asked_by=people.operator)
    assert queries(people.operator.client, path.format(account.pk)) == few


def test_the_alarm_is_on_every_page_until_it_is_over(people, settings):
    access = UpstreamAccess.objects.create(
        base_url=settings.WK_BASE_URL, account=settings.WK_ACCOUNT, refused_at=timezone.now(),
        refused_why="developer_expired", refused_text="账号已到期",
    )  # fmt: skip
    account = people.account()
    for path in ("/accounts/", f"/accounts/{account.pk}/", "/accounts/new/"):
        assert "账号已到期" in html(
            people.viewer.client.get(path) if path != "/accounts/new/" else people.operator.client.get(path)
        )
    access.refused_at = None
    access.save()
    assert "账号已到期" not in html(people.viewer.client.get("/accounts/"))


# --- forms ----------------------------------------------------------------------------------------------


def test_adding_an_account(people):
    answer = people.operator.client.post(
        "/accounts/new/",
        {
            "label": "  旗舰店\n01 ",
            "wc_id": " wxid_1 ",
            "proxy": "3",
            "tag_names": "vip, 上海，vip",
            "team": people.east.pk,
            "note": "n",
        },
    )
    account = Account.objects.get()
    assert answer.headers["Location"] == f"/accounts/{account.pk}/"
    assert (account.label, account.wc_id, account.proxy, account.team) == (
        "旗舰店 01",
        "wxid_1",
        3,
        people.east,
    )
    assert [tag.name for tag in account.tags.all()] == ["vip", "上海"]
    assert account.state == "new"


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("label", "", "Enter a label"),
        ("label", "\u202e\u200e", "Enter a label"),
        ("label", "\u3164\u2800\u200b\ufe0f", "Enter a label"),
        ("label", "x" * 101, "100"),
        ("wc_id", "no spaces allowed", "A wcId has 3 to 100"),
        ("wc_id", "<b>", "A wcId has 3 to 100"),
        ("wc_id", "wxid_taken", "already exists"),
        ("proxy", "77", "Select a valid choice"),
        ("proxy", "x", "Select a valid choice"),
        ("tag_names", "x" * 41, "Enter at most 20 tags"),
        ("tag_names", ",".join(map(str, range(21))), "Enter at most 20 tags"),
        ("team", "999", "Select a valid choice"),
        ("team", "", "required"),
    ],
)
@pytest.mark.slow
def test_bad_input_gets_a_sentence_and_nothing_is_lost(people, field, value, sentence):
    people.account(wc_id="wxid_taken")
    form = {
        "label": "My label",
        "wc_id": "",
        "proxy": "2",
        "tag_names": "vip",
        "team": people.east.pk,
        "note": "A long note",
    }
    page = html(people.operator.client.post("/accounts/new/", {**form, field: value}), 422)

    assert sentence in page
    assert "A long note" in page
    if field != "label":
        assert 'value="My label"' in page
    assert Account.objects.count() == 1


@pytest.mark.slow
def test_what_is_pasted_is_taken_as_it_is_seen(people):
    unseen = {
        "label": "\u200b旗舰店\u00ad 01\u3164",
        "wc_id": "“ｗｘｉｄ＿１\u200e”",
        "tag_names": "vip、上海\ufeff、\u2060",
        "time_zone": "\u200bAsia/Tokyo",
        "team": people.east.pk,
    }
    people.operator.client.post("/accounts/new/", unseen)
    account = Account.objects.get()
    assert (account.label, account.wc_id, account.time_zone) == ("旗舰店 01", "wxid_1", "Asia/Tokyo")
    assert [tag.name for tag in account.tags.all()] == ["vip", "上海"]
    for text in ("\ufeffwxid_1", "“wxid_1”", "ＷＸＩＤ＿１", "旗舰\u200b店", "'旗舰店'"):
        assert rows(html(people.operator.client.get("/accounts/", {"q": text}))) == [account.pk], text


def test_a_wc_id_that_a_login_wrote_is_not_edited(people):
    account = people.account(wc_id="wxid_1", label="Before", state="offline")
    people.operator.client.post(
        f"/accounts/{account.pk}/edit/",
        {"label": "After", "wc_id": "wxid_other", "tag_names": "", "team": people.east.pk},
    )
    account.refresh_from_db()
    assert (account.label, account.wc_id) == ("After", "wxid_1")


def test_a_wc_id_that_no_login_confirmed_is_corrected(people):
    account = people.account(wc_id="wxid_mistyped")
    path = f"/accounts/{account.pk}/edit/"
    form = {"label": "Front desk", "tag_names": "", "team": people.east.pk}
    assert "can still be corrected" in html(people.operator.client.get(path))
    for typed, kept in (("wxid_1", "wxid_1"), ("", None)):
        assert people.operator.client.post(path, {**form, "wc_id": typed}).status_code == 302
        account.refresh_from_db()
        assert account.wc_id == kept


def test_a_wc_id_of_others_gets_one_sentence_whoever_they_are(people):
    people.account(wc_id="wxid_west", team=people.west)
    UnmanagedAccount.objects.create(wc_id="wxid_unmanaged")
    form = {"label": "Mine", "tag_names": "", "team": people.east.pk}
    said = set()
    for typed in ("wxid_west", "wxid_unmanaged"):
        page = html(people.operator.client.post("/accounts/new/", {**form, "wc_id": typed}), 422)
        said |= set(re.findall(r'<p class="error" role="alert">(.*?)</p>', page))
        assert "already exists" not in page
    assert len(said) == 1
    assert not Account.objects.filter(label="Mine").exists()
    assert people.admin.client.post("/accounts/new/", {**form, "wc_id": "wxid_unmanaged"}).status_code == 302


def test_a_record_whose_wc_id_others_may_only_adopt_by_now_can_be_changed(people):
    account = people.account(wc_id="wxid_typed", label="Before")
    UnmanagedAccount.objects.create(wc_id="wxid_typed", w_id="w-1")
    form = {"label": "After", "wc_id": "wxid_typed", "tag_names": "", "team": people.east.pk}
    assert people.operator.client.post(f"/accounts/{account.pk}/edit/", form).status_code == 302
    account.refresh_from_db()
    assert (account.label, account.state) == ("After", "new")


def test_who_may_adopt_does_so_by_entering_the_wc_id(people):
    UnmanagedAccount.objects.create(wc_id="wxid_unmanaged", w_id="w-1")
    form = {"label": "Mine", "wc_id": "wxid_unmanaged", "tag_names": "", "team": people.east.pk}
    people.admin.client.post("/accounts/new/", form)
    account = Account.objects.get(label="Mine")
    assert (account.state, account.w_id, account.team) == ("online", "w-1", people.east)

    typed = people.account(wc_id="wxid_typed")
    UnmanagedAccount.objects.create(wc_id="wxid_typed", w_id="w-2")
    people.admin.client.post(f"/accounts/{typed.pk}/edit/", {**form, "label": "Seen", "wc_id": "wxid_typed"})
    typed.refresh_from_db()
    assert (typed.label, typed.state) == ("Seen", "new")


def test_an_account_that_cannot_be_adopted_is_saved_and_says_so(people, monkeypatch):
    def fails(*_args):
        raise OperationalError("the server closed the connection unexpectedly")

    monkeypatch.setattr(Account, "go_online", fails)
    UnmanagedAccount.objects.create(wc_id="wxid_unmanaged", w_id="w-1")
    form = {"label": "Mine", "wc_id": "wxid_unmanaged", "tag_names": "", "team": people.east.pk}
    page = html(people.admin.client.post("/accounts/new/", form, follow=True))
    assert Account.objects.get().wc_id == "wxid_unmanaged" and UnmanagedAccount.objects.exists()
    assert "1 account that is online already could not be adopted. Adopt it under “Unmanaged”." in page


def test_the_account_that_scanned_instead_is_taken_as_the_one_meant(people):
    typed = people.account(wc_id="wxid_tru", label="Front desk")
    other = people.account(w_id="w-1", wc_id="wxid_true", nickname="贝塔", label="贝塔", wechat_id="wxid_tru")
    attempt = make_attempt(typed, "failed", reason="wrong_account", other_account=other, other_name="贝塔")
    page, path = f"/attempts/{attempt.pk}/", f"/attempts/{attempt.pk}/meant/"
    assert "This is the account" in html(people.operator.client.get(page))
    assert "This is the account" not in html(people.viewer.client.get(page))
    for _click in range(2):
        assert people.operator.client.post(path).headers["Location"] == f"/accounts/{typed.pk}/"
    typed.refresh_from_db()
    assert typed.merged_into == other

    other.team = people.west
    other.save()
    strange = make_attempt(
        people.account(wc_id="wxid_tr"), "failed", reason="wrong_account", other_account=other
    )
    assert "This is the account" not in html(people.operator.client.get(f"/attempts/{strange.pk}/"))
    assert people.operator.client.post(f"/attempts/{strange.pk}/meant/").status_code == 404


@pytest.mark.usually("sqlite", "postgres")
def test_an_edit_does_not_undo_a_login_that_ends_meanwhile(people):
    seen = people.account(label="Before")
    Account.objects.filter(pk=seen.pk).update(state="online", wc_id="wxid_1", w_id="w-1", bound_seq=3)
    typed = {"label": "After", "wc_id": "wxid_typed", "tag_names": "", "team": people.east.pk}
    form = AccountForm(typed, instance=seen, user=people.operator)
    assert form.is_valid()
    form.save()

    account = Account.objects.get(pk=seen.pk)
    assert (account.label, account.state, account.w_id, account.bound_seq) == ("After", "online", "w-1", 3)
    assert account.wc_id == "wxid_1"


@pytest.mark.parametrize("edited", [False, True], ids=["added", "edited"])
def test_of_two_who_save_the_same_wc_id_at_once_the_second_is_told(committed, edited):
    typed = {"label": "Shop", "wc_id": "wxid_same", "team": committed.east.pk}
    second = AccountForm(
        typed, instance=committed.account(wc_id=None) if edited else None, user=committed.operator
    )
    assert second.is_valid()
    committed.account(wc_id="wxid_same", team=committed.east)
    assert second.save_if_free() is None
    assert "wc_id" in second.errors
    assert Account.objects.filter(wc_id="wxid_same").count() == 1


def test_two_accounts_without_a_wc_id_are_possible(people):
    for label in ("one", "two"):
        people.operator.client.post("/accounts/new/", {"label": label, "wc_id": "", "team": people.east.pk})
    assert Account.objects.filter(wc_id=None).count() == 2


def test_the_answer_with_the_code_is_kept_by_no_cache(committed, upstream):
    account = committed.account()
    answer = committed.operator.client.post(f"/accounts/{account.pk}/login/", headers={"HX-Request": "true"})
    assert "data:image/png;base64," in answer.content.decode()
    assert "no-store" in answer["Cache-Control"]


def test_the_answer_with_the_code_says_how_long_wkteam_took(committed, upstream):
    account = committed.account()
    answer = committed.operator.client.post(f"/accounts/{account.pk}/login/", headers={"HX-Request": "true"})
    assert re.search(r"QR code received in \d+\.\d s", answer.content.decode())


def test_logging_in_through_a_proxy_that_does_not_exist(committed, upstream):
    account = committed.account()
    page = html(committed.operator.client.post(f"/accounts/{account.pk}/login/", {"proxy": "99"}), 422)
    assert "99" in page
    assert upstream.calls("/iPadLogin") == 0


def test_an_online_account_asks_first(committed, upstream):
    account = committed.account(w_id="w-1")
    page = html(committed.operator.client.post(f"/accounts/{account.pk}/login/", {"proxy": "2"}))
    assert 'name="sure"' in page
    assert LoginAttempt.objects.count() == 0

    committed.operator.client.post(f"/accounts/{account.pk}/login/", {"proxy": "2", "sure": "1"})
    assert LoginAttempt.objects.get().proxy == 2


@pytest.mark.parametrize("headers", [{}, {"HX-Request": "true"}])
def test_an_online_account_that_is_logging_in_shows_that_login_and_asks_nothing(headers, committed):
    account = committed.account(w_id="w-1")
    attempt = make_attempt(account)
    answer = committed.operator.client.post(f"/accounts/{account.pk}/login/", {"proxy": "2"}, headers=headers)
    if headers:
        assert f'data-attempt="{attempt.pk}"' in html(answer) and 'name="sure"' not in html(answer)
    else:
        assert (answer.status_code, answer["Location"]) == (302, f"/attempts/{attempt.pk}/")
    assert LoginAttempt.objects.count() == 1


@pytest.mark.parametrize("code", ["", "12", "12 x 34", "1" * 13, "一二三四", "<b>1</b>", "12345\x00"])
def test_an_invalid_verification_code_is_not_sent(people, code):
    attempt = make_attempt(people.account(), "code_required")
    page = html(people.operator.client.post(f"/attempts/{attempt.pk}/code/", {"code": code}), 422)
    attempt.refresh_from_db()
    assert attempt.state == "code_required"
    assert "phone" in page


@pytest.mark.parametrize("code", ["123456", "１２３４５６", "123 456", " 123-456\u200b"])
def test_a_verification_code_is_taken_as_it_is_read_out(people, code):
    attempt = make_attempt(people.account(), "code_required")
    people.operator.client.post(f"/attempts/{attempt.pk}/code/", {"code": code})
    attempt.refresh_from_db()
    assert (attempt.state, attempt.verify_code) == ("waiting", "123456")


def test_a_verification_code_for_an_attempt_that_ended_changes_nothing(people):
    attempt = make_attempt(people.account(), "cancelled")
    people.operator.client.post(f"/attempts/{attempt.pk}/code/", {"code": "123456"})
    people.operator.client.post(f"/attempts/{attempt.pk}/cancel/")
    attempt.refresh_from_db()
    assert (attempt.state, attempt.verify_code) == ("cancelled", "")


def test_cancelling_twice_is_cancelling_once(committed):
    attempt = make_attempt(committed.account())
    for _click in range(2):
        committed.operator.client.post(f"/attempts/{attempt.pk}/cancel/")
    assert attempt.events.count() == 1


# --- headers --------------------------------------------------------------------------------------------


def test_pages_are_not_kept_by_caches_and_run_only_our_scripts(people):
    attempt = make_attempt(people.account(), qr_png=b"\x89PNG")
    paths = [
        "/accounts/",
        "/accounts/new/",
        f"/accounts/{attempt.account_id}/",
        f"/attempts/{attempt.pk}/",
        f"/attempts/{attempt.pk}/qr.png",
    ]
    for path in paths:
        answer = people.operator.client.get(path)
        assert "no-store" in answer["Cache-Control"], path
        policy = answer["Content-Security-Policy"]
        assert (
            "default-src 'self'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
        )
        assert answer["X-Frame-Options"] == "DENY"
        assert answer["X-Content-Type-Options"] == "nosniff"


def test_a_page_with_a_secret_repeats_nothing_of_its_address(people):
    attempt = make_attempt(people.account(), qr_png=b"\x89PNG")
    asked = {"page": "repeated-0", "any": "repeated-1"}
    for path in (f"/accounts/{attempt.account_id}/", f"/attempts/{attempt.pk}/"):
        assert "repeated-" not in html(people.operator.client.get(path, asked))


def test_the_footer_shows_the_version_to_people_who_are_signed_in(people, client):
    page = people.viewer.client.get("/accounts/", follow=True).content.decode()
    footer = page[page.index("<footer") : page.index("</footer>")]
    assert f"wkportal {__version__}" in footer
    assert __version__ not in client.get("/login/").content.decode()


def test_health_says_little_and_readiness_whether_the_database_can_serve(
    client, db, upstream, settings, monkeypatch
):
    assert client.get("/healthz").content.decode() == f"ok {__version__}"
    settings.WK_BASE_URL, settings.REDIS_URL = "http://127.0.0.1:1", "redis://127.0.0.1:1/0"
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"database": "ok"})
    monkeypatch.setattr(readiness._Known, "migrated", False)
    monkeypatch.setattr(readiness, "_is_migrated", lambda: False)
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()) == (503, {"database": "not migrated"})


# --- what nobody chose is not saved ---------------------------------------------------------------------


def chosen(page: str, name: str) -> list[str]:
    select = re.search(rf'<select[^>]*name="{name}".*?</select>', page, re.DOTALL)[0]
    return re.findall(r'<option value="([^"]*)"\s+selected', select)


@pytest.mark.slow
def test_a_new_account_has_the_proxy_and_the_team_that_somebody_chose(people):
    people.operator.groups.add(people.west)
    client = people.operator.client
    page = html(client.get("/accounts/new/"))
    assert (chosen(page, "proxy"), chosen(page, "team")) == ([""], [""])
    typed = {"label": "Shop", "proxy": "", "team": "", "keep_online": "on", "place": "Rack 3 · Slot 10"}
    wrong = html(client.post("/accounts/new/", typed), 422)
    assert "Choose a proxy in the phone’s own region" in wrong and "Choose the team" in wrong
    assert re.search(r'<select[^>]*name="proxy"[^>]*autofocus', wrong)
    assert wrong.count("autofocus") == 1
    client.post("/accounts/new/", {**typed, "proxy": "none", "team": people.west.pk})
    account = Account.objects.get()
    assert (account.proxy, account.team, account.rack) == (None, people.west, "Rack 3")


def test_who_is_in_one_team_need_not_choose_it_and_who_is_in_none_is_not_asked_to_add(people):
    assert chosen(html(people.operator.client.get("/accounts/new/")), "team") == [str(people.east.pk)]
    lone = people.person("lone", "operator")
    assert lone.client.get("/accounts/new/").status_code == 403
    page = html(lone.client.get("/accounts/"))
    assert "/accounts/new/" not in page and "Ask an admin to add you to one" in page


def test_no_proxy_is_a_choice_for_an_account_that_has_one(committed, upstream):
    account = committed.account(proxy=4)
    client = committed.operator.client
    client.post(f"/accounts/{account.pk}/login/", {"proxy": "none"})
    assert "proxy" not in upstream.bodies("/iPadLogin")[0]
    first = LoginAttempt.objects.get()
    client.post(f"/attempts/{first.pk}/cancel/")
    client.post(
        f"/accounts/{account.pk}/edit/", {"label": "Shop", "proxy": "none", "team": committed.east.pk}
    )
    account.refresh_from_db()
    assert (first.proxy, account.proxy) == (None, None)


def test_after_a_prompt_that_failed_the_accounts_own_proxy_is_selected(people):
    account = people.account(proxy=4, state="offline", wc_id="x1")
    make_attempt(account, "failed", method="popup", reason="prompt_declined")
    assert chosen(html(people.operator.client.get(f"/accounts/{account.pk}/")), "proxy") == ["4"]


@pytest.mark.slow
def test_none_is_chosen_on_the_page_after_a_prompt_that_failed_and_stays_chosen(committed, upstream):
    account = committed.account(proxy=4, state="offline", wc_id="x1")
    make_attempt(account, "failed", method="popup", reason="prompt_declined")
    client = committed.operator.client
    page = html(client.get(f"/accounts/{account.pk}/"))
    action = re.search(r'<form[^>]*action="([^"]+)"[^>]*class="row start"', page)[1]
    assert '<option value="none"' in re.search(r'<select[^>]*name="proxy".*?</select>', page, re.DOTALL)[0]
    client.post(action, {"proxy": "none"})
    assert "proxy" not in upstream.bodies("/iPadLogin")[0]
    attempt = account.attempts.open().get()
    client.post(f"/attempts/{attempt.pk}/cancel/")
    for path in (f"/accounts/{account.pk}/", f"/attempts/{attempt.pk}/"):
        assert chosen(html(client.get(path)), "proxy") == ["none"]
    account.refresh_from_db()
    assert account.proxy == 4


def test_a_drop_of_many_is_said_on_the_list_to_those_who_see_one_of_them(people):
    incident = Incident.objects.create()
    for team in (people.east, people.east, people.west):
        Drop.objects.create(account=people.account(team=team, state="offline"), w_id="x", incident=incident)
    page = html(people.operator.client.get("/accounts/"))
    assert "2 accounts dropped at once" in page and f"/incidents/{incident.pk}/" in page
    nobody = people.person("nobody", "viewer")
    assert "dropped at once" not in html(nobody.client.get("/accounts/news/"))
