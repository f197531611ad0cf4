"""Message transports, through apprise. Only this module imports apprise.

An address is an apprise URL, or the webhook URL that a chat service shows. Only well-known services, e-mail
and webhooks are allowed: apprise also has addresses that write files, open desktop notifications or run
programs on this host. Only admins may set addresses, because an address can make this host connect to
anything it can reach.

Apprise's own log is discarded, since it contains addresses. What apprise logs about a message is in that
message's answer, with every part of the address hidden.
"""

import re
import time
from dataclasses import dataclass
from urllib.parse import unquote

import requests
from apprise import Apprise, AppriseAsset, NotifyFormat
from apprise.manager_plugins import NotificationManager
from apprise.plugins import url_to_dict
from apprise.plugins.dingtalk import NotifyDingTalk
from apprise.plugins.feishu import NotifyFeishu
from apprise.plugins.lark import NotifyLark
from apprise.plugins.wecombot import NotifyWeComBot

from accounts.models.notification import kind_of

TOTAL_SECONDS = 20
CONNECT_SECONDS, READ_SECONDS = 5, 10
SERVICES: dict[str, str] = {
    "wecombot": "企业微信", "wechat": "企业微信应用", "dingtalk": "钉钉", "feishu": "飞书", "lark": "Lark",
    "mailto": "e-mail", "mailtos": "e-mail", "tgram": "Telegram", "slack": "Slack", "discord": "Discord",
    "workflow": "Microsoft Teams", "workflows": "Microsoft Teams", "gchat": "Google Chat", "wxteams": "Webex",
    "webex": "Webex", "zulip": "Zulip", "mmost": "Mattermost", "mmosts": "Mattermost", "rocket": "Rocket.Chat",
    "rockets": "Rocket.Chat", "matrix": "Matrix", "matrixs": "Matrix", "line": "LINE", "synology": "Synology Chat",
    "synologys": "Synology Chat", "bark": "Bark", "barks": "Bark", "schan": "Server酱", "pushplus": "PushPlus",
    "wxpusher": "WxPusher", "pushdeer": "PushDeer", "pushdeers": "PushDeer", "ntfy": "ntfy", "ntfys": "ntfy",
    "gotify": "Gotify", "gotifys": "Gotify", "pover": "Pushover", "pagerduty": "PagerDuty", "opsgenie": "Opsgenie",
    "json": "webhook (JSON)", "jsons": "webhook (JSON)", "form": "webhook (form)", "forms": "webhook (form)",
}  # fmt: skip
# Parameters that make apprise read key files, follow redirects, or retry (dispatch does that).
REFUSED_PARAMETERS = ("pgp", "wkd", "smime", "redirect", "retry", "wait", "store")
STATUS = re.compile(r"\b(?:error|code|status)\W{0,3}(\d{3})\b", re.IGNORECASE)
# HTTP statuses that mean "retry later" although they begin with 4.
NOT_NOW = {408, 425, 429}
# Codes that chat robots return in an HTTP 200 when rate limited or when the service itself fails.
ROBOT_NOT_NOW = {-1, 45009, 45033, 130101, 130102, 11232, 11233, 99991400}
# Webhook URLs as these services show them, which apprise does not parse.
WEBHOOKS = (
    (re.compile(r"^https://oapi\.dingtalk\.com/robot/send\?access_token=(\w+)$"), r"dingtalk://\1"),
    (re.compile(r"^https://open\.feishu\.cn/open-apis/bot/v2/hook/([\w-]+)/?$"), r"feishu://\1"),
)
HIDDEN = "…"


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of sending a message.

    `refused`: the service rejected it, and will reject it again. `unusable`: the address is invalid for any
    message. `unknown`: no answer in time; the message may have arrived. `words`: text for people, without the
    address.
    """

    ok: bool = False
    refused: bool = False
    unusable: bool = False
    unknown: bool = False
    words: str = ""


class Robot:
    """A chat robot, which reports a rejection in an HTTP 200. Its code and text are kept for the answer."""

    said = ""
    refuses = False
    unknown = False

    def call(self, url: str, payload: dict, params: dict | None = None) -> bool:
        try:
            answer = requests.post(
                url,
                json=payload,
                params=params,
                timeout=self.request_timeout,
                allow_redirects=False,
                verify=self.verify_certificate,
            )
        except requests.RequestException as error:
            self.unknown = isinstance(error, requests.ReadTimeout)
            self.said = type(error).__name__
            return False
        code, words = _robots_answer(answer)
        if answer.status_code == 200 and code == 0:
            return True
        self.said = f"HTTP {answer.status_code} {words}".strip()
        if answer.status_code == 200:
            self.refuses = code is not None and code not in ROBOT_NOT_NOW
        else:
            self.refuses = _refuses(answer.status_code) and code not in ROBOT_NOT_NOW
        return False


def _robots_answer(answer: requests.Response) -> tuple[int | None, str]:
    """Return (code, text) of a robot's answer. Code 0 means success; None means that there is no code."""
    try:
        body = answer.json()
    except ValueError:
        return None, ""
    if not isinstance(body, dict):
        return None, ""
    code = next((body[name] for name in ("errcode", "code", "StatusCode") if name in body), None)
    words = next((body[name] for name in ("errmsg", "msg", "StatusMessage") if body.get(name)), "")
    code = int(code) if str(code).lstrip("-").isdigit() else None
    return code, f"{code if code is not None else ''} {words}".strip()


