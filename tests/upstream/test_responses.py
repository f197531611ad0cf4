"""What the upstream's bytes mean: a value or an error of the family, whatever they are."""

import json
import random
import string
import unicodedata
from dataclasses import fields, is_dataclass
from functools import partial
from itertools import cycle

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from accounts.upstream import errors, pictures, presence_responses, responses, sign_in_response
from accounts.upstream.errors import BadAnswer, Refused, SignInRefused, UpstreamError
from accounts.upstream.responses import (
    Answer,
    Body,
    CodeAsked,
    Ending,
    LoggedIn,
    LoginCode,
    NotLoggedIn,
    PageAsked,
    Profile,
)
from accounts.upstream.sign_in_response import SignIn
from tests.support import payloads
from tests.support.payloads import CODE, PROFILE, SIGN_IN, W_ID, WC_ID, WHOLE, envelope

MEANINGS = {
    "sign_in": (sign_in_response.sign_in, SignIn),
    "login_code": (responses.login_code, LoginCode),
    "login_answer": (responses.login_answer, LoggedIn | CodeAsked | PageAsked | NotLoggedIn),
    "is_online": (presence_responses.is_online, bool | None),
    "offline_reason": (partial(presence_responses.offline_reason, wc_id="w"), str),
    "succeeded": (responses.succeeded, Answer),
}
ENDINGS = {
    "new device": Ending.NEW_DEVICE_CHECK,
    "run out": Ending.RUN_OUT,
    "declined": Ending.DECLINED,
    "refused": Ending.REFUSED,
}


def read(body: bytes, status: int = 200, charset: str = "utf-8") -> Answer:
    return responses.read(status, responses.Body(charset, [body]))


def step_3(data, code="1000", text="处理成功", **more):
    return responses.login_answer(read(envelope(data, code, text, **more)))


def is_fit(text: str, limit: int) -> bool:
    """May be stored by PostgreSQL, sent as UTF-8, and shown on one line as what it is."""
    bad = {"Cc", "Cs", "Zl", "Zp"} & {unicodedata.category(char) for char in text}
    return (
        len(text) <= limit
        and not bad
        and not set(map(ord, text)) & set(responses.BIDI)
        and text == text.strip()
    )


def all_is_well(body: bytes, status: int = 200, charset: str = "utf-8") -> int:
    """Each meaning of a body is a value of its type or an error of the family; how many values there were."""
    try:
        answer = read(body, status, charset)
    except UpstreamError as error:
        assert is_fit(error.text, 300)
        return 0
    values = 0
    for meaning, kind in MEANINGS.values():
        try:
            found = meaning(answer)
        except UpstreamError as error:
            assert is_fit(error.text, 300)
            assert is_fit(error.code, 20)
            continue
        values += 1
        assert isinstance(found, kind)
        assert all(is_fit(text, 4000) for text in texts_of(found))
        if isinstance(found, LoggedIn):
            assert responses.identifier(found.profile.wc_id) == found.profile.wc_id != ""
        if isinstance(found, LoginCode):
            assert found.w_id
    return values


def texts_of(found: object) -> list[str]:
    if isinstance(found, Answer):
        return [found.code, found.text]
    if isinstance(found, list):
        return [text for entry in found for text in texts_of(entry)]
    if not is_dataclass(found):
        return []
    # The address of a picture is kept as it came: `pictures` judges it.
    values = [getattr(found, entry.name) for entry in fields(found) if entry.name != "picture_url"]
    return [value for value in values if isinstance(value, str)] + [t for v in values for t in texts_of(v)]


# --- the envelope


@pytest.mark.parametrize("code", payloads.SUCCESS_CODES, ids=repr)
def test_a_thousand_is_a_success_in_whatever_type(code):
    assert responses.succeeded(read(envelope(None, code))) == Answer("1000", "处理成功", None)


