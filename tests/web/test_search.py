"""The search by its index finds what every account's text says: any text, any word, after any change."""

import logging
from types import SimpleNamespace

import pytest
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from accounts import search
from accounts.models import Account
from tests.support.factories import make_account

database = SimpleNamespace(connection=connection)  # as a migration hands it over
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
# Few characters, so that words are found often: both cases of letters, letters whose case SQLite does not know or
# whose other case is longer, CJK of three and of four bytes, full width, an emoji with a joiner, what LIKE and FTS5
# take for a sign, and a line end, as the columns are parted by one.
LETTERS = "aAbBzéÉßẞıİσΣς张三店𠮷ａＡ１👩\u200d💻%_\\'\"*^-+():0\n"
texts = st.text(LETTERS, max_size=8)
words = st.lists(st.text(LETTERS.replace("\n", ""), min_size=1, max_size=5), min_size=1, max_size=3)


def row(number: int, label: str, nickname: str, wc_id: str, wechat_number: str) -> Account:
    own = f"{wc_id}~{number}" if wc_id else None
    return Account(label=label, nickname=nickname, wc_id=own, wechat_number=wechat_number)


rows = st.lists(st.tuples(texts, texts, texts, texts), min_size=1, max_size=6)


def ids(accounts) -> list[int]:
    return sorted(accounts.values_list("pk", flat=True))


def folded(text: str | None) -> str:
    """Without the case of letters, as far as the database knows it: SQLite that of a to z, PostgreSQL that of all."""
    if connection.vendor == "sqlite":
        return (text or "").encode().upper().decode()
    return "".join(letter.upper() if len(letter.upper()) == 1 else letter for letter in text or "")


def has(account: Account, word: str) -> bool:
    columns = (account.label, account.nickname, account.wc_id, account.wechat_number)
    return any(folded(word) in folded(column) for column in columns)


def as_read(text: str) -> list[int]:
    found = ids(Account.objects.matching(text))
    assert found == ids(Account.objects.read_for(text))
    return found


def as_meant(text: str) -> list[int]:
    """What the search finds, by its index and by reading: both find what the words say."""
    meant = [
        account.pk
        for account in Account.objects.order_by("pk")
        if all(has(account, word) for word in text.split()[:6])
    ]
    assert as_read(text) == meant
    return meant


@pytest.fixture
def index(db):
    """As the migrations leave it: also the last of them that made the table of accounts anew."""
    assert search.is_there()
    yield
    search._there.clear()  # whatever a test did to it is rolled back now


@quick
@given(rows, rows, words)
@example([("张三", "", "", "")], [("李四", "", "", "")], ["三"])
@example([("100%", "a_b", "c\\d", "")], [("100", "ab", "cd", "")], ["%"])
@example([("ab", "cd", "", "")], [("", "", "ab", "cd")], ["bc"])
def test_the_index_finds_what_is_there_before_and_after_every_change(index, before, after, asked):
    Account.objects.all().delete()
    text = " ".join(asked)
    made = Account.objects.bulk_create(row(number, *columns) for number, columns in enumerate(before))
    as_meant(text)
    for number, account in enumerate(made[: len(after)]):
        label, nickname, wc_id, wechat_number = after[number]
        changed = Account.objects.filter(pk=account.pk)
        changed.update(nickname=nickname, wechat_number=wechat_number)
        as_meant(text)
        changed.update(label=label, wc_id=row(number, *after[number]).wc_id)
        as_meant(text)
    made[0].delete()
    as_meant(text)


@quick
@given(st.text(min_size=1, max_size=12), st.data())
def test_every_part_of_every_text_is_found(index, text, data):
    text = text.replace("\x00", "")
    account = make_account(label=text)
    begin = data.draw(st.integers(0, len(text)))
    word = text[begin : data.draw(st.integers(begin, len(text)))]
    if len(word.split()) == 1 and word == word.strip():
        assert account.pk in as_read(word)


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("三", True),
        ("张三", True),
        ("张三店", True),
        ("店三", False),
        ("张店", False),
        ("SHOP", True),
        ("hop", True),
    ],
)
def test_words_of_any_length_anywhere(index, word, found):
    account = make_account(label="东区", nickname="旗舰 张三店 Shop")
    assert (account.pk in as_meant(word)) is found


