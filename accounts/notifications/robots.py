"""Chat robots of WeCom, DingTalk, Feishu and Lark, which report a rejection in an HTTP 200."""

import base64
import hashlib
import hmac
from time import time
from urllib.parse import unquote

import requests
from apprise.plugins.dingtalk import NotifyDingTalk
from apprise.plugins.feishu import NotifyFeishu
from apprise.plugins.lark import NotifyLark
from apprise.plugins.webexteams import NotifyWebexTeams
from apprise.plugins.wecombot import NotifyWeComBot

# HTTP statuses that mean "retry later" although they begin with 4.
NOT_NOW = {408, 425, 429}
# Codes that chat robots return in an HTTP 200 when rate limited or when the service itself fails.
ROBOT_NOT_NOW = {-1, 45009, 45033, 130101, 130102, 11232, 11233, 99991400}


def refuses(status: int) -> bool:
    """Return whether an HTTP status is a rejection that a retry would meet again."""
    return 400 <= status < 500 and status not in NOT_NOW


class Robot:
    """A chat robot. Its code and text are kept for the answer."""

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
        code, words = _answer(answer)
        if answer.status_code == 200 and code == 0:
            return True
        self.said = f"HTTP {answer.status_code} {words}".strip()
        if answer.status_code == 200:
            self.refuses = code is not None and code not in ROBOT_NOT_NOW
        else:
            self.refuses = refuses(answer.status_code) and code not in ROBOT_NOT_NOW
        return False


def _answer(answer: requests.Response) -> tuple[int | None, str]:
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


class FeishuSignature:
    """The signature check of Feishu and Lark robots. The secret is the user of the address."""

    def signed(self, title: str, body: str) -> dict:
        payload = {"msg_type": "text", "content": {"text": _text(title, body)}}
        if not self.user:
            return payload
        timestamp = str(int(time()))
        # As Feishu documents it: the secret is in the key, and nothing is signed with it.
        key = f"{timestamp}\n{self.user}".encode()
        sign = base64.b64encode(hmac.new(key, digestmod=hashlib.sha256).digest()).decode()
        return {"timestamp": timestamp, "sign": sign, **payload}


class FeishuRobot(FeishuSignature, Robot, NotifyFeishu):
    def send(self, body, title="", **_kwargs) -> bool:
        # Without the slash that apprise puts behind the token, as Feishu shows the address.
        url = self.notify_url.format(token=self.token).rstrip("/")
        return self.call(url, self.signed(title, body))


class LarkRobot(FeishuSignature, Robot, NotifyLark):
    def send(self, body, title="", **_kwargs) -> bool:
        return self.call(self.webhook_url, self.signed(title, body))


class WebexHook(NotifyWebexTeams):
    """An incoming webhook of Webex, at the address that Webex shows: apprise's has an empty part in its path."""

    notify_url = "https://webexapis.com/v1/webhooks/incoming"


ROBOTS = {"wecombot": WeComRobot, "dingtalk": DingTalkRobot, "feishu": FeishuRobot, "lark": LarkRobot}
# In place of apprise's own.
PLUGINS = {**ROBOTS, "webex": WebexHook, "wxteams": WebexHook}
