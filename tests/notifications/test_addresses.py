"""Addresses as chat services show them send to those services, and no parameter reads a file or an internal page."""

import base64
import hashlib
import hmac
import json
import socket
from urllib.parse import parse_qs, urlsplit

import pytest

from accounts.models.notification import masked
from accounts.notifications import addresses, transports
from accounts.notifications.addresses import PARAMETERS, SERVICES, UnusableAddress
from tests.support.fake_chat_service import Receiver, certificate_for, resolves_to

UUID = "0ab1c2d3-1234-4321-abcd-abcdef012345"
LOGIC = "prod-12.westus.logic.azure.com"
# What the service shows, and where a message has to go: host and path with query.
SHOWN = {
    f"https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key={UUID}":
        ("qyapi.weixin.qq.com", f"/cgi-bin/webhook/send?key={UUID}"),
    "https://oapi.dingtalk.com/robot/send?access_token=566cc69da782ec33e4":
        ("oapi.dingtalk.com", "/robot/send?access_token=566cc69da782ec33e4"),
    f"https://open.feishu.cn/open-apis/bot/v2/hook/{UUID}":
        ("open.feishu.cn", f"/open-apis/bot/v2/hook/{UUID}"),
    f"https://open.larksuite.com/open-apis/bot/v2/hook/{UUID}":
        ("open.larksuite.com", f"/open-apis/bot/v2/hook/{UUID}"),
    "https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ":
        ("hooks.slack.com", "/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"),
    "https://hooks.slack.com/triggers/T1JJ3T3L2/1234567890/abcdef0123456789":
        ("hooks.slack.com", "/triggers/T1JJ3T3L2/1234567890/abcdef0123456789"),
    "https://discord.com/api/webhooks/4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js":
        ("discord.com", "/api/webhooks/4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js"),
    "https://discordapp.com/api/webhooks/4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js":
        ("discord.com", "/api/webhooks/4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js"),
    "https://ptb.discord.com/api/webhooks/4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js":
        ("discord.com", "/api/webhooks/4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js"),
    "https://chat.googleapis.com/v1/spaces/AAAAMPNX4sM/messages?key=AIzaSyDdI0hCZtE6vySjMm&token=pWlfCCxsMsVMqWJgvi%3D":
        ("chat.googleapis.com", "/v1/spaces/AAAAMPNX4sM/messages?key=AIzaSyDdI0hCZtE6vySjMm&token=pWlfCCxsMsVMqWJgvi%3D"),
    f"https://{LOGIC}:443/workflows/643e69f83c8944438d68119179a10a64/triggers/manual/paths/invoke?api-version=2016-06-01&sp=%2Ftriggers%2Fmanual%2Frun&sv=1.0&sig=KODuebWbDGYFr0z0eu-6Rj8aUKz7108W3wrNJZxFE5A":
        (LOGIC, "/workflows/643e69f83c8944438d68119179a10a64/triggers/manual/paths/invoke?api-version=2016-06-01&sp=%2Ftriggers%2Fmanual%2Frun&sv=1.0&sig=KODuebWbDGYFr0z0eu-6Rj8aUKz7108W3wrNJZxFE5A"),
    "https://webexapis.com/v1/webhooks/incoming/Y2lzY29zcGFyazovL3VzL1dFQkhPT0svOWQyY2ExZDMtNjQ5My00MGI2LTg0NDgtOTY3MDg4MjZlZmJk":
        ("webexapis.com", "/v1/webhooks/incoming/Y2lzY29zcGFyazovL3VzL1dFQkhPT0svOWQyY2ExZDMtNjQ5My00MGI2LTg0NDgtOTY3MDg4MjZlZmJk"),
}  # fmt: skip
# One address that each service reads, by its apprise URL.
EXAMPLES = {
    "wecombot": f"wecombot://{UUID}", "wechat": "wechat://corpid:corpsecret0@1000002/user",
    "dingtalk": "dingtalk://566cc69da782ec33e4", "feishu": f"feishu://{UUID}", "lark": f"lark://{UUID}",
    "mailto": "mailto://user:password@mail.example.com", "tgram": "tgram://123456789:abcdefg_hijklmnop/12315544/",
    "slack": "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ", "discord": "discord://4174216298/JHMHI8qBe7bk2Zw",
    "workflow": f"workflow://{LOGIC}:443/643e69f83c8944438d/KODuebWbDGYFr0z0eu/", "gchat": "gchat://AAAA/key/token",
    "wxteams": "wxteams://Y2lzY29zcGFyazovL3VzL1dFQkhPT0svOWQyY2ExZDMtNjQ5My00MGI2LTg0NDgtOTY3MDg4MjZlZmJk",
    "webex": "webex://Y2lzY29zcGFyazovL3VzL1dFQkhPT0svOWQyY2ExZDMtNjQ5My00MGI2LTg0NDgtOTY3MDg4MjZlZmJk",
    "zulip": "zulip://bot@org/abcdefabcdefabcdefabcdefabcdef01/stream", "mmost": "mmost://chat.example.com/3ccdd113474722377935511f",
    "rocket": "rocket://user:password@chat.example.com/channel", "matrix": "matrix://user:password@chat.example.com/#room",
    "line": "line://Token0123456789/user", "synology": "synology://nas.example.com/token0123", "bark": "bark://push.example.com/key0123",
    "schan": "schan://SCT12345Tabcdefghij", "pushplus": "pushplus://abcdef0123456789abcdef0123456789",
    "wxpusher": "wxpusher://AT_abcdef0123456789/1234", "pushdeer": "pushdeer://push.example.com/PDU1234567890",
    "ntfy": "ntfy://push.example.com/topic", "gotify": "gotify://push.example.com/Axyz0123456789a",
    "pover": f"pover://{'a' * 30}@{'b' * 30}", "pagerduty": f"pagerduty://{'a' * 32}@{'b' * 32}",
    "opsgenie": f"opsgenie://{UUID}", "json": "json://hook.example.com/a", "form": "form://hook.example.com/a",
}  # fmt: skip
NAMES = sorted(SERVICES)


