"""Readers of WKTeam's answers: answers become frozen values, refusals become errors named by their meaning.

Nothing in an answer is trusted: neither its type, nor its length, nor that it is JSON. Facts about the
answers come from WKTeam's docs of several generations for `/iPadLogin`, `/getIPadLoginInfo` and `/secondLogin`, and
from what public clients of that API handle. `presence_responses` reads the answers about presence,
`sign_in_response` that of the sign-in.
"""

import codecs
import json
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, fields
from enum import Enum
from urllib.parse import urlsplit

from accounts.lib import typed_text
from accounts.upstream.errors import (
    BadAnswer,
    LineDown,
    Refused,
    SignInRefused,
)

TEXT_LIMIT = 300
ID_LIMIT = 100
DEPTH_LIMIT = 32
# How programs write a missing value as text.
NO_ID = frozenset(
    {"null", "(null)", "undefined", "none", "nil", "nan", "n/a", "na", "empty", "0", "-1", "true", "false"}
)
# Unicode direction marks and overrides, which let a nickname or a message display as another text.
BIDI = dict.fromkeys([0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)])

# Messages of a success, which some answers carry although they are none, and words for a missing value.
SAYS_NOTHING = frozenset({"", "success", "ok", "成功", "处理成功", "操作成功", "null", "none"})

CODE_ASKED = re.compile("输入 ?验证码")
NEW_DEVICE = re.compile("新设备.{0,6}验证")
RUN_OUT = re.compile("过期|超时|失效|timed? ?out|expired", re.IGNORECASE)
DECLINED = re.compile("取消|拒绝|cancel", re.IGNORECASE)
LINE_DOWN = re.compile("网络.{0,2}异常|代理.{0,6}(异常|失败|不可用|超时)")
# WeChat's own security check of the account; its message may also say that the login is void.
SECURITY = re.compile("环境.{0,6}异常|[帐账]号安全|风险")
# A phone prompt can no longer log in this account.
SCAN_WANTED = re.compile("扫码|scan", re.IGNORECASE)
# Says nothing about what was asked for: the same call may succeed a moment later.
BUSY = re.compile(
    "繁忙|频繁|稍[后候]|维护|busy|too many|too frequent|try again later|maintenance", re.IGNORECASE
)
# Matches whole strings, closed or not, so that brackets inside them do not count.
STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)
# 4xx statuses that come from a gateway; WKTeam's own refusals have status 200.
GATEWAY = frozenset({408, 429})


@dataclass(frozen=True, slots=True)
class Answer:
    """The envelope `{"code", "message" or "msg", "data"}`; `code` is text, whatever its JSON type was."""

    code: str
    text: str
    data: object = field(repr=False)

    @property
    def fields(self) -> dict:
        return self.data if isinstance(self.data, dict) else {}


@dataclass(frozen=True, slots=True)
class LoginCode:
    """A QR code: the wId of its login instance and its picture's address as it came, which is a secret."""

    w_id: str
    picture_url: str = field(repr=False)
    text: str


@dataclass(frozen=True, slots=True)
class Profile:
    """The account that logged in. `wc_id` is permanent; `w_id` may be "" (older servers leave it out)."""

    wc_id: str
    w_id: str = ""
    nickname: str = ""
    wechat_id: str = ""
    avatar_url: str = ""
    sex: int | None = None
    region: str = ""
    signature: str = ""
    mobile: str = field(default="", repr=False)


# What WKTeam returns about the account besides its IDs. The columns of accounts have the same names.
PROFILE_FIELDS = tuple(each.name for each in fields(Profile) if each.name not in ("wc_id", "w_id"))


@dataclass(frozen=True, slots=True)
class LoggedIn:
    profile: Profile
    code: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class CodeAsked:
    """The phone shows a verification code, which the next `/getIPadLoginInfo` must send."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class PageAsked:
    """A person must pass the verification page at `url`; then `/getIPadLoginInfo` is called again."""

    url: str = field(repr=False)
    code: str
    text: str


class Ending(Enum):
    RUN_OUT = "run out"
    DECLINED = "declined"
    NEW_DEVICE_CHECK = "new device check"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class NotLoggedIn:
    ending: Ending
    code: str
    text: str


LoginAnswer = LoggedIn | CodeAsked | PageAsked | NotLoggedIn


def clean(value: object, limit: int = TEXT_LIMIT) -> str:
    """Return outside text that is safe to store and show: one line, no control or direction characters.

    At most `limit` characters. Returns "" for any value but a string or an integer, and for a text in which
    nothing can be seen.
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    text = str(value)[: limit * 4].translate(BIDI)
    text = "".join(" " if typed_text.is_control(c) else c for c in text if typed_text.is_character(c))
    text = " ".join(text.split())[:limit].rstrip()
    return text if typed_text.line(text) else ""


