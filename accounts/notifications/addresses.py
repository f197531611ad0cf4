"""Addresses of channels: which services, which parameters, and the form in which an address is stored.

An address is an apprise URL, or the webhook URL that a chat service shows. Only well-known services, e-mail
and webhooks are allowed: apprise also has addresses that write files, open desktop notifications or run
programs on this host. Each service has a list of the parameters that are allowed, because others make apprise
load files and pages, follow redirects, or retry (dispatch does that).
"""

import ipaddress
import re
from urllib.parse import parse_qsl, quote, urlencode

from apprise import AppriseAsset
from apprise.manager_plugins import NotificationManager
from apprise.plugins import url_to_dict

from accounts.models.notification import WITH_HOST, kind_of
from accounts.notifications.egress import is_public
from accounts.notifications.robots import PLUGINS

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
# Allowed for all services: none of these loads anything. `format` is how the text is sent.
COMMON = "format overflow verify emojis"
# Allowed for one service. A prefix alone allows all names with it: "+" headers, "-" query and ":" body of webhooks.
PARAMETERS: dict[str, str] = {
    "wecombot": "key", "wechat": "to", "dingtalk": "to token secret", "feishu": "token", "lark": "",
    "mailto": "bcc cc from mode name reply smtp to user pass", "tgram": "detect mdv preview silent thread to topic",
    "slack": "blocks footer image mode timestamp to token",
    "discord": "avatar batch fields flags footer footer_logo image ping thread tts",
    "workflow": "api-version id image pa powerautomate sig sp sv ver wrap", "gchat": "key thread token workspace",
    "wxteams": "mode to token", "webex": "mode to token", "zulip": "to token",
    "mmost": "botname channel channels image mode team to", "rocket": "avatar mode to webhook",
    "matrix": "discovery hsreq image mode msgtype to token version", "line": "image to", "synology": "token",
    "bark": "badge call category group id image key level sound subtitle to ttl volume", "schan": "",
    "pushplus": "channel mode name to token topic", "wxpusher": "to token", "pushdeer": "",
    "ntfy": "auth image mode priority to token xtags", "gotify": "priority",
    "pover": "expire interval key priority sound to", "pagerduty": "class group image region severity",
    "opsgenie": "alias batch entity priority region tags to", "json": "method + - :", "form": "method + - :",
}  # fmt: skip
# Webhook URLs as these services show them, which apprise does not parse.
WEBHOOKS = (
    (re.compile(r"^https://oapi\.dingtalk\.com/robot/send\?access_token=(\w+)$"), r"dingtalk://\1"),
    (re.compile(r"^https://open\.feishu\.cn/open-apis/bot/v2/hook/([\w-]+)/?$"), r"feishu://\1"),
    (re.compile(r"^https://open\.larksuite\.com/open-apis/bot/v2/hook/([\w-]+)/?$"), r"lark://\1"),
    (re.compile(r"^https://(?:ptb|canary)\.discord\.com/"), "https://discord.com/"),
)
# Services whose robots check a signature, made with a secret that they show beside the address.
SIGNED = frozenset({"dingtalk", "feishu", "lark"})
# Services whose address names a host to connect to.
HOSTED = WITH_HOST | {"workflow", "workflows", "pushdeer", "pushdeers", "ntfy"}


class UnusableAddress(Exception):
    """Raised for an address that cannot be used.

    `code`: "service" or "parameter" (not allowed), "read" (cannot be parsed), "secret" (the service takes none)
    or "private" (a private address, and WK_PRIVATE_TARGETS is off).
    """

    def __init__(self, code: str):
        super().__init__(code)
        self.code = code


def checked(address: str, secret: str = "", private: bool = False) -> str:
    """Return the address in the form in which it is stored, which names its service and holds the secret.

    Sends nothing, and resolves no name. `private`: allow private addresses. Raises UnusableAddress.
    """
    found = parsed(address)
    if not private and is_private_host(found):
        raise UnusableAddress("private")
    plugin = plugin_of(found)
    stored = address.strip()
    if kind_of(stored) in ("http", "https"):
        stored = _apprise_url(plugin.url(), found)
    if secret:
        stored = signed(stored, secret)
    # What is stored must send later: it goes through the same checks.
    plugin_of(parsed(stored))
    return stored


def signed(address: str, secret: str) -> str:
    """Return an address of a robot with this secret. Raises UnusableAddress if its service takes none."""
    kind, _colon, rest = address.partition("://")
    if kind.lower() not in SIGNED:
        raise UnusableAddress("secret")
    front, at, token = rest.partition("@")
    return f"{kind}://{quote(secret.strip(), safe='')}@{token if at else front}"


def _apprise_url(url: str, found: dict) -> str:
    """Return apprise's own form of a webhook URL, with those of the given parameters that it still has."""
    url, _mark, query = url.partition("?")
    given = found.get("qsd") or {}
    kept = [(name, value) for name, value in parse_qsl(query) if name in given]
    return url.rstrip("/") + ("/?" + urlencode(kept) if kept else "")


def parsed(address: str) -> dict:
    """Return apprise's reading of an address. Raises UnusableAddress."""
    address = address.strip()
    for webhook, replacement in WEBHOOKS:
        address = webhook.sub(replacement, address)
    schema = kind_of(address)
    if schema not in SERVICES and schema not in ("http", "https"):
        raise UnusableAddress("service")
    found = url_to_dict(address)
    if not found:
        raise UnusableAddress("service" if schema in ("http", "https") else "read")
    if found["schema"] not in SERVICES:
        raise UnusableAddress("service")
    allowed = _allowed(found["schema"])
    for name in found.get("qsd") or {}:
        if name.lower() not in allowed and name[:1] not in allowed:
            raise UnusableAddress("parameter")
    return found


def _allowed(schema: str) -> set[str]:
    own = PARAMETERS[schema if schema in PARAMETERS else schema.removesuffix("s")]
    return {*COMMON.split(), *own.split()}


def plugin_of(found: dict):
    """Return apprise's plugin for an address. Raises UnusableAddress."""
    kind = PLUGINS.get(found["schema"]) or NotificationManager()[found["schema"]]
    asset = AppriseAsset(app_id="wkportal", app_desc="wkportal", http_redirects=False, storage_mode="memory")
    try:
        return kind(**found | {"asset": asset})
    except Exception as error:  # plugins raise various exceptions for a malformed address
        raise UnusableAddress("read") from error


def host_of(found: dict) -> str:
    """Return the host that the address names, "" for a service with a host of its own."""
    return str(found.get("host") or "").strip("[]") if found["schema"] in HOSTED else ""


def is_private_host(found: dict) -> bool:
    """Return whether the address names this host, or a private address by its number."""
    host = host_of(found).lower().rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return not is_public(host)