def example(service: str) -> str:
    return EXAMPLES.get(service) or EXAMPLES[service.removesuffix("s")].replace("://", "s://", 1)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    path = tmp_path_factory.mktemp("tls") / "services.pem"
    return path, certificate_for(sorted({host for host, _path in SHOWN.values()}), path)


@pytest.fixture
def internet(certificate, monkeypatch):
    """One TLS server that all names lead to, and whose certificate is theirs."""
    path, context = certificate
    with Receiver(context) as receiver:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(path))
        monkeypatch.setattr(socket, "getaddrinfo", resolves_to(receiver.port))
        receiver.body = {"errcode": 0, "code": 0}
        yield receiver


# --- as the services show them -------------------------------------------------------------------------


@pytest.mark.parametrize("shown", SHOWN, ids=lambda shown: urlsplit(shown).hostname)
def test_an_address_as_its_service_shows_it_sends_there(internet, shown):
    stored = addresses.checked(f" {shown}\n")
    if "slack.com/services" in shown:
        internet.body = b"ok"
    answer = transports.deliver(stored, "Title", "One & <two>\nThree")
    assert answer.ok, answer.words
    host, target = SHOWN[shown]
    assert internet.hosts[0].removesuffix(":443") == host
    assert urlsplit(internet.paths[0]).path == urlsplit(target).path
    assert parse_qs(urlsplit(internet.paths[0]).query).items() >= parse_qs(urlsplit(target).query).items()
    (message,) = internet.messages
    text = json.dumps(message, ensure_ascii=False)
    assert "Title" in text and "One" in text and "Three" in text
    assert addresses.checked(stored) == stored
    assert UUID not in masked(stored)


@pytest.mark.parametrize(
    ("shown", "where"),
    [
        (f"https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key={UUID}", "text.content"),
        ("https://oapi.dingtalk.com/robot/send?access_token=566cc69da782ec33e4", "text.content"),
        (f"https://open.feishu.cn/open-apis/bot/v2/hook/{UUID}", "content.text"),
        (f"https://open.larksuite.com/open-apis/bot/v2/hook/{UUID}", "content.text"),
    ],
)
def test_a_robot_gets_the_text_where_it_looks_for_it(internet, shown, where):
    assert transports.deliver(addresses.checked(shown), "Title", "One\nTwo").ok
    outer, inner = where.split(".")
    assert internet.messages[0][outer][inner].splitlines() == ["Title", "One", "Two"]