@pytest.mark.parametrize("code", payloads.OTHER_CODES, ids=lambda code: ascii(code)[:30])
def test_every_other_code_is_no_success(code):
    with pytest.raises(Refused) as caught:
        responses.succeeded(read(envelope(PROFILE, code, "words")))
    assert caught.value.text == "words"
    assert len(caught.value.code) <= 20


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({"message": "a"}, "a"),
        ({"msg": "a"}, "a"),
        ({"message": "a", "msg": "b"}, "a"),
        ({"message": "", "msg": "b"}, "b"),
        ({"message": None, "msg": "b"}, "b"),
        ({"message": ["a"], "msg": "b"}, "b"),
        ({"message": 5}, "5"),
        ({"message": True}, ""),
        ({"message": {"a": 1}}, ""),
        ({}, ""),
    ],
)
def test_the_words_are_in_message_or_msg_or_nowhere(document, text):
    assert read(json.dumps({"code": "1", **document}).encode()).text == text


@pytest.mark.parametrize("name", payloads.GARBAGE)
def test_what_is_no_envelope_is_a_bad_answer(name):
    with pytest.raises(BadAnswer):
        read(payloads.GARBAGE[name])


def test_a_login_cut_off_anywhere_is_a_bad_answer():
    for size in range(len(WHOLE)):
        with pytest.raises(BadAnswer):
            read(WHOLE[:size])


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("body", [b"", b"<html>", WHOLE, envelope(None, "1001", "x")], ids=range(4))
def test_401_and_403_refuse_the_sign_in_whatever_they_say(status, body):
    with pytest.raises(SignInRefused) as caught:
        read(body, status)
    assert caught.value.code == str(status)


@pytest.mark.parametrize("status", [100, 204, 301, 302, 304, 307, 408, 429, 500, 502, 503, 504, 599, 999])
@pytest.mark.parametrize("code", ["1000", "200", "1001", "502"])
def test_a_gateway_s_status_says_nothing_about_the_call(status, code):
    body = envelope(PROFILE, code, "words") if status != 204 else b""
    with pytest.raises(BadAnswer):
        read(body, status)


def test_a_refusal_may_come_with_a_status_of_400_and_a_success_may_not():
    assert read(envelope(None, "1001", "参数错误"), 400) == Answer("1001", "参数错误", None)
    with pytest.raises(BadAnswer):
        read(envelope(PROFILE), 404)


@pytest.mark.parametrize(
    ("encoding", "charset"),
    [
        *(("utf-8", "utf-8"), ("utf-8", "no-such-charset"), ("utf-8", "latin-1"), ("utf-8-sig", "utf-8")),
        *(("utf-8-sig", ""), ("gb18030", "gb18030"), ("gb18030", "utf-8"), ("gbk", "a\0b"), ("gbk", "hex")),
        *(("utf-16", "utf-16"), ("gb18030", "é"), ("gb2312", "idna")),
    ],
)
def test_chinese_text_is_read_in_any_of_its_encodings(encoding, charset):
    body = envelope(None, "1001", "请重新登陆").decode().encode(encoding)
    assert read(body, charset=charset).text == "请重新登陆"


def test_a_single_broken_character_does_not_lose_a_login():
    body = WHOLE.replace("小".encode(), b"\xe5\xb0") + b" " * 4  # cut in the middle of a character
    found = responses.login_answer(read(body))
    assert (found.profile.wc_id, found.profile.w_id) == (WC_ID, W_ID)


def test_latin_1_is_read_where_it_is_said():
    assert read('{"code":"1001","message":"caf\xe9"}'.encode("latin-1"), charset="iso-8859-1").text == "café"


@pytest.mark.parametrize("bracket", ["[", "{", "}", "]"])
def test_brackets_in_a_text_are_no_nesting(bracket):
    found = step_3({**PROFILE, "nickName": bracket * 60, "signature": '\\"' + bracket * 60})
    assert found.profile.nickname == bracket * 60


def test_a_depth_of_32_is_read():
    assert read(b'{"code":"1000","data":' + b"[" * 31 + b"]" * 31 + b"}").code == "1000"