def test_the_case_of_all_letters_is_known_to_postgresql_that_of_a_to_z_to_sqlite(index):
    account = make_account(label="Café ÉCLAIR")
    assert as_meant("cafÉ eclair") == []
    assert as_meant("CAFé") == [account.pk]
    assert bool(as_meant("éclair")) is (connection.vendor == "postgresql")


def test_words_of_two_columns_are_found_together_but_no_word_across_them(index):
    account = make_account(label="东区 一号", wc_id="wxid_ab", nickname="cd")
    assert as_meant("东区 wxid cd") == [account.pk]
    assert as_meant("abcd") == as_meant("号wxid") == []


def test_what_is_rolled_back_was_never_there(index):
    account = make_account(label="before")
    with pytest.raises(DatabaseError, match="rolled back"), transaction.atomic():
        Account.objects.filter(pk=account.pk).update(label="during")
        make_account(label="during too")
        assert len(as_meant("during")) == 2
        raise DatabaseError("rolled back")
    assert as_meant("during") == []
    assert as_meant("before") == [account.pk]


def test_an_index_made_anew_has_what_is_there_and_follows_what_comes(index):
    old = make_account(label="张三店")
    search.make(None, database)
    new = make_account(label="李四店")
    assert as_meant("张三") == [old.pk]
    assert as_meant("店") == [old.pk, new.pk]


def test_without_an_index_every_account_is_read_and_the_log_says_so(index, caplog):
    account = make_account(label="张三店")
    search.drop(None, database)
    search._there.clear()  # as in a process that starts now
    try:
        with caplog.at_level(logging.WARNING, logger="accounts.search"):
            assert as_meant("三") == as_meant("店") == [account.pk]
        assert caplog.text.count("no index for searches") == 1
        assert search.first("三", 5) is None
    finally:
        search.make(None, database)
    assert as_meant("三") == [account.pk]


def test_a_database_that_refuses_the_index_is_migrated_without_it(index, monkeypatch, caplog):
    account = make_account(label="张三店")
    search.drop(None, database)
    statements = (*search.STATEMENTS[connection.vendor, "make"], "CREATE WHAT NO DATABASE KNOWS")
    monkeypatch.setitem(search.STATEMENTS, (connection.vendor, "make"), statements)
    with caplog.at_level(logging.WARNING, logger="accounts.search"):
        search.make(None, database)
    assert "No index for searches" in caplog.text
    assert not search.is_there()
    assert as_meant("三") == [account.pk]
    monkeypatch.undo()
    search.make(None, database)
    assert search.is_there()
    assert as_meant("三") == [account.pk]


def test_migrating_mends_an_index_whose_triggers_are_gone(index):
    off = "" if connection.vendor == "sqlite" else f" ON {search.ACCOUNTS}"
    make_account(label="before")
    with connection.cursor() as cursor:
        for trigger in search.TRIGGERS:
            cursor.execute(f"DROP TRIGGER {trigger}{off}")
    account = make_account(label="张三店")
    call_command("migrate", verbosity=0)
    assert search.is_there()
    assert as_meant("三") == [account.pk]


def test_an_emptied_table_leaves_nothing_to_find(index):
    make_account(label="张三店")
    every = "DELETE FROM" if connection.vendor == "sqlite" else "SET CONSTRAINTS ALL IMMEDIATE; TRUNCATE"
    with connection.cursor() as cursor:
        cursor.execute(f"{every} {search.ACCOUNTS}{'' if connection.vendor == 'sqlite' else ' CASCADE'}")
    assert search.first("三", 5) == []