@pytest.mark.parametrize("kind", ["feishu", "lark"])
def test_a_robot_of_feishu_that_checks_signatures_gets_one(internet, kind):
    shown = next(shown for shown in SHOWN if kind in shown)
    stored = addresses.checked(shown, " s3cret/Of+Robot ")
    assert transports.deliver(stored, "Title", "Text").ok
    (message,) = internet.messages
    key = f"{message['timestamp']}\ns3cret/Of+Robot".encode()
    assert message["sign"] == base64.b64encode(hmac.new(key, b"", hashlib.sha256).digest()).decode()
    assert internet.paths == [f"/open-apis/bot/v2/hook/{UUID}"]


def test_a_robot_of_dingtalk_that_checks_signatures_gets_one(internet):
    shown = "https://oapi.dingtalk.com/robot/send?access_token=566cc69da782ec33e4"
    assert transports.deliver(addresses.checked(shown, "SEC0123abc"), "Title", "Text").ok
    query = parse_qs(urlsplit(internet.paths[0]).query)
    signed = f"{query['timestamp'][0]}\nSEC0123abc".encode()
    sign = base64.b64encode(hmac.new(b"SEC0123abc", signed, hashlib.sha256).digest()).decode()
    assert query["sign"] == [sign] and query["access_token"] == ["566cc69da782ec33e4"]


def test_another_secret_replaces_the_first():
    first = addresses.checked(f"feishu://{UUID}", "one")
    assert addresses.checked(first, "two") == f"feishu://two@{UUID}"


@pytest.mark.parametrize("address", [f"wecombot://{UUID}", "mailtos://user:password@example.com"])
def test_a_secret_for_a_service_that_has_none_is_refused(address):
    with pytest.raises(UnusableAddress) as caught:
        addresses.checked(address, "secret")
    assert caught.value.code == "secret"


def test_what_a_robot_says_of_a_signature_is_shown(internet):
    internet.body = {
        "code": 19021,
        "msg": "sign match fail or timestamp is not within one hour from current time",
    }
    answer = transports.deliver(addresses.checked(f"feishu://{UUID}", "wrong0secret"), "Title", "Text")
    assert answer.refused and "19021" in answer.words and "sign match fail" in answer.words
    assert "wrong0secret" not in answer.words


# --- parameters ----------------------------------------------------------------------------------------


def why_refused(address: str) -> str:
    try:
        addresses.checked(address)
    except UnusableAddress as error:
        return error.code
    return ""


def test_each_service_has_a_list_of_its_parameters_and_an_example():
    assert {name for name in NAMES if name not in PARAMETERS} == {
        name for name in NAMES if name not in PARAMETERS and name.removesuffix("s") in PARAMETERS
    }
    assert all(example(name) for name in NAMES)


@pytest.mark.parametrize("service", NAMES)
def test_a_service_takes_its_address_and_the_parameters_on_its_list(service):
    assert addresses.checked(example(service)) == example(service)
    for name in ("verify=yes", "overflow=split"):
        assert addresses.checked(f"{example(service)}?{name}")


@pytest.mark.parametrize(
    "parameter",
    [
        "template=/etc/passwd", "Template=/etc/passwd", "%74emplate=/etc/passwd", "template=http://169.254.169.254/",
        "attach=/etc/passwd", "pgpprv=/etc/passwd", "pgp=yes", "wkd=yes", "smime=yes", "redirect=yes", "retry=3",
        "wait=9", "store=yes", "rto=900", "cto=900", "optional=yes", "file_url=file:///etc/passwd", "e2ee=yes",
        "unheard-of=1",
    ],
)  # fmt: skip
def test_no_service_takes_a_parameter_that_is_not_on_its_list(parameter):
    given = [f"{example(service)}?{parameter}" for service in NAMES]
    assert [address for address in given if why_refused(address) != "parameter"] == []
    assert [address for address in given if not transports.deliver(address, "Title", "Text").unusable] == []