def test_a_megabyte_of_quotes_or_brackets_takes_no_time():
    for piece in (b'\\"', b'"', b"[]", b'"[', b'["', b"\\", b"{}"):
        with pytest.raises(BadAnswer):
            read(b'{"code":"' + piece * (500_000 // len(piece)))


def test_a_sent_secret_that_comes_back_is_hidden_wherever_the_words_stand():
    secret = "canary-0123456789"
    for document in (
        {"code": "1001", "message": f"bad {secret}"},
        {"code": "1001", "msg": f"bad {secret}"},
        {"code": "1000", "data": {"code": "1001", "message": f"bad {secret}"}},
        {"code": "1000", "data": {"code": "1001", "msg": f"bad {secret}"}},
        {"code": "1001", "message": "x" * 290 + secret},
        {"code": "1001", "message": f"\u202e{secret[:5]}\u202e{secret[5:]}"},
    ):
        with pytest.raises(Refused) as caught:
            responses.succeeded(
                responses.read(200, Body("utf-8", [json.dumps(document).encode()]), secrets=["", secret])
            )
        assert "canary" not in caught.value.text


# --- the sign-in


def test_a_sign_in_is_an_authorization_as_it_came():
    assert sign_in_response.sign_in(read(envelope(SIGN_IN))).authorization == SIGN_IN["Authorization"]
    assert (
        sign_in_response.sign_in(read(envelope({"Authorization": " raw value "}))).authorization
        == "raw value"
    )
    assert SIGN_IN["Authorization"] not in repr(sign_in_response.sign_in(read(envelope(SIGN_IN))))


@pytest.mark.parametrize("data", payloads.NO_SIGN_IN, ids=lambda data: ascii(data)[:40])
def test_a_sign_in_without_a_usable_authorization_is_a_bad_answer(data):
    with pytest.raises(BadAnswer):
        sign_in_response.sign_in(read(envelope(data)))


@pytest.mark.parametrize("status", [1, "1", 1.0, " 1 "])
def test_a_frozen_developer_has_no_sign_in(status):
    with pytest.raises(errors.DeveloperFrozen):
        sign_in_response.sign_in(read(envelope({**SIGN_IN, "status": status})))


@pytest.mark.parametrize("status", [2, "2", 2.0])
def test_a_developer_that_ran_out_has_no_sign_in(status):
    with pytest.raises(errors.DeveloperExpired):
        sign_in_response.sign_in(read(envelope({**SIGN_IN, "status": status})))


@pytest.mark.parametrize("status", [0, "0", None, "", "ok", [], True])
def test_any_other_status_does_not_stop_a_sign_in(status):
    assert sign_in_response.sign_in(read(envelope({**SIGN_IN, "status": status}))).authorization


@pytest.mark.parametrize("code", ["1001", 10001, "401"])
def test_a_sign_in_that_is_refused_is_that_whatever_its_words(code):
    with pytest.raises(SignInRefused) as caught:
        sign_in_response.sign_in(read(envelope(None, code, "用户名或密码错误")))
    assert (caught.value.text, caught.value.code) == ("用户名或密码错误", str(code))


@pytest.mark.parametrize("text", [*payloads.SIGN_IN_REFUSALS, *payloads.NO_SIGN_IN_REFUSALS])
def test_words_alone_do_not_refuse_the_sign_in(text):
    with pytest.raises(Refused) as caught:
        responses.succeeded(read(envelope(None, "1001", text)))
    assert type(caught.value) is Refused


@pytest.mark.parametrize(
    "text", ["系统繁忙，请稍后再试", "请求过于频繁", "服务器维护中", "System busy", "Too many requests"]
)
def test_a_sign_in_that_is_put_off_is_not_refused(text):
    with pytest.raises(errors.Busy):
        sign_in_response.sign_in(read(envelope(None, "1001", text)))


@pytest.mark.parametrize("text", ["密码错误次数过多，请稍后再试", "账号已停用，请稍候联系客服", "失败", ""])
def test_a_sign_in_refused_for_its_account_is_refused_also_with_words_of_haste(text):
    with pytest.raises(SignInRefused):
        sign_in_response.sign_in(read(envelope(None, "1001", text)))


@pytest.mark.parametrize(
    ("text", "ending"),
    [
        ("你的微信登录环境存在异常。为了帐号安全，本次登录已失效。", Ending.REFUSED),
        ("请先登录手机微信", Ending.REFUSED),
        ("微信授权失败", Ending.REFUSED),
        ("获取设备token失败", Ending.REFUSED),
        ("登录失效，请重新扫码登录", Ending.RUN_OUT),
    ],
)
def test_wechat_s_own_refusal_ends_a_wait_as_what_it_is(text, ending):
    assert step_3(None, "1001", text).ending is ending


@pytest.mark.parametrize("text", ["登录失效，请重新扫码登录", "wx token expired, please scan again"])
def test_a_prompt_that_wants_a_scan_is_refused_and_has_not_run_out(text):
    assert responses.prompt_answer(read(envelope(None, "1001", text))).ending is Ending.REFUSED


# --- step 2


def test_a_code_is_an_instance_and_an_address():
    assert responses.login_code(read(envelope(CODE, text="登录成功"))) == LoginCode(
        W_ID, payloads.PICTURE, "登录成功"
    )
    assert payloads.PICTURE not in repr(responses.login_code(read(envelope(CODE))))


@pytest.mark.parametrize("data", payloads.NO_CODE, ids=lambda data: ascii(data)[:60])
def test_a_success_without_instance_or_address_is_a_bad_answer(data):
    with pytest.raises(BadAnswer):
        pictures.fetch(responses.login_code(read(envelope(data))).picture_url, "http://wk.invalid", [], 1)


def test_an_instance_without_a_usable_address_is_kept():
    code = responses.login_code(read(envelope({"wId": W_ID, "qrCodeUrl": None})))
    assert (code.w_id, code.picture_url) == (W_ID, "")


@pytest.mark.parametrize(
    "text", ["网络链接异常", "网络连接异常", "代理不可用", "代理IP连接失败", "代理授权失败"]
)
def test_a_proxy_that_is_down_is_distinguished_from_other_refusals(text):
    with pytest.raises(errors.LineDown):
        responses.login_code(read(envelope(None, "1001", text)))


def test_200_is_a_third_outcome_of_step_3_only():
    page = read(envelope({**CODE, **SIGN_IN, "url": "http://h/"}, "200"))
    for name, (meaning, _kind) in MEANINGS.items():
        if name != "login_answer":
            with pytest.raises(Refused):
                meaning(page)


# --- step 3


def test_a_login_is_a_profile():
    assert step_3(PROFILE) == LoggedIn(
        Profile(
            wc_id=WC_ID,
            w_id=W_ID,
            nickname="小明",
            wechat_id="weixin-number",
            avatar_url=payloads.AVATAR,
            sex=2,
            region="CN Guangzhou",
            signature="好好学习",
            mobile="13800138000",
        ),
        "1000",
        "处理成功",
    )
    assert "13800138000" not in repr(step_3(PROFILE))


def test_a_login_needs_no_more_than_its_permanent_id():
    assert step_3({"wcId": WC_ID}).profile == Profile(WC_ID)


@pytest.mark.parametrize("data", payloads.NO_PROFILE, ids=lambda data: ascii(data)[:40])
def test_a_success_without_its_permanent_id_is_no_login(data):
    with pytest.raises(BadAnswer):
        step_3(data)


def test_ids_may_come_as_numbers_and_with_spaces_around():
    assert step_3({"wcId": 12345, "wId": " w-1 "}).profile == Profile("12345", "w-1")


@pytest.mark.parametrize("status", [0, "0", 0.0])
def test_a_success_with_status_0_and_nobody_in_it_has_run_out(status):
    assert step_3({"status": status, "wId": W_ID}, text="成功") == NotLoggedIn(Ending.RUN_OUT, "1000", "")


@pytest.mark.parametrize("text", ["处理成功", "成功", "操作成功！", "Success", "ok", "处理成功。"])
def test_the_message_of_a_success_is_no_reason_of_a_failure(text):
    assert step_3({"status": "0", "wId": W_ID}, text=text).text == ""
    assert step_3(None, "1001", text).text == ""
    assert step_3({"url": "https://h/verify"}, "200", text).text == ""
    assert step_3({"code": "1001", "message": text}, text="登录出现错误").text == "登录出现错误"
    assert step_3({"code": "1001"}, text=text).text == ""
    for refused in (
        lambda: responses.login_code(read(envelope(None, "1001", text))),
        lambda: sign_in_response.sign_in(read(envelope(None, "1001", text))),
        lambda: sign_in_response.sign_in(read(envelope({**SIGN_IN, "status": 1}, text=text))),
    ):
        with pytest.raises(Refused) as caught:
            refused()
        assert caught.value.text == ""


@pytest.mark.parametrize("status", [0, 1, 2, 3, "3", None])
def test_a_status_does_not_take_a_login_away(status):
    assert step_3({**PROFILE, "status": status}).profile.wc_id == WC_ID


@pytest.mark.parametrize("key", ["message", "msg"])
@pytest.mark.parametrize(("code", "text", "ending"), payloads.ENDINGS)
def test_how_a_login_ends_without_a_login(key, code, text, ending):
    if ending == "bad":
        with pytest.raises(BadAnswer):
            step_3(None, code, text, key=key)
        return
    found = step_3(None, code, text, key=key)
    if ending == "code":
        assert isinstance(found, CodeAsked)
    else:
        assert found.ending is ENDINGS[ending]
    assert len(found.text) <= 300


@pytest.mark.parametrize("code", ["1001", 10001, 1001.0, "200", "", True])
def test_a_failure_inside_a_success_is_a_failure(code):
    inner = {"message": "二次登录失败，请重新扫码登录", "code": code, "data": None}
    found = step_3({**PROFILE, **inner}, text="成功")
    assert (found.ending, found.text) == (Ending.REFUSED, "二次登录失败，请重新扫码登录")


@pytest.mark.parametrize("code", [*payloads.SUCCESS_CODES, None])
def test_a_success_inside_a_success_is_one(code):
    assert step_3({**PROFILE, "code": code}).profile.wc_id == WC_ID


@pytest.mark.parametrize("code", ["200", 200, 200.0])
def test_200_with_an_address_asks_for_a_visit_there(code):
    assert step_3({"url": "https://h/verify?a=b"}, code) == PageAsked("https://h/verify?a=b", "200", "")
    assert "verify" not in repr(step_3({"url": "https://h/verify?a=b"}, code))


@pytest.mark.parametrize("address", payloads.NO_ADDRESSES, ids=ascii)
def test_an_address_that_is_none_is_dropped(address):
    with pytest.raises(BadAnswer):
        step_3({"url": address}, "200")
    found = step_3({**PROFILE, "headUrl": address, "smallHeadImgUrl": address})
    assert found.profile.avatar_url == ""


def test_the_small_avatar_is_preferred_and_the_large_one_will_do():
    assert (
        step_3({**PROFILE, "smallHeadImgUrl": "javascript:alert(1)"}).profile.avatar_url == PROFILE["headUrl"]
    )


@pytest.mark.parametrize("value", [None, True, [], {}, 1.5, ["a"], {"a": "b"}])
def test_a_field_of_a_wrong_type_is_as_good_as_absent(value):
    found = step_3({**dict.fromkeys(PROFILE, value), "wcId": WC_ID})
    assert found.profile == Profile(WC_ID)


@pytest.mark.parametrize(
    ("sex", "known"), [(0, 0), (1, 1), ("2", 2), (3, None), (-1, None), ("男", None), (20, None)]
)
def test_the_sex_is_one_of_the_known_ones_or_not_known(sex, known):
    assert step_3({**PROFILE, "sex": sex}).profile.sex == known


@pytest.mark.parametrize(("text", "left"), payloads.CONTROL_STRINGS.items(), ids=ascii)
def test_text_is_one_line_without_characters_that_lie(text, left):
    found = step_3({**dict.fromkeys(PROFILE, text), "wcId": WC_ID}, text=text)
    assert (found.profile.nickname, found.profile.signature, found.text) == (left, left, left)


def test_no_text_is_longer_than_its_column():
    long = {**dict.fromkeys(PROFILE, "界" * 10_000), "wcId": WC_ID, "nickName": "界" * 4_000_000}
    found = step_3(long, text="界" * 10_000)
    profile = found.profile
    assert [len(text) for text in (profile.nickname, profile.wechat_id, profile.region)] == [
        100,
        100,
        101,
    ]
    assert [len(text) for text in (profile.signature, profile.mobile, found.text)] == [200, 30, 300]
    assert profile.avatar_url == ""


# --- whatever comes


@pytest.mark.slow
def test_every_body_of_the_collection_is_a_value_or_an_error_of_the_family():
    collection = payloads.hand_made()
    assert len(collection) >= 600
    others = cycle([(502, "gb18030"), (400, "no-such-charset")])
    for body, other in zip(collection.values(), others, strict=False):
        all_is_well(body, 200, "utf-8")
        all_is_well(body, *other)


@pytest.mark.slow
def test_ten_thousand_damaged_bodies_do_no_harm():
    dice = random.Random(20)
    whole = [
        WHOLE,
        envelope(CODE),
        envelope(SIGN_IN),
        envelope([{"wcId": "a", "wId": "b"}]),
        envelope({"url": "http://h/"}, "200"),
    ]
    pieces = [
        b"\0",
        b"\xff",
        b'"',
        b"\\",
        b"\\ud800",
        b"[",
        b"}",
        b"1e999",
        b"null",
        b"-",
        b"NaN",
        "\u202e".encode(),
    ]
    values = 0
    for _ in range(10_000):
        body = bytearray(dice.choice(whole))
        for _ in range(dice.randint(1, 4)):
            place = dice.randrange(len(body) + 1)
            body[place : place + dice.choice((0, 1, 1, 5))] = dice.choice(pieces)
        values += all_is_well(bytes(body))
    assert values > 1000  # some damage leaves a whole answer


NAMES = st.sampled_from(["code", "message", "msg", "data", "url", "Authorization", "qrCodeUrl", *PROFILE])
ADDRESSES = st.builds(
    "{}://{}{}".format,
    st.sampled_from(["http", "https", "javascript"]),
    st.text(string.printable, max_size=9),
    st.text(max_size=5),
)
LEAVES = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=30), ADDRESSES),
    st.sampled_from(["1000", 1000, "200", "1001", "wxid_a", *payloads.CONTROL_STRINGS]),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=6),
    max_leaves=12,
)
DOCUMENTS = st.fixed_dictionaries(
    {"code": LEAVES | st.just("1000"), "data": VALUES}, optional={"message": LEAVES, "msg": LEAVES}
)
GENERATED = settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.slow
@GENERATED
@given(DOCUMENTS)
@example({"code": float("inf"), "data": {"code": float("nan"), "status": 1e300}})
def test_every_document_is_a_value_or_an_error_of_the_family(document):
    all_is_well(json.dumps(document).encode())