def reason(text: str) -> str:
    """Return the message of an answer that is no success, "" if the message says nothing about why."""
    return "" if text.lower().rstrip(" .!。！") in SAYS_NOTHING else text


def identifier(value: object) -> str:
    """Return a wcId or wId as text, or "" if it is not one.

    Valid: 1 to 100 visible ASCII characters without spaces, quotes, angle brackets or backslashes, at least one
    letter or digit, and no word by which programs write that there is none, such as "null".
    """
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    text = text.strip()
    if text.lower() in NO_ID or not any(map(str.isalnum, text)):
        return ""
    return text if re.fullmatch(rf"[!-~]{{1,{ID_LIMIT}}}", text) and not set(text) & set("<>\"'`\\") else ""


def web_address(value: object, limit: int = 2000) -> str:
    """Return an http or https address of at most `limit` characters, or "" if it is not one."""
    if not isinstance(value, str) or len(value) > limit or clean(value, limit) != value:
        return ""
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        return ""
    return value if usable and "@" not in parts.netloc and not set(value) & set(" \\") else ""


def encoding_of(sample: bytes, charset: str) -> str:
    """Return the encoding that reads bytes, of which more may follow. `charset`: the one that the answer names."""
    for encoding in ("utf-8-sig", charset, "gb18030"):
        with suppress(LookupError, ValueError):
            b"".decode(encoding)  # refuses codecs that are none of text
            codecs.getincrementaldecoder(encoding)().decode(sample)
            return encoding
    return "utf-8"


def deeper_than(text: str, limit: int) -> bool:
    """Return whether JSON is nested deeper than `limit`, which could exhaust the parser's stack."""
    depth = 0
    for token in STRING_OR_BRACKET.finditer(text):
        char = text[token.start()]
        if char != '"':
            depth += 1 if char in "[{" else -1
        if depth > limit:
            return True
    return False


class Body:
    """The body of an answer: one JSON document."""

    def __init__(self, charset: str, chunks: Iterable[bytes]):
        self.content = b"".join(chunks)
        self.charset, self.size = charset, len(self.content)

    def document(self) -> object:
        """Raises ValueError or RecursionError if it is no JSON, or nested too deep."""
        text = self.content.decode(encoding_of(self.content, self.charset), "replace")
        if deeper_than(text, DEPTH_LIMIT):
            raise ValueError("nested too deep")
        return json.loads(text, parse_constant=_no_constant, object_pairs_hook=_no_twins)


def read(status: int, body: Body, secrets: tuple[str, ...] = ()) -> Answer:
    """Return the envelope in a body.

    `secrets`: secrets that the request sent; they are removed from the answer's messages, which are shown to
    people. Raises SignInRefused for HTTP 401 and 403, BadAnswer for anything that is no envelope.
    """
    if status in (401, 403):
        raise SignInRefused(f"HTTP {status}", str(status))
    what = f"HTTP {status}, {body.size} bytes"
    try:
        document = body.document()
    except (ValueError, RecursionError) as error:
        raise BadAnswer(f"no JSON ({what})") from error
    if not isinstance(document, dict) or "code" not in document:
        raise BadAnswer(f"no envelope ({what})")
    data = document.get("data")
    if isinstance(data, dict):
        data |= {key: _without(secrets, data[key]) for key in ("message", "msg") if key in data}
    answer = Answer(code_text(document["code"]), _words(document, secrets), data)
    refused = 400 <= status < 500 and status not in GATEWAY and answer.code not in ("1000", "200")
    if not (200 <= status < 300 or refused):
        raise BadAnswer(f"an answer that is none ({what})", answer.code)
    return answer


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _no_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Refuse an object with a duplicate key: parsers differ in which value they use."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name twice in an object")
    return found


def code_text(value: object) -> str:
    """Return a code or a status as text, whatever its JSON type."""
    return clean(int(value) if isinstance(value, float) and value.is_integer() else value, 20)


def _words(document: dict, secrets: tuple[str, ...] = ()) -> str:
    said = [clean(_without(secrets, document.get(key))) for key in ("message", "msg")]
    return said[0] or said[1]


