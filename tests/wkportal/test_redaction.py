"""The last wall between a secret and a log, with every shape that a secret was seen in."""

import io
import json
import logging
import logging.config
import sys
from copy import deepcopy
from datetime import datetime
from urllib.parse import quote, quote_plus, urlencode

import pytest
import requests
from django.conf import settings as project

from tests.support import environment
from wkportal.logs.redaction import RedactingFormatter, RedactingJsonFormatter

SECRET = "canary-Geheim/+é&\"'\\ =%p@ss:Schluss"
JWT = "eyJhbGciOiJIUzUxMiJ9.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJlLWNhbmFyeQ"
UNKNOWN = "canary0therValue"

# A known secret, in the clothes that libraries put on it.
KNOWN = {
    "as it is": SECRET,
    "in a sentence": f"could not sign in with {SECRET}, sorry",
    "repr": repr(SECRET),
    "repr of bytes": repr(SECRET.encode()),
    "JSON": json.dumps({"x": SECRET}),
    "JSON in UTF-8": json.dumps({"x": SECRET}, ensure_ascii=False),
    "JSON in JSON": json.dumps(json.dumps([SECRET])),
    "a path": "/a/" + quote(SECRET),
    "a path, all quoted": "/a/" + quote(SECRET, safe=""),
    "a query": "http://h/?" + urlencode({"x": SECRET}),
    "plus for a space": quote_plus(SECRET),
    "an address": f"postgres://user:{quote(SECRET, safe='')}@host:5432/db",
}
# A secret nobody told the formatter, known by its name alone.
NAMED = {
    "a header": f"Authorization: {UNKNOWN}",
    "a header, small": f"authorization: {UNKNOWN}",
    "a header with a scheme": f"Authorization: Bearer {UNKNOWN}",
    "a basic header": f"Authorization: Basic {UNKNOWN}",
    "a dict of headers": str({"Accept": "*/*", "Authorization": UNKNOWN, "Connection": "close"}),
    "requests' headers": str(requests.structures.CaseInsensitiveDict({"Authorization": UNKNOWN})),
    "pairs of headers": str([("Host", "h"), ("Authorization", UNKNOWN)]),
    "headers of ASGI": str([(b"host", b"h"), (b"authorization", UNKNOWN.encode())]),
    "bytes in a dict": str({b"Authorization": UNKNOWN.encode()}),
    "raw bytes": repr(f"Authorization: {UNKNOWN}\r\nAccept: */*\r\n".encode()),
    "Django's META": str({"HTTP_AUTHORIZATION": UNKNOWN}),
    "JSON": json.dumps({"account": "a", "password": UNKNOWN}),
    "tight JSON": json.dumps({"account": "a", "password": UNKNOWN}, separators=(",", ":")),
    "JSON in a string": json.dumps(json.dumps({"password": UNKNOWN})),
    "JSON in JSON in a string": json.dumps(json.dumps(json.dumps({"password": UNKNOWN}))),
    "JSON with a quote in it": json.dumps({"password": f'a"{UNKNOWN}'}),
    "JSON with a backslash in it": json.dumps({"password": f'a\\"{UNKNOWN}'}),
    "repr of a dict": str({"account": "a", "password": f"it's {UNKNOWN}"}),
    "a keyword": f"Client(account='a', password='{UNKNOWN}')",
    "a form": f"account=a&password={UNKNOWN}&next=/",
    "a query": f"GET /?password={UNKNOWN} HTTP/1.1",
    "the environment": f"WK_PASSWORD={UNKNOWN}",
    "the environment, as a dict": str({"WK_AUTHORIZATION": UNKNOWN, "SECRET_KEY": UNKNOWN}),
    "a number of the phone": json.dumps({"wId": "w", "verifyCode": UNKNOWN}),
    "a number in a row": f"verify_code={UNKNOWN}",
    "an address of a code": json.dumps({"wId": "w", "qrCodeUrl": f"http://h/{UNKNOWN}.png?Signature=x"}),
    "a signed address": f"GET /20220101/x_qrcode.png?AWSAccessKeyId=a&Expires=1&Signature={UNKNOWN} HTTP/1.1",
    "a cookie": f"Cookie: wkportal_session={UNKNOWN}; wkportal_csrf=x",
    "a cookie on its way out": f"Set-Cookie: __Host-session={UNKNOWN}; HttpOnly",
    "cookies in a dict": str({"wkportal_session": UNKNOWN}),
    "a form's token": f"csrfmiddlewaretoken={UNKNOWN}&a=b",
    "a CSRF header": f"X-CSRFToken: {UNKNOWN}",
    "a token": str({"access_token": UNKNOWN, "token": UNKNOWN}),
    "an address of a database": f"could not connect to postgres://user:{UNKNOWN}@host:5432/db",
    "an address of Redis": f"redis://:{UNKNOWN}@127.0.0.1:6379/0",
    "an address with a slash in its password": f"postgres://user:a/{UNKNOWN}@host/db",
    "an address with an at in its password": f"postgres://user:a@{UNKNOWN}@host/db",
    "two addresses": f"redis://:{UNKNOWN}@a:1/0;redis://:{UNKNOWN}@b:1/0",
    "where the upstream posts to": f"Not Found: /callbacks/wkteam/{UNKNOWN}/",
    "the same in an address": f"POST https://h/callbacks/wkteam/{UNKNOWN}?x=1 404",
    "a scan link": f"Too Many Requests: /scan/{UNKNOWN}/",
    "what its page asks": f"GET https://h/scan/{UNKNOWN}/live/?seen=code-1 200",
    "a link to set a password": f"GET https://h/password/{UNKNOWN}/MQ/ 200",
    "a JWT": f"the upstream said {JWT}.",
    "a JWT in an address": f"http://h/?t={JWT}&x=1",
    "a JWT, cut": f"token starts {JWT[:40]}",
}
ORDINARY = [
    "attempt 5: OutcomeUnknown while waiting (out of time)",
    "/iPadLogin: the Authorization is refused (code 1001)",
    "the upstream does not let us in: sign_in_refused (code 1001)",
    "event 7 was not published: ConnectionError",
    "Not Found: /accounts/5/",
    "WK_PASSWORD is not set, so no new sign-in is possible",
    "GET http://127.0.0.1:9899/iPadLogin 200",
    "listening on http://0.0.0.0:8000, waiting for user@example.com",
    "二维码已过期 小明 wxid_wl9qchkanp9u22 0000016e-63ef-3a9c-0001-ed3311628ef4",
    "Password reset on somebody's request; the password was not changed",
    "tokenizer=fast cookies 3 signature 好好学习",
    "Task accounts.tasks.wait_for_phone[1b2c] received",
    "SELECT a.id FROM accounts_account a WHERE a.id = 5",
    "connection to http://h:80/path?x=1&y=a@b.c",
    "eyJ is how a token begins",
    "",
]


