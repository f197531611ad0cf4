"""Accounts, logins and events as CSV files."""

import asyncio
import csv
import json
import tracemalloc
from io import StringIO

import pytest
from django.db import connection
from django.test import AsyncClient
from hypothesis import given
from hypothesis import strategies as st

from accounts.models import Account, LoginAttempt, RecoveryPolicy, Tag
from accounts.models.event import record
from accounts.proxies import OwnProxy
from accounts.states import AccountState, AttemptState, EventType
from accounts.web.exchange import cells, export
from tests.support.factories import make_attempt

pytestmark = pytest.mark.usually("sqlite")

FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "\t=1", "\r=1", "\tx", "\xa0=1", "\x00=1", "＝1", "'=1"]


def rows(answer) -> list[list[str]]:
    assert answer.status_code == 200
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    text = b"".join(answer).decode()
    assert text.startswith("\ufeff")
    return list(csv.reader(StringIO(text[1:], newline="")))


def table(answer) -> list[dict[str, str]]:
    head, *body = rows(answer)
    assert len(set(head)) == len(head)
    return [dict(zip(head, row, strict=True)) for row in body]


def labels(answer) -> list[str]:
    return [row["Label"] for row in table(answer)]


# --- cells ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", FORMULAS)
def test_no_spreadsheet_runs_a_cell(cell):
    assert cells.harmless(cell) == f"'{cell}"
    assert cells.as_written(f"'{cell}") == cell


@pytest.mark.parametrize("cell", ["", "x", "1-1", "'", "''", "'x", " x", "13800000000", "门店 2"])
def test_ordinary_cells_stay_as_they_are(cell):
    assert cells.harmless(cell) == cell == cells.as_written(cell)


@given(st.text(alphabet="'=+-@ \t\r\nx＝\ufeff", max_size=6))
def test_what_was_made_harmless_is_turned_back(cell):
    assert cells.as_written(cells.harmless(cell)) == cell


# --- accounts ---------------------------------------------------------------------------------------------


def test_an_account_has_all_that_people_say_about_it(people):
    policy = RecoveryPolicy.objects.create(name="Gentle")
    account = people.account(
        label="门店 2", place="Rack 3 · Slot 10", w_id="w-1", wc_id="-wxid_1", note="two\nlines", policy=policy,
        hours_from="09:00", hours_until="21:30", time_zone="Asia/Shanghai", keep_online=False,
    )  # fmt: skip
    account.tags.set([Tag.objects.create(name=name) for name in ("b", "a")])
    [row] = table(people.operator.client.get("/accounts/export.csv"))
    assert row == row | {
        "Label": "门店 2",
        "Place": "Rack 3 · Slot 10",
        "wcId": "'-wxid_1",
        "Proxy": "None (chosen by WKTeam)",
        "Tags": "a, b",
        "Team": "East",
        "Keep online": "No",
        "Note": "two\nlines",
        "Recovery policy": "Gentle",
        "Prompt hours from": "09:00",
        "Prompt hours until": "21:30",
        "Time zone": "Asia/Shanghai",
        "State": "Online",
        "wId": "w-1",
    }


def test_the_file_is_filtered_as_the_list(people):
    for label, state in (
        ("red 1", AccountState.OFFLINE),
        ("red 2", AccountState.NEW),
        ("blue", AccountState.NEW),
    ):
        people.account(label=label, state=state, wc_id=f"wxid_{label[-3:]}")
    people.account(label="red, gone", state=AccountState.ARCHIVED)
    client = people.operator.client
    assert labels(client.get("/accounts/export.csv")) == ["red 1", "red 2", "blue"]
    assert labels(client.get("/accounts/export.csv?q=red")) == ["red 1", "red 2"]
    assert labels(client.get("/accounts/export.csv?q=red&group=new")) == ["red 2"]
    assert (
        "/accounts/export.csv?q=red&amp;group=new"
        in client.get("/accounts/?q=red&group=new").content.decode()
    )


def test_the_selection_is_a_file_too(people):
    one, two, _three = (people.account(label=f"Phone {n}") for n in (1, 2, 3))
    theirs = people.account(label="theirs", team=people.west)
    post = people.operator.client.post
    chosen = {"account": [one.pk, two.pk, theirs.pk]}
    assert labels(post("/accounts/export.csv", chosen)) == ["Phone 1", "Phone 2"]
    assert labels(post("/accounts/export.csv", {"all": "1", "filter": "?q=Phone"})) == [
        "Phone 1",
        "Phone 2",
        "Phone 3",
    ]


def test_the_file_has_only_what_the_reader_may_see(people):
    people.account(label="ours", w_id="w-ours")
    people.account(label="theirs", team=people.west)
    people.account(label="nobody's", team=None)
    assert labels(people.viewer.client.get("/accounts/export.csv")) == ["ours"]
    assert labels(people.stranger.client.get("/accounts/export.csv")) == ["theirs"]
    assert labels(people.admin.client.get("/accounts/export.csv")) == ["ours", "theirs", "nobody's"]
    [seen] = table(people.viewer.client.get("/accounts/export.csv"))
    assert "wId" not in seen and "w-ours" not in str(seen)


def test_no_secret_leaves(people):
    account = people.account(w_id="w-1")
    account.own_proxy = OwnProxy("203.0.113.7:1080", "joe", "pass-word").stored()
    account.save(update_fields=["own_proxy"])
    attempt = make_attempt(account, AttemptState.WAITING, qr_text="http://weixin.qq.com/x/SECRET")
    attempt.verify_code, attempt.page_url = "424242", "https://weixin.qq.com/PAGE"
    attempt.save()
    client = people.admin.client
    own = (f"{account.pk}/attempts.csv", f"{account.pk}/events.csv")
    for address in ("export.csv", "attempts.csv", "events.csv", *own):
        text = json.dumps(rows(client.get(f"/accounts/{address}")))
        for secret in ("203.0.113.7", "joe", "pass-word", "SECRET", "424242", "PAGE"):
            assert secret not in text
    [row] = table(client.get("/accounts/export.csv"))
    assert row["Own proxy"] == "Yes"


