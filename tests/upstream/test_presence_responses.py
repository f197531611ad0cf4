"""What the upstream says about who is online and why somebody is not, whatever it wraps it in."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts.upstream import presence_responses, responses
from accounts.upstream.errors import BadAnswer, Refused
from accounts.upstream.presence_responses import Online, sentence
from accounts.upstream.responses import Answer
from tests.support.payloads import envelope

SAID = "登录出现错误，请你重新登录。"
XML = f"<e><ShowType>1</ShowType><Content><![CDATA[{SAID}]]></Content><Url><![CDATA[]]></Url></e>"


def read(body: bytes) -> Answer:
    return responses.read(200, "utf-8", body)


def test_who_is_online_is_a_list_of_ids():
    entries = [{"wcId": "a", "wId": "1"}, {"wcId": "b", "wId": None}, {"wcId": ""}, "x", None, {"wId": "3"}]
    assert presence_responses.online_list(read(envelope(entries))) == [
        *(Online("a", "1"), Online("b", ""), Online("", ""), Online("", ""), Online("", ""), Online("", "3"))
    ]


@pytest.mark.parametrize("nobody", [None, []])
def test_nobody_online_is_an_empty_list_or_null(nobody):
    assert presence_responses.online_list(read(envelope(nobody))) == []


@pytest.mark.parametrize(
    "data", ["", {}, 0, False, "[]", {"list": []}, ["a"], [1, 2], [None], [{}], [{"wcid": "a"}], [[]]]
)
def test_any_other_shape_does_not_mean_that_nobody_is_online(data):
    with pytest.raises(BadAnswer):
        presence_responses.online_list(read(envelope(data)))


@pytest.mark.parametrize(
    ("data", "known"),
    [
        *(({"isOnline": True}, True), ({"isOnline": False}, False), ({"isOnline": "true"}, None), ({}, None)),
        *(
            ({"isOnline": 1}, None),
            ({"isOnline": None}, None),
            (None, None),
            ([], None),
            ("x", None),
            (True, None),
        ),
    ],
)
def test_only_a_plain_yes_or_no_says_whether_an_instance_is_online(data, known):
    assert presence_responses.is_online(read(envelope(data))) is known


# --- why somebody is not


def wrapped(words: str) -> str:
    inner = {"baseResponse": {"ret": -100, "errMsg": {"string": words}}}
    return json.dumps({"ret": 0, "msg": "success", "data": inner}, ensure_ascii=False)


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (None, ""),
        ("", ""),
        ("ok", ""),
        ("Success", ""),
        ("成功", ""),
        (SAID, SAID),
        (XML, SAID),
        (wrapped(XML), SAID),
        (json.loads(wrapped(XML)), SAID),
        (json.dumps(wrapped(XML)), SAID),
        (wrapped(SAID), SAID),
        (wrapped(""), ""),
        ('{"ret": 0, "msg": "success"}', ""),
        ('{"ret": -1, "message": "在别处登录"}', "在别处登录"),
        ("<e><Content>你的帐号 &amp; 设备</Content></e>", "你的帐号 & 设备"),
        ("<e><content><![CDATA[a]]></content></e>", "a"),
        ("<a>one</a><b>two</b>", "one two"),
        ("a < b", "a < b"),
        ('{"broken', '{"broken'),
        ("[" * 5000, "[" * 300),
        ({"reason": {"reason": {"reason": "deep"}}}, "deep"),
        (17, ""),
        (True, ""),
        ({}, ""),
        (["", "success", "the third"], "the third"),
        ("line\none\u202e\x1b[31m", "line one [31m"),
        ("很长" * 400, ("很长" * 400)[:300]),
    ],
)
def test_the_sentence_is_unpacked_from_whatever_it_is_wrapped_in(reason, said):
    assert sentence(reason) == said


def test_the_reason_is_that_of_the_account_that_was_asked_about():
    entries = [{"wcId": "b", "reason": "of b"}, {"wcId": "a", "reason": XML}]
    assert presence_responses.offline_reason(read(envelope(entries)), "a") == SAID
    assert presence_responses.offline_reason(read(envelope(entries)), "c") == ""
    assert presence_responses.offline_reason(read(envelope({"wcId": "a", "reason": SAID})), "a") == SAID
    assert presence_responses.offline_reason(read(envelope([{"reason": SAID}])), "a") == SAID
    assert presence_responses.offline_reason(read(envelope([{"wcId": "a", "reason": None}])), "a") == ""


@pytest.mark.parametrize("data", [None, [], "x", 3, [None], [[]], {}])
def test_other_shapes_give_no_reason(data):
    assert presence_responses.offline_reason(read(envelope(data)), "a") == ""


def test_a_refusal_is_no_reason():
    with pytest.raises(Refused):
        presence_responses.offline_reason(read(envelope(None, "1001", "失败")), "a")


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=40)
    | st.sampled_from([XML, wrapped(XML), "<", "]]>"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["reason", "data", "errMsg", "string", "msg", "x"]), inner, max_size=4
        )
    ),
    max_leaves=20,
)


@pytest.mark.slow
@given(json_values)
def test_whatever_comes_is_a_line_of_text_fit_to_be_stored(value):
    found = sentence(value)
    assert found == responses.clean(found)
    assert len(found) <= responses.TEXT_LIMIT
    again = json.dumps(value)
    assert len(sentence(again)) <= responses.TEXT_LIMIT
