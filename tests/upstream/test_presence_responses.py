"""What the upstream says about who is online and why somebody is not, whatever it wraps it in."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts.upstream import presence_responses, responses
from accounts.upstream.errors import BadAnswer, Refused, UpstreamError
from accounts.upstream.presence_responses import ListBody, Online, sentence
from accounts.upstream.responses import Answer
from tests.support.payloads import envelope

SAID = "登录出现错误，请你重新登录。"
XML = f"<e><ShowType>1</ShowType><Content><![CDATA[{SAID}]]></Content><Url><![CDATA[]]></Url></e>"


def read(body: bytes) -> Answer:
    return responses.read(200, responses.Body("utf-8", [body]))


def listed(body: bytes, at_a_time: int = 65536, charset: str = "utf-8") -> list[Online]:
    chunks = (body[n : n + at_a_time] for n in range(0, len(body), at_a_time))
    return presence_responses.online_list(responses.read(200, ListBody(charset, chunks)))


def plainly(body: bytes) -> list[Online]:
    """What a plain reader of JSON finds."""
    answer = read(body)
    if isinstance(answer.data, list):
        entries = [entry if isinstance(entry, dict) else {} for entry in answer.data]
        rows = [
            Online(*(responses.identifier(entry.get(key)) for key in ("wcId", "wId"))) for entry in entries
        ]
        answer = Answer(answer.code, answer.text, rows)
    return presence_responses.online_list(answer)


def test_who_is_online_is_a_list_of_ids():
    entries = [{"wcId": "a", "wId": "1"}, {"wcId": "b", "wId": None}, {"wcId": ""}, "x", None, {"wId": "3"}]
    assert listed(envelope(entries)) == [
        *(Online("a", "1"), Online("b", ""), Online("", ""), Online("", ""), Online("", ""), Online("", "3"))
    ]


@pytest.mark.parametrize("nobody", [None, []])
def test_nobody_online_is_an_empty_list_or_null(nobody):
    assert listed(envelope(nobody)) == []


@pytest.mark.parametrize(
    "data", ["", {}, 0, False, "[]", {"list": []}, ["a"], [1, 2], [None], [{}], [{"wcid": "a"}], [[]]]
)
def test_any_other_shape_does_not_mean_that_nobody_is_online(data):
    with pytest.raises(BadAnswer):
        listed(envelope(data))


@pytest.mark.parametrize("at_a_time", [1, 7, 64])
@pytest.mark.parametrize(
    "entry",
    [
        *(
            {"wcId": {"wcId": "x"}, "wId": "1"},
            {"wcId": ["wcId", "x"], "wId": "1"},
            {"in": {"wcId": "x"}, "wId": "1"},
        ),
        *(
            {"wcId": "小明", "nickName": "小明", "wId": "1"},
            {"wId": "1", "data": [{"wcId": "x"}], "wcId": None},
        ),
        *({"wId": "1", "seconds": 1.5, "big": 10**40, "yes": True, "null": None}, {"wId": "1", "": {"": []}}),
    ],
)
def test_of_an_entry_only_its_own_ids_count_wherever_a_chunk_ends(entry, at_a_time):
    entries = [entry, {"wcId": "b", "wId": "2"}, ["wId", "3"], [["wId"]], 5]
    body = json.dumps({"code": "1000", "data": entries, "more": [{"wcId": "c"}]}, ensure_ascii=False).encode()
    nobody = Online("", "")
    assert listed(body, at_a_time) == [Online("", "1"), Online("b", "2"), nobody, nobody, nobody]


SCALARS = st.none() | st.booleans() | st.integers() | st.sampled_from(["wcId", "wId", "a", "小", "", '"]}'])
KEYS = st.sampled_from(["wcId", "wId", "data", "code", "message", ""])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)


@given(data=VALUES | st.lists(VALUES, min_size=1, max_size=4), at_a_time=st.integers(1, 40))
@pytest.mark.slow
def test_a_list_read_as_it_comes_is_the_list_of_a_plain_reader(data, at_a_time):
    def outcome(read_list):
        try:
            return read_list()
        except UpstreamError as error:
            return type(error), error.text

    body = envelope(data)
    assert outcome(lambda: listed(body, at_a_time)) == outcome(lambda: plainly(body))


@pytest.mark.parametrize(
    "data",
    [
        *(
            '[{"wId": "1", "wId": "2"}]',
            '[{"wId": "1", "in": {"a": 1, "a": 2}}]',
            '[{"wId": NaN}]',
            '[{"wId": "1"},]',
        ),
        *('[{"wId": "1"}', '[{"wId": "1"}]]', '[{"wId": "1"}], "data": []', "[" * 40 + "]" * 40),
        *('[{"wId": "1", "in": ' + "[" * 30 + "]" * 30 + "}]", '[{"wId": "1"}]} {"code": "1000"', ""),
    ],
)
@pytest.mark.parametrize("at_a_time", [1, 65536])
def test_a_list_is_refused_for_what_any_answer_is_refused_for(data, at_a_time):
    body = b'{"code": "1000", "data": %b}' % data.encode()
    with pytest.raises(BadAnswer):
        read(body)
    with pytest.raises(BadAnswer):
        listed(body, at_a_time)


@pytest.mark.parametrize(
    ("encoding", "charset"),
    [("utf-8-sig", "utf-8"), ("gb18030", "utf-8"), ("gb18030", "gbk"), ("utf-16", "utf-16")],
)
def test_a_list_is_read_in_any_of_the_encodings(encoding, charset):
    body = envelope([{"nickName": "小明", "wcId": "a", "wId": "1"}]).decode().encode(encoding)
    assert listed(body, 64, charset) == [Online("a", "1")]


@pytest.mark.parametrize(
    "body",
    [
        b'{"code": "1000", "data": [], "more": [%b0]}' % (b"0," * 20_000),
        b'{"code": "1000", "data": [{%b"wId": "1"}]}' % b"".join(b'"%d": 0,' % n for n in range(20_000)),
        b'{"code": "1000", "data": [{"wId": "1"}], "message": "%b"}' % (b"a" * 300_000),
    ],
    ids=["around the list", "keys of an entry", "a text"],
)
def test_what_no_list_of_accounts_has_is_not_kept_in_memory(body):
    assert read(body).code == "1000"
    with pytest.raises(BadAnswer):
        listed(body)


def test_a_code_that_is_a_number_is_read_from_a_list_too():
    assert listed(b'{"code": 1000.0, "data": [{"wcId": "a", "wId": "1"}]}') == [Online("a", "1")]


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