def test_the_heads_are_in_the_readers_language(people):
    people.account(label="门店 2")
    people.operator.client.cookies["django_language"] = "zh-hans"
    [row] = table(people.operator.client.get("/accounts/export.csv"))
    assert row["名称"] == "门店 2" and row["保持在线"] == "是" and row["状态"] == "从未登录"


@pytest.mark.usually("sqlite", "postgres")
def test_more_accounts_than_one_batch(people, monkeypatch):
    monkeypatch.setattr(export, "READ_AT_ONCE", 3)
    monkeypatch.setattr(cells, "ROWS_AT_ONCE", 2)
    made = [people.account(label=f"n{n}").label for n in range(7)]
    assert labels(people.operator.client.get("/accounts/export.csv")) == made


# --- logins and events ------------------------------------------------------------------------------------


def test_the_logins_of_an_account(people):
    account = people.account(label="=cmd")
    make_attempt(
        account, AttemptState.FAILED, reason="declined", upstream_text="@手机上已取消", asked_by_name="li"
    )
    make_attempt(people.account(label="other"), AttemptState.FAILED)
    path = f"/accounts/{account.pk}/attempts.csv"
    [row] = table(people.operator.client.get(path))
    assert row["Account"] == "'=cmd" and row["WKTeam message"] == "'@手机上已取消" and row["By"] == "li"
    assert row["State"] == "Failed" and row["wId"] == "w-1"
    assert "wId" not in table(people.viewer.client.get(path))[0]
    assert people.stranger.client.get(path).status_code == 404


def test_the_events_of_an_account(people):
    account = people.account()
    record(account, EventType.CHANGED, detail="label, note", by=people.operator)
    record(people.account(), EventType.CHANGED)
    path = f"/accounts/{account.pk}/events.csv"
    [row] = table(people.viewer.client.get(path))
    assert (row["Event"], row["Details"], row["By"]) == ("Details changed", "label, note", "operator")
    assert people.stranger.client.get(path).status_code == 404


@pytest.mark.parametrize("name", ["attempts", "events"])
@pytest.mark.usually("sqlite", "postgres")
def test_the_rows_of_the_whole_list_as_it_is_filtered(people, name, monkeypatch):
    monkeypatch.setattr(export, "ACCOUNTS_AT_ONCE", 2)
    monkeypatch.setattr(export, "READ_AT_ONCE", 2)
    shop, other, archived, theirs = (
        people.account(label="shop 1", wc_id="wxid_1"), people.account(label="other"),
        people.account(label="shop 2", state=AccountState.ARCHIVED),
        people.account(label="shop 3", team=people.west),
    )  # fmt: skip
    for account in [other, shop, archived, theirs] * 3:
        attempt = make_attempt(account, AttemptState.FAILED)
        record(account, EventType.CHANGED, attempt=attempt)
    client = people.viewer.client
    found = table(client.get(f"/accounts/{name}.csv?q=shop"))
    assert [(row["Account"], row["wcId"]) for row in found] == [("shop 1", "wxid_1")] * 3
    ids = [int(row["Login attempt"]) for row in found]
    assert ids == sorted(shop.attempts.values_list("pk", flat=True))
    accounts = [row["Account"] for row in table(client.get(f"/accounts/{name}.csv"))]
    assert accounts == ["shop 1"] * 3 + ["other"] * 3
    assert len(table(people.admin.client.get(f"/accounts/{name}.csv?q=shop"))) == 6
    assert f"/accounts/{name}.csv?q=shop" in client.get("/accounts/?q=shop").content.decode()


def test_a_row_that_moves_to_an_account_of_others_meanwhile_is_left_out(people, monkeypatch):
    monkeypatch.setattr(export, "READ_AT_ONCE", 2)
    account, theirs = people.account(), people.account(team=people.west)
    attempts = [make_attempt(account, AttemptState.FAILED) for _n in range(5)]
    found = export._attempts(people.operator, Account.objects.filter(pk=account.pk))
    read = [next(found)[2], next(found)[2]]
    LoginAttempt.objects.filter(pk=attempts[3].pk).update(account=theirs)
    read += [row[2] for row in found]
    assert read[1:] == [attempt.pk for attempt in attempts if attempt != attempts[3]]


# --- while the file is sent -------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_file_is_sent_while_it_is_read(committed):
    """As uvicorn does it. A file that is four times as long takes as much memory."""

    async def memory() -> tuple[int, int]:
        client = AsyncClient()
        client.cookies.update(committed.operator.client.cookies)
        answer = await client.get("/accounts/export.csv")
        tracemalloc.start()
        number = len([len(part) async for part in answer])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return number, peak

    kept = [field for field in Account._meta.concrete_fields if not field.primary_key and not field.generated]
    names = ", ".join(field.column for field in kept)

    def four_times_as_many() -> None:
        with connection.cursor() as cursor:
            for _twice in range(2):
                cursor.execute(f"INSERT INTO accounts_account ({names}) SELECT {names} FROM accounts_account")

    fields = {"team": committed.east, "note": "n" * 300}
    Account.objects.bulk_create(Account(label=f"n{n}", **fields) for n in range(250))
    asyncio.run(memory())
    four_times_as_many()
    parts, short = asyncio.run(memory())
    four_times_as_many()
    many_parts, long = asyncio.run(memory())
    assert (parts, many_parts) == (4, 10)
    assert long < 1.15 * short