def line(message: str, secrets=(SECRET,), exc_info=None, args=()) -> str:
    record = logging.LogRecord("name", logging.INFO, "path", 1, message, args, exc_info)
    return RedactingFormatter("%(levelname)s %(message)s", secrets=list(secrets)).format(record)


def json_line(message: str, exc_info=None, **extra) -> dict:
    record = logging.LogRecord("name", logging.INFO, "path", 1, "%s", (message,), exc_info)
    record.__dict__.update(extra)
    written = RedactingJsonFormatter(secrets=[SECRET]).format(record)
    assert len(written.splitlines()) == 1
    shown = json.loads(written)
    assert (shown.pop("level"), shown.pop("logger")) == ("INFO", "name")
    assert shown.pop("process") and datetime.fromisoformat(shown.pop("time")).tzinfo
    return shown


def is_hidden(text: str) -> bool:
    return not any(piece in text for piece in ("canary", "Geheim", "p@ss", "p%40ss", "Schluss", "c2lnbmF0"))


@pytest.mark.parametrize("shape", KNOWN)
def test_a_known_secret_is_hidden_in_any_shape(shape):
    assert is_hidden(line(KNOWN[shape])), line(KNOWN[shape])
    assert is_hidden(str(json_line(KNOWN[shape], further=KNOWN[shape])))


