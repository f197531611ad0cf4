"""What people type or paste: what is seen counts, and nothing else."""

import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from accounts.lib import typed_text

UNSEEN = [
    *("\u200b", "\ufeff", "\u200e", "\u200f", "\u00ad", "\u2060", "\u202e", "\u2066", "\u180e", "\u034f", "\u061c"),
    *("\u3164", "\uffa0", "\u115f", "\u2800", "\ufe0f", "\u200c", "\u200d", "\U000e0020", "\U000e0100", "\x00", "\ud800"),
]  # fmt: skip


@pytest.mark.parametrize("char", UNSEEN, ids=ascii)
def test_what_nobody_sees_is_no_text_and_parts_no_word(char):
    assert typed_text.line(char * 3) == typed_text.code(char * 3) == ""
    assert typed_text.line(f"{char}旗舰店{char} 01{char}") == "旗舰店 01"
    if char != "\x00":
        assert typed_text.code(f"wxid{char}_1") == typed_text.line(f"wxid{char}_1") == "wxid_1"


@pytest.mark.parametrize(
    "text",
    ["👩\u200d💻", "❤\ufe0f", "🏳\ufe0f\u200d🌈", "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e007f", "می\u200cخواهم",
     "क्\u200dष", "①号店", "ＡＢＣ", "“引号”", "é", "𠮷野家"],
)  # fmt: skip
def test_a_label_keeps_what_shapes_it(text):
    assert typed_text.line(text) == text


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("ｗｘｉｄ＿１", "wxid_1"),
        ("“wxid_1”", "wxid_1"),
        ("「 wxid_1 」", "wxid_1"),
        ("'wxid_1'\u200b", "wxid_1"),
        ("＂wxid_1＂", "wxid_1"),
        ("\u3000wxid_1\u00a0", "wxid_1"),
        ("５＊ ＊ ＊ ＊ ＊", "5* * * * *"),
    ],
)
def test_an_id_is_taken_as_it_looks(typed, meant):
    assert typed_text.code(typed) == meant


@pytest.mark.parametrize(
    "typed", ["１２３４５６", "123 456", "123\u00a0456", "123-456", "\u200e123456\u200e", "１２３　４５６"]
)
def test_a_number_in_groups_is_one_number(typed):
    assert typed_text.digits(typed) == "123456"


@given(
    st.text(
        st.characters(blacklist_categories=[])
        | st.sampled_from([*UNSEEN, "👩", "م", "a", "\u0301", '"', " "])
    )
)
@example("U¯")  # NFKC makes a space and a combining macron of it
@example('-"1"-')
@settings(deadline=None)
def test_what_is_read_once_stays_as_it_is(text):
    for read in (typed_text.line, typed_text.code, typed_text.digits):
        once = read(text)
        assert read(once) == once
        assert not {"Cc", "Cs", "Zl", "Zp"} & {unicodedata.category(char) for char in once}


def test_a_long_text_is_cut():
    assert typed_text.line("ab " * 100, 6) == "ab ab"