def _text(title: str, body: str) -> str:
    return f"{title}\n{body}" if title else body


class WeComRobot(Robot, NotifyWeComBot):
    def send(self, body, title="", **_kwargs) -> bool:
        return self.call(self.api_url, {"msgtype": "text", "text": {"content": _text(title, body)}})


class DingTalkRobot(Robot, NotifyDingTalk):
    def send(self, body, title="", **_kwargs) -> bool:
        payload = {
            "msgtype": "text",
            "text": {"content": _text(title, body)},
            "at": {"atMobiles": self.targets, "isAtAll": False},
        }
        params = {}
        if self.secret:
            timestamp, signature = self.get_signature()
            # apprise returns it quoted, and requests quotes it again.
            params = {"timestamp": timestamp, "sign": unquote(signature)}
        return self.call(self.notify_url.format(token=self.token), payload, params)


class FeishuRobot(Robot, NotifyFeishu):
    def send(self, body, title="", **_kwargs) -> bool:
        payload = {"msg_type": "text", "content": {"text": _text(title, body)}}
        return self.call(self.notify_url.format(token=self.token), payload)


class LarkRobot(Robot, NotifyLark):
    def send(self, body, title="", **_kwargs) -> bool:
        return self.call(self.webhook_url, {"msg_type": "text", "content": {"text": _text(title, body)}})


ROBOTS = {"wecombot": WeComRobot, "dingtalk": DingTalkRobot, "feishu": FeishuRobot, "lark": LarkRobot}


class UnusableAddress(Exception):
    """Raised for an address that cannot be used.

    `code`: "service" (not allowed), "parameter" (not allowed) or "read" (cannot be parsed).
    """

    def __init__(self, code: str):
        super().__init__(code)
        self.code = code


def checked(url: str) -> str:
    """Return the address in the form in which it is stored, which names its service.

    Sends nothing. Raises UnusableAddress.
    """
    plugin = _plugin(url)
    return plugin.url() if kind_of(url) in ("http", "https") else url.strip()


def _parsed(url: str) -> dict:
    url = url.strip()
    for webhook, address in WEBHOOKS:
        url = webhook.sub(address, url)
    schema = kind_of(url)
    if schema not in SERVICES and schema not in ("http", "https"):
        raise UnusableAddress("service")
    found = url_to_dict(url)
    if not found:
        raise UnusableAddress("service" if schema in ("http", "https") else "read")
    if found["schema"] not in SERVICES:
        raise UnusableAddress("service")
    if any(name.lower().startswith(REFUSED_PARAMETERS) for name in found.get("qsd") or {}):
        raise UnusableAddress("parameter")
    return found


def _plugin(url: str):
    found = _parsed(url)
    kind = ROBOTS.get(found["schema"]) or NotificationManager()[found["schema"]]
    asset = AppriseAsset(app_id="wkportal", app_desc="wkportal", http_redirects=False, storage_mode="memory")
    try:
        plugin = kind(**found | {"asset": asset})
    except Exception as error:  # plugins raise various exceptions for a malformed address
        raise UnusableAddress("read") from error
    plugin.socket_connect_timeout, plugin.socket_read_timeout = CONNECT_SECONDS, READ_SECONDS
    return plugin


def deliver(url: str, title: str, body: str) -> Answer:
    """Send one message and wait at most TOTAL_SECONDS for the answer. Raises nothing."""
    try:
        plugin = _plugin(url)
    except UnusableAddress as error:
        return Answer(unusable=True, refused=True, words=error.code)
    caller = Apprise(asset=plugin.asset)
    caller.add(plugin)
    began = time.monotonic()
    result = caller.notify(body=body, title=title, body_format=NotifyFormat.TEXT, timeout=TOTAL_SECONDS)
    if result:
        return Answer(ok=True)
    words = " ".join(entry.message for entry in result.logs())
    if isinstance(plugin, Robot) and plugin.said:
        return Answer(refused=plugin.refuses, unknown=plugin.unknown, words=hidden(plugin.said, url))
    status = STATUS.search(words)
    # An unreachable service fails at once. A service that accepted the message and sent no answer takes until
    # the timeout.
    silent = status is None and time.monotonic() - began >= CONNECT_SECONDS - 1
    refused = status is not None and _refuses(int(status[1]))
    return Answer(refused=refused, unknown=silent, words=hidden(words, url) or "no answer in time")


def _refuses(status: int) -> bool:
    return 400 <= status < 500 and status not in NOT_NOW


def hidden(words: str, url: str) -> str:
    """Return what a service or apprise said, without any part of the address.

    The result is one line of at most 300 characters.
    """
    rest = url.partition("://")[2]
    parts = {part for text in (rest, unquote(rest)) for part in re.split(r"[/:@?&=+,;#%\s]+", text)}
    for part in sorted((part for part in parts if len(part) >= 5), key=len, reverse=True):
        words = re.sub(re.escape(part), HIDDEN, words, flags=re.IGNORECASE)
    words = re.sub(r"\b[a-z]{2,12}://\S+", HIDDEN, words)
    return " ".join(words.split())[:300]