@pytest.mark.parametrize("prefix", [":", "+", "-"])
@pytest.mark.parametrize("service", [name for name in NAMES if name.rstrip("s") not in ("json", "form")])
def test_only_webhooks_take_prefixed_parameters(service, prefix):
    with pytest.raises(UnusableAddress):
        addresses.checked(f"{example(service)}?{prefix}key=value")


@pytest.mark.parametrize("shown", [shown for shown in SHOWN if "feishu" not in shown and "lark" not in shown and "dingtalk" not in shown])  # fmt: skip
def test_a_webhook_url_hides_no_other_parameter(shown):
    more = "&" if "?" in shown else "?"
    with pytest.raises(UnusableAddress) as caught:
        addresses.checked(f"{shown}{more}template=/etc/passwd")
    assert caught.value.code == "parameter"


# --- private targets -----------------------------------------------------------------------------------

PRIVATE = ["127.0.0.1", "127.1.2.3", "10.0.0.5", "192.168.1.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
           "[::1]", "[fd00::1]", "[fe80::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "localhost", "a.localhost"]  # fmt: skip


@pytest.fixture
def closed(settings):
    settings.WK_PRIVATE_TARGETS = False


@pytest.fixture
def service():
    with Receiver() as receiver:
        yield receiver


@pytest.mark.parametrize("host", PRIVATE)
def test_an_address_in_a_private_network_is_not_let_in(closed, host):
    with pytest.raises(UnusableAddress) as caught:
        addresses.checked(f"json://{host}/hook")
    assert caught.value.code == "private"
    assert addresses.checked(f"json://{host}/hook", private=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433"])
def test_a_channel_that_has_a_private_address_already_sends_nothing(closed, service, host):
    answer = transports.deliver(f"json://{host}:{service.port}/canary", "Title", "Text")
    assert answer.refused and answer.words == "private"
    assert service.asked == 0


def test_a_name_that_resolves_to_a_private_address_is_not_connected_to(closed, service, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", resolves_to(service.port))
    answer = transports.deliver("json://hook.example.com/a", "Title", "Text")
    assert answer.refused and answer.words == "private"
    assert service.asked == 0


def test_mail_is_not_sent_to_a_private_address_either(closed, service, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", resolves_to(service.port))
    answer = transports.deliver("mailto://user:password@example.com?smtp=mail.example.com", "Title", "Text")
    assert answer.refused and answer.words == "private"


def test_with_the_setting_a_private_address_is_sent_to(settings, service):
    settings.WK_PRIVATE_TARGETS = True
    assert transports.deliver(service.url, "Title", "Text").ok


def test_a_proxy_of_the_environment_is_allowed_and_is_not_asked_for_a_private_address(
    closed, service, monkeypatch
):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{service.port}")
    assert transports.deliver("json://198.41.0.4/hook", "Title", "Text").ok
    assert service.paths == ["http://198.41.0.4/hook"]
    for host in ("127.0.0.2", "localhost"):
        assert transports.deliver(f"json://{host}/hook", "Title", "Text").words == "private"
    assert service.asked == 1


@pytest.mark.parametrize("scheme", ["json", "form"])
def test_a_service_that_redirects_to_a_private_address_gets_no_message_there(
    closed, scheme, service, monkeypatch
):
    with Receiver() as inside:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{service.port}")
        monkeypatch.setenv("no_proxy", "0.0.0.0")  # this host too, without the proxy
        service.status, service.location = 307, f"http://0.0.0.0:{inside.port}/latest/meta-data/"
        assert not transports.deliver(f"{scheme}://198.41.0.4/hook", "Title", "Text").ok
        assert (service.asked, inside.asked) == (1, 0)


def test_messages_follow_the_proxy_of_the_environment_to_every_host_that_no_proxy_does_not_name(
    settings, service, monkeypatch
):
    settings.WK_PRIVATE_TARGETS = True
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("no_proxy", "")
    assert not transports.deliver(service.url, "Title", "Text").ok
    monkeypatch.setenv("no_proxy", "localhost,127.0.0.1")
    assert transports.deliver(service.url, "Title", "Text").ok
