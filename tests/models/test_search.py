"""A search finds what the text of the accounts says: any word, any part of it, after any change."""

import logging
from importlib import import_module
from types import SimpleNamespace

import pytest
from django.db import connection
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from accounts.lib import typed_text
from accounts.models import Account
from tests.support.factories import make_account

migration = import_module("accounts.migrations.0005_search_text")
quick = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
# Few characters, so that words are found often: both cases of letters, letters whose case SQLite does not know or
# whose other case is longer, CJK of three and of four bytes, full width, an emoji with a joiner, what LIKE takes for a
# sign, quotes, and a line end, which separates the columns.
LETTERS = "aAbBzéÉßẞıİσΣς张三店𠮷ａＡ１👩\u200d💻%_\\'\"*^-+():0\n"
texts = st.text(LETTERS, max_size=8)
words = st.lists(st.text(LETTERS.replace("\n", ""), min_size=1, max_size=5), min_size=1, max_size=3)
rows = st.lists(st.tuples(texts, texts, texts, texts), min_size=1, max_size=6)


def row(number: int, label: str, nickname: str, wc_id: str, wechat_id: str) -> Account:
    own = f"{wc_id}~{number}" if wc_id else None
    return Account(label=label, nickname=nickname, wc_id=own, wechat_id=wechat_id)


def folded(text: str | None) -> str:
    """In lower case as far as the database knows it: SQLite that of A to Z, PostgreSQL that of all letters."""
    if connection.vendor == "sqlite":
        return (text or "").encode().lower().decode()
    return "".join({"İ": "i"}.get(letter) or letter.lower() for letter in text or "")


def has(account: Account, word: str) -> bool:
    columns = (account.label, account.nickname, account.wc_id, account.wechat_id)
    return any(folded(word) in folded(column) for column in columns)


def found_by(text: str) -> list[int]:
    return sorted(Account.objects.matching(text).values_list("pk", flat=True))


def as_meant(text: str) -> list[int]:
    """Return what the search finds, which is what the words say."""
    every = Account.objects.order_by("pk")
    asked = [{word, typed_text.code(word) or word} for word in text.split()[:6]]
    meant = [row.pk for row in every if all(any(has(row, form) for form in word) for word in asked)]
    assert found_by(text) == meant
    return meant


@pytest.mark.slow
@quick
@given(rows, rows, words)
@example([("张三", "", "", "")], [("李四", "", "", "")], ["三"])
@example([("100%", "a_b", "c\\d", "")], [("100", "ab", "cd", "")], ["%"])
@example([("ab", "cd", "", "")], [("", "", "ab", "cd")], ["bc"])
def test_a_search_finds_what_is_there_before_and_after_every_change(db, before, after, asked):
    Account.objects.all().delete()
    text = " ".join(asked)
    made = Account.objects.bulk_create(row(number, *columns) for number, columns in enumerate(before))
    as_meant(text)
    for number, account in enumerate(made[: len(after)]):
        label, nickname, wc_id, wechat_id = after[number]
        changed = Account.objects.filter(pk=account.pk)
        changed.update(nickname=nickname, wechat_id=wechat_id)
        as_meant(text)
        changed.update(label=label, wc_id=row(number, *after[number]).wc_id)
        as_meant(text)
    made[0].delete()
    as_meant(text)


@pytest.mark.slow
@quick
@given(st.text(min_size=1, max_size=12), st.data())
def test_every_part_of_every_text_is_found(db, text, data):
    text = text.replace("\x00", "")
    account = make_account(label=text)
    begin = data.draw(st.integers(0, len(text)))
    word = text[begin : data.draw(st.integers(begin, len(text)))]
    if len(word.split()) == 1 and word == word.strip():
        assert account.pk in found_by(word)


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
def test_words_of_any_length_anywhere(db, word, found):
    account = make_account(label="东区", nickname="旗舰 张三店 Shop")
    assert (account.pk in as_meant(word)) is found


def test_the_case_of_all_letters_is_known_to_postgresql_that_of_a_to_z_to_sqlite(db):
    account = make_account(label="Café ÉCLAIR")
    assert as_meant("cafÉ eclair") == []
    assert as_meant("CAFé") == [account.pk]
    assert bool(as_meant("éclair")) is (connection.vendor == "postgresql")


def test_words_of_two_columns_are_found_together_but_no_word_across_them(db):
    account = make_account(label="东区 一号", wc_id="wxid_ab", nickname="cd")
    assert as_meant("东区 wxid cd") == [account.pk]
    assert as_meant("abcd") == as_meant("号wxid") == []


def test_only_the_first_six_words_count(db):
    account = make_account(label="a b c d e f")
    assert found_by("a b c d e f g") == [account.pk]


# --- the index of PostgreSQL ----------------------------------------------------------------------------


@pytest.mark.database("postgres")
@pytest.mark.parametrize("word", ["张三店", "hop"])
def test_a_word_of_three_characters_is_found_by_the_index(db, word):
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
    assert "account_search" in Account.objects.matching(word).explain()


@pytest.mark.database("postgres")
@pytest.mark.parametrize("word", ["西安", "a-b"])
def test_for_a_word_without_three_characters_in_a_row_the_index_is_not_read(db, word):
    """It would be read from its begin to its end: a page with 100,000 accounts took a second."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
    assert "account_search" not in Account.objects.matching(word).explain()


@pytest.mark.database("postgres")
def test_a_database_without_the_extension_is_migrated_and_searched_without_the_index(db, monkeypatch, caplog):
    account = make_account(label="张三店")
    with connection.cursor() as cursor:
        cursor.execute("DROP INDEX account_search")
    monkeypatch.setattr(migration, "TRIGRAMS", ["CREATE EXTENSION unknown_here", *migration.TRIGRAMS])
    with caplog.at_level(logging.WARNING):
        migration.index_trigrams(None, SimpleNamespace(connection=connection))
    assert "Searches work without an index" in caplog.text
    assert as_meant("张三店") == as_meant("三") == [account.pk]