def _without(secrets: tuple[str, ...], value: object) -> object:
    """Return text without the secrets; cleaned first, as characters that cleaning removes could hide one."""
    if isinstance(value, str) and any(secrets):
        value = clean(value, 10_000)
        for secret in filter(None, secrets):
            value = value.replace(secret, "…")
    return value


def succeeded(answer: Answer) -> Answer:
    """Return the answer if it is a success, else raise its refusal.

    A failure may be nested inside a success: that is a failure.
    """
    if answer.code != "1000":
        raise refusal(answer)
    inner = answer.fields
    if inner.get("code") is not None and code_text(inner["code"]) != "1000":
        raise refusal(Answer(code_text(inner["code"]), reason(_words(inner)) or answer.text, None))
    return answer


def refusal(answer: Answer) -> Refused:
    return Refused(reason(answer.text), answer.code)


def refused_text(answer: Answer) -> str:
    """Return the message of a refusal, "" if the answer is none."""
    try:
        succeeded(answer)
    except Refused as refused:
        return refused.text
    return ""


def login_code(answer: Answer) -> LoginCode:
    try:
        succeeded(answer)
    except Refused as refused:
        if LINE_DOWN.search(refused.text):
            raise LineDown(refused.text, refused.code) from None
        raise
    w_id, url = identifier(answer.fields.get("wId")), answer.fields.get("qrCodeUrl")
    if not w_id:
        raise BadAnswer("a code without wId", answer.code)
    return LoginCode(w_id, url if isinstance(url, str) else "", answer.text)


def login_answer(answer: Answer) -> LoginAnswer:
    """Return the meaning of a `/getIPadLoginInfo` answer. Raises BadAnswer if the outcome stays unknown."""
    if answer.code == "200":
        url = web_address(answer.fields.get("url"))
        if not url:
            raise BadAnswer("a page without its address", answer.code)
        return PageAsked(url, answer.code, reason(answer.text))
    try:
        succeeded(answer)
    except Refused as refused:
        if not answer.code and _profile(answer.fields):
            raise BadAnswer("an account, and no code") from None
        return _not_logged_in(refused.code, refused.text)
    profile = _profile(answer.fields)
    if profile is None:
        if code_text(answer.fields.get("status")) == "0":
            return NotLoggedIn(Ending.RUN_OUT, answer.code, reason(answer.text))
        raise BadAnswer("a login without wcId", answer.code)
    return LoggedIn(profile, answer.code, answer.text)


def prompt_answer(answer: Answer) -> LoginAnswer:
    """Return the meaning of a `/secondLogin` answer; raises as `login_answer`.

    A message that asks for a scan is a refusal, even if it reads like a prompt that ran out.
    """
    found = login_answer(answer)
    ran_out = isinstance(found, NotLoggedIn) and found.ending is Ending.RUN_OUT
    if ran_out and SCAN_WANTED.search(found.text):
        return NotLoggedIn(Ending.REFUSED, found.code, found.text)
    return found


def _not_logged_in(code: str, text: str) -> CodeAsked | NotLoggedIn:
    if CODE_ASKED.search(text):
        return CodeAsked(code, text)
    for pattern, ending in (
        (NEW_DEVICE, Ending.NEW_DEVICE_CHECK),
        (SECURITY, Ending.REFUSED),
        (DECLINED, Ending.DECLINED),
        (RUN_OUT, Ending.RUN_OUT),
    ):
        if pattern.search(text):
            return NotLoggedIn(ending, code, text)
    if not text and not code:
        raise BadAnswer("neither code nor text")
    return NotLoggedIn(Ending.REFUSED, code, text)


def _profile(data: dict) -> Profile | None:
    wc_id = identifier(data.get("wcId"))
    if not wc_id:
        return None
    sex = clean(data.get("sex"), 2)
    return Profile(
        wc_id=wc_id,
        w_id=identifier(data.get("wId")),
        nickname=clean(data.get("nickName"), 100),
        wechat_id=clean(data.get("wAccount"), 100),
        avatar_url=web_address(data.get("smallHeadImgUrl"), 500) or web_address(data.get("headUrl"), 500),
        sex=int(sex) if sex in ("0", "1", "2") else None,
        region=" ".join(filter(None, (clean(data.get("country"), 50), clean(data.get("city"), 50)))),
        signature=clean(data.get("signature"), 200),
        mobile=clean(data.get("mobilePhone"), 30),
    )