@pytest.mark.parametrize("shape", NAMED)
def test_what_is_written_like_a_secret_is_hidden(shape):
    assert is_hidden(line(NAMED[shape])), line(NAMED[shape])
    assert is_hidden(str(json_line(NAMED[shape], further=NAMED[shape])))


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_lines_stay_as_they_are(text):
    assert line(text) == f"INFO {text}"
    assert json_line(text, further=text) == {"message": text, "further": text}


def test_what_stands_beside_a_secret_stays():
    shown = line(
        f"POST /member/login {json.dumps({'account': 'a', 'password': UNKNOWN, 'next': 'b'})} took 3 s"
    )
    assert shown == 'INFO POST /member/login {"account": "a", "password": [hidden], "next": "b"} took 3 s'


def test_a_secret_in_the_arguments_is_hidden():
    assert is_hidden(line("%s and %r", args=(SECRET, {"password": UNKNOWN})))


def test_a_traceback_with_its_causes_is_hidden():
    try:
        try:
            raise ValueError(f"bad password {SECRET}")
        except ValueError as error:
            raise RuntimeError(f"Authorization: {UNKNOWN}, {JWT}") from error
    except RuntimeError:
        shown = line("it broke", exc_info=sys.exc_info())
    assert "Traceback" in shown
    assert "RuntimeError" in shown
    assert "canary" not in shown.replace('raise ValueError(f"bad password {SECRET}")', "")
    assert JWT not in shown


def test_json_hides_what_a_field_is_named_for_or_contains():
    try:
        raise ValueError({"password": UNKNOWN, "x": SECRET})
    except ValueError:
        shown = json_line(
            "a\x9b\u2028b", sys.exc_info(), password=UNKNOWN, token=123456, nested={"a": [SECRET]}, attempt=17
        )
    assert shown.pop("exc_info").splitlines()[-1] == "ValueError: {'password': [hidden], 'x': '[hidden]'}"
    assert is_hidden(shown.pop("nested"))
    assert shown == {
        "message": "a\\x9b\u2028b",
        "password": "[hidden]",
        "token": "[hidden]",
        "attempt": 17,
    }


def test_a_stack_is_hidden_too():
    record = logging.LogRecord("name", logging.INFO, "path", 1, "x", (), None, sinfo=f"password={UNKNOWN}")
    assert UNKNOWN not in RedactingFormatter(secrets=[]).format(record)


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("a\nERROR b", "a\\nERROR b"),
        ("a\r\nb", "a\\x0d\\nb"),
        ("\x1b[2Ja\x9b1mb\x7f\0", "\\x1b[2Ja\\x9b1mb\\x7f\\x00"),
        ("a\u2028b", "a\\u2028b"),
        ("a\tb 小明 😀", "a\tb 小明 😀"),
    ],
)
def test_a_message_is_one_line_and_moves_no_cursor(message, shown):
    assert line("%s", args=(message,)) == f"INFO {shown}"


@pytest.mark.parametrize("secrets", [[], [""], ["", "short", "a"]])
def test_no_secret_or_a_very_short_one_hides_nothing_else(secrets):
    assert line("a short line", secrets) == "INFO a short line"


def test_the_longer_of_two_secrets_is_hidden_as_a_whole():
    assert line("abcdef-ghijkl abcdef", ["abcdef", "abcdef-ghijkl"]) == "INFO [hidden] [hidden]"


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "piece", ["a.", "password", 'password:"', "eyJaaaaaaaa-", "http://a:", "\\", "'", "Cookie: "]
)
@pytest.mark.slow
def test_a_very_long_line_takes_no_longer_than_its_length_says(piece):
    """Where each character were compared with all others, this line would take longer than the limit of this test."""
    assert line(piece * (500_000 // len(piece)))


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_settings_know_every_secret_that_they_read(form):
    """The logging set-up itself, with the canaries that all tests run with."""
    stream = io.StringIO()
    set_up = deepcopy(project.LOGGING)
    formatter = logging.config.DictConfigurator(set_up).configure_formatter(set_up["formatters"][form])
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    for secret in environment.CANARIES.values():
        handler.emit(
            logging.LogRecord("n", logging.INFO, "p", 1, f"here: {secret} {quote(secret)}", (), None)
        )
    assert stream.getvalue().count("[hidden]") == 2 * len(environment.CANARIES)
    assert "canary" not in stream.getvalue()