@pytest.mark.slow
@GENERATED
@given(st.binary(max_size=300), st.integers(100, 599), st.text(max_size=12))
def test_every_run_of_bytes_is_a_value_or_an_error_of_the_family(body, status, charset):
    all_is_well(body, status, charset)


@pytest.mark.slow
@GENERATED
@given(st.text())
def test_every_text_can_be_stored_shown_and_cleaned_again(text):
    left = responses.clean(text, 50)
    assert len(left) <= 50
    assert left.encode("utf-8").decode() == left
    assert "\0" not in left
    assert left.splitlines() in ([], [left])
    assert responses.clean(left, 50) == left


@pytest.mark.parametrize(
    "value", ["null", "NULL", "undefined", "None", "NaN", "0", 0, "-", "--", "-1", "n/a", "."]
)
def test_how_programs_write_that_there_is_none_is_no_id(value):
    assert responses.identifier(value) == ""
    with pytest.raises(BadAnswer):
        step_3({**PROFILE, "wcId": value})


@pytest.mark.parametrize(
    "name", ["\u3164", "\u2800", "\u200b", "\u2060", "\U000e0020", "\ufe0f", "\u3164\u200b \u2800"]
)
def test_a_nickname_of_what_cannot_be_seen_is_none(name):
    assert step_3({**PROFILE, "nickName": name}).profile.nickname == ""
