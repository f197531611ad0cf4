"""Channels: their addresses are secrets, only well-known services are let in, and what a service says is heard."""

import logging
import re
import threading
from datetime import UTC, datetime, timedelta

import pytest
from apprise import AppriseAsset
from django.contrib.auth.models import Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import Channel, Delivery, Notification, Rule
from accounts.models.notification import masked
from accounts.notifications import addresses, robots, transports
from accounts.states import RULE_KINDS, NotificationKind
from tests.support.fake_chat_service import Receiver

CHANNELS = "/admin/accounts/channel/"
DELIVERIES = "/admin/accounts/delivery/"
SECRET = "canary0key-of-a-robot"
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


@pytest.fixture
def service():
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def logs(caplog):
    """All that is logged, at every level: also by a library that would rather not say it to everybody."""
    caplog.set_level(logging.DEBUG)
    return caplog


def form(**changed):
    return {
        "name": "Shop desk",
        "address": f"wecombot://{SECRET}",
        "language": "en",
        "active": "on",
        "rules-TOTAL_FORMS": "1",
        "rules-INITIAL_FORMS": "0",
        "rules-0-kinds": ["offline", "back"],
        "rules-0-debounce_seconds": "180",
        "rules-0-digest_minutes": "0",
        "rules-0-hours_from": "",
        "rules-0-hours_until": "",
        "rules-0-time_zone": "",
        "rules-0-incidents_at_once": "on",
        **changed,
    }


def shown_messages(page):
    return [str(message) for message in page.context["messages"]]


# --- which addresses -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "dbus://", "gnome://", "glib://", "macosx://", "windows://", "syslog://", "rsyslog://example.com",
        "file:///etc/passwd", "exec:///bin/sh", "python:///tmp/x.py", "growl://localhost", "kodi://localhost",
        "apprise://example.com/token", "smpp://u:p@example.com", "https://example.com/hook", "nonsense", "://",
        "mqtt://localhost/topic", "xmpp://u:p@example.com", "gio://", "blink1://", "deltachat://x", "signal://x",
    ],
)  # fmt: skip
def test_services_that_write_files_or_run_programs_are_not_let_in(address):
    with pytest.raises(addresses.UnusableAddress) as caught:
        addresses.checked(address)
    assert caught.value.code == "service"
    assert transports.deliver(address, "title", "text").unusable


def test_an_empty_address_is_not_let_in_and_one_whose_key_is_lost_is_no_reason_to_disable_its_channel():
    with pytest.raises(addresses.UnusableAddress) as caught:
        addresses.checked("")
    assert caught.value.code == "service"
    answer = transports.deliver("", "title", "text")
    assert (answer.ok, answer.unusable, answer.words) == (False, False, "key")


@pytest.mark.parametrize(
    "name", ["pgp=yes", "pgppub=/etc/passwd", "pgpprv=/etc/passwd", "wkd=yes", "retry=9", "redirect=yes"]
)
def test_parameters_that_read_files_or_repeat_are_not_let_in(name):
    with pytest.raises(addresses.UnusableAddress) as caught:
        addresses.checked(f"mailtos://user:password@example.com?{name}")
    assert caught.value.code == "parameter"


@pytest.mark.parametrize("address", ["tgram://nonsense", "wecombot://", "dingtalk://!!", "slack://x"])
def test_an_address_that_its_service_cannot_read_is_not_let_in(address):
    with pytest.raises(addresses.UnusableAddress) as caught:
        addresses.checked(address)
    assert caught.value.code == "read"


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        (f"wecombot://{SECRET}", "wecombot"),
        (f"https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key={SECRET}", "wecombot"),
        ("https://oapi.dingtalk.com/robot/send?access_token=canary0token", "dingtalk"),
        (f"https://open.feishu.cn/open-apis/bot/v2/hook/{SECRET}", "feishu"),
        ("https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ", "slack"),
        ("mailtos://user:password@example.com?to=desk@example.com", "mailtos"),
        ("tgram://123456789:abcdefg_hijklmnop/12315544/", "tgram"),
        ("jsons://example.com/hook", "jsons"),
    ],
)
def test_addresses_as_services_show_them_are_let_in(db, address, kind):
    channel = Channel.objects.create(name="x", url=addresses.checked(address))
    assert channel.kind == kind
    assert kind in addresses.SERVICES


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (f"wecombot://{SECRET}/?x=1", "wecombot://…"),
        ("jsons://user:password@hooks.example.com:8443/path?token=1", "jsons://hooks.example.com/…"),
        ("mailtos://user:password@mail.example.com?to=desk@example.com", "mailtos://mail.example.com/…"),
        ("tgram://123456789:abcdefg/12315544/", "tgram://…"),
        ("jsons://[bad", "jsons://…"),
    ],
)
def test_what_may_be_shown_of_an_address(address, shown):
    assert masked(address) == shown


# --- what a service says -------------------------------------------------------------------------------


def test_a_message_arrives_as_json(service):
    assert transports.deliver(service.url, "Title", "One\nTwo").ok
    (message,) = service.messages
    assert (message["title"], message["message"]) == ("Title", "One\nTwo")


@pytest.mark.parametrize(
    ("status", "refused"),
    [(400, True), (401, True), (403, True), (404, True), (410, True), (408, False), (429, False), (500, False), (502, False)],
)  # fmt: skip
def test_which_answers_refuse(service, status, refused):
    service.status = status
    answer = transports.deliver(service.url, "Title", "Text")
    assert not answer.ok and not answer.unknown
    assert answer.refused is refused
    assert str(status) in answer.words and "canary" not in answer.words


def test_a_service_that_is_unreachable_has_not_got_the_message():
    with Receiver() as gone:
        address = gone.url
    answer = transports.deliver(address, "Title", "Text")
    assert not (answer.ok or answer.refused or answer.unknown)
    assert "canary" not in answer.words and "127.0.0.1" not in answer.words


@pytest.mark.slow
def test_a_service_that_takes_the_message_and_says_nothing_may_have_got_it(service, monkeypatch):
    monkeypatch.setattr(transports, "CONNECT_SECONDS", 1.5)
    monkeypatch.setattr(transports, "READ_SECONDS", 1)
    service.hold = threading.Event()
    answer = transports.deliver(service.url, "Title", "Text")
    assert answer.unknown and not answer.refused


@pytest.mark.slow
def test_a_service_that_answers_for_ever_is_left(service, monkeypatch):
    """Each read is in time, all of them together are not. The limit is ours, not apprise's."""
    monkeypatch.setattr(transports, "TOTAL_SECONDS", 1)
    monkeypatch.setattr(AppriseAsset, "_service_timeout", 3600.0)
    service.drip = True
    answer = transports.deliver(service.url, "Title", "Text")
    assert not answer.ok
    assert service.dripping


def test_nobody_is_sent_on_to_another_address(service):
    with Receiver() as elsewhere:
        service.status, service.location = 307, f"http://127.0.0.1:{elsewhere.port}/"
        assert not transports.deliver(service.url, "Title", "Text").ok
        assert (service.asked, elsewhere.asked) == (1, 0)


@pytest.mark.parametrize(
    ("robot", "address", "where", "said", "refused"),
    [
        ("wecombot", f"wecombot://{SECRET}", "text.content", {"errcode": 93000, "errmsg": "invalid webhook url"}, True),
        ("wecombot", f"wecombot://{SECRET}", "text.content", {"errcode": 45009, "errmsg": "freq out of limit"}, False),
        ("dingtalk", "dingtalk://SECcanary@canarytoken", "text.content", {"errcode": 310000, "errmsg": "sign not match"}, True),
        ("dingtalk", "dingtalk://canarytoken", "text.content", {"errcode": 130101, "errmsg": "send too fast"}, False),
        ("feishu", f"feishu://{SECRET}", "content.text", {"code": 19024, "msg": "Key Words Not Found"}, True),
        ("feishu", f"feishu://{SECRET}", "content.text", {"code": 11232, "msg": "too many requests"}, False),
        ("lark", "lark://abcdef01-1234-4321-abcd-abcdef012345", "content.text", {"code": 19001, "msg": "invalid"}, True),
    ],
)  # fmt: skip
def test_a_robot_is_heard_although_it_says_no_in_a_success(
    service, monkeypatch, robot, address, where, said, refused
):
    """The body is what the service wants; an HTTP 200 with another number than 0 is no success."""
    at = f"http://127.0.0.1:{service.port}/hook?key={{key}}{{token}}"
    at = at if robot != "lark" else f"http://127.0.0.1:{service.port}/hook/"
    monkeypatch.setattr(robots.ROBOTS[robot], "notify_url", at.replace("{key}", "{key}" if robot == "wecombot" else "").replace("{token}", "" if robot == "wecombot" else "{token}"))  # fmt: skip
    service.body = {"errcode": 0, "code": 0}
    assert transports.deliver(address, "Title", "One\nTwo").ok
    outer, inner = where.split(".")
    message = service.messages[0]
    assert message[outer][inner].splitlines() == ["Title", "One", "Two"]
    assert message.get("msgtype", message.get("msg_type")) == "text"
    assert "canary" in service.paths[0] or robot == "lark"
    service.body = said
    answer = transports.deliver(address, "Title", "Text")
    assert not answer.ok
    assert answer.refused is refused
    assert str(next(iter(said.values()))) in answer.words
    assert "canary" not in answer.words


def test_a_signed_robot_gets_a_signature_that_is_quoted_once(service, monkeypatch):
    monkeypatch.setattr(
        robots.DingTalkRobot, "notify_url", f"http://127.0.0.1:{service.port}/send?access_token={{token}}"
    )
    service.body = {"errcode": 0}
    assert transports.deliver("dingtalk://SECcanary@canarytoken", "Title", "Text").ok
    assert "sign=" in service.paths[0] and "%25" not in service.paths[0]


def test_no_address_is_logged_whatever_becomes_of_it(service, logs, capfd):
    for status in (200, 404, 503):
        service.status = status
        transports.deliver(service.url, "Title", "Text")
    for address in (f"wecombot://{SECRET}/%%", f"https://example.com/{SECRET}", f"tgram://{SECRET}"):
        transports.deliver(address, "Title", "Text")
    said = capfd.readouterr()
    for text in (
        said.err,
        said.out,
        *(record.getMessage() for record in logs.records if record.name != "urllib3.connectionpool"),
    ):
        assert "canary" not in text


# --- in the database -----------------------------------------------------------------------------------


def test_an_address_is_encrypted_at_rest(db):
    Channel.objects.create(name="x", url=f"wecombot://{SECRET}")
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM accounts_channel")
        assert SECRET not in str(cursor.fetchall())
    assert Channel.objects.get().url == f"wecombot://{SECRET}"


@pytest.mark.parametrize(
    ("zone", "hours", "at", "until"),
    [
        ("UTC", ("22:00", "08:00"), "2026-03-02 23:00", "2026-03-03 08:00"),
        ("UTC", ("22:00", "08:00"), "2026-03-02 07:59", "2026-03-02 08:00"),
        ("UTC", ("22:00", "08:00"), "2026-03-02 08:00", None),
        ("Asia/Shanghai", ("22:00", "08:00"), "2026-03-02 15:00", "2026-03-03 00:00"),
        ("UTC", ("12:00", "13:00"), "2026-03-02 12:30", "2026-03-02 13:00"),
        (
            "Europe/Berlin",
            ("22:00", "02:30"),
            "2026-03-29 00:00",
            "2026-03-29 01:00",
        ),  # the clocks skip 02:30
    ],
)
def test_when_quiet_hours_end(zone, hours, at, until):
    times = [datetime.strptime(hour, "%H:%M").time() for hour in hours]  # noqa: DTZ007
    rule = Rule(hours_from=times[0], hours_until=times[1], time_zone=zone)
    now = datetime.fromisoformat(at).replace(tzinfo=UTC)
    expected = until and datetime.fromisoformat(until).replace(tzinfo=UTC)
    assert rule.quiet_until(now) == expected


@pytest.mark.parametrize(
    ("zone", "minutes", "at", "due"),
    [
        ("UTC", 1440, "2026-03-02 07:00", "2026-03-03 00:00"),
        ("UTC", 1440, "2026-03-02 00:00", "2026-03-02 00:00"),
        ("Asia/Shanghai", 1440, "2026-03-02 07:00", "2026-03-02 16:00"),
        ("", 1440, "2026-03-02 07:00", "2026-03-02 16:00"),  # the site's own zone
        ("Asia/Kolkata", 60, "2026-03-02 07:10", "2026-03-02 07:30"),
        ("Europe/Berlin", 1440, "2026-03-28 23:00", "2026-03-28 23:00"),
        ("Europe/Berlin", 1440, "2026-03-29 00:30", "2026-03-29 22:00"),  # a day of 23 hours
        ("Europe/Berlin", 1440, "2026-10-25 00:30", "2026-10-25 23:00"),  # a day of 25 hours
        ("Europe/Berlin", 15, "2026-10-25 00:31", "2026-10-25 00:45"),  # 02:31, for the first time
        ("Europe/Berlin", 15, "2026-10-25 01:31", "2026-10-25 01:45"),  # and again
    ],
)
def test_digests_are_due_by_the_clock_of_the_rules_time_zone(zone, minutes, at, due):
    rule = Rule(digest_minutes=minutes, time_zone=zone)
    now, expected = (datetime.fromisoformat(moment).replace(tzinfo=UTC) for moment in (at, due))
    assert rule.due_at(now, NotificationKind.BACK) == expected


# --- admin ---------------------------------------------------------------------------------------------


def test_an_admin_adds_a_channel_and_never_sees_its_address_again(people, logs):
    client = people.admin.client
    answer = client.post(f"{CHANNELS}add/", form())
    assert answer.status_code == 302, answer.context["errors"]
    channel = Channel.objects.get()
    assert channel.url == f"wecombot://{SECRET}"
    assert channel.rules.get().kinds == ["offline", "back"]
    for path in (CHANNELS, f"{CHANNELS}{channel.pk}/change/", f"{CHANNELS}{channel.pk}/history/", "/admin/"):
        text = client.get(path).content.decode()
        assert "canary" not in text
    assert "企业微信" in client.get(CHANNELS).content.decode()
    assert "canary" not in logs.text


@pytest.mark.parametrize(("language", "words"), [("en", "Sketch"), ("zh-hans", "示意图")])
@pytest.mark.slow
def test_sketches_show_where_robots_have_their_address_and_secret(people, language, words):
    people.admin.client.cookies["django_language"] = language
    page = people.admin.client.get("/admin/accounts/channel/add/").content.decode()
    figures = re.findall(r'<img src="(/static/robots/[^"]+)".*?alt="([^"]+)"', page, re.DOTALL)
    assert [re.split(r"[/.]", address)[3] for address, _alt in figures] == ["wecom", "dingtalk", "feishu"]
    assert all(words in alt for _address, alt in figures)


def test_an_address_is_kept_when_the_form_has_none_and_replaced_when_it_has_one(people):
    client = people.admin.client
    client.post(f"{CHANNELS}add/", form())
    channel, rule = Channel.objects.get(), Rule.objects.get()
    kept = form(name="Renamed", address="", **{"rules-INITIAL_FORMS": "1", "rules-0-id": rule.pk})
    kept["rules-0-channel"] = channel.pk
    assert client.post(f"{CHANNELS}{channel.pk}/change/", kept).status_code == 302
    channel.refresh_from_db()
    assert (channel.name, channel.url) == ("Renamed", f"wecombot://{SECRET}")
    assert (
        client.post(
            f"{CHANNELS}{channel.pk}/change/", kept | {"address": "jsons://example.com/x"}
        ).status_code
        == 302
    )
    channel.refresh_from_db()
    assert (channel.url, channel.shown) == ("jsons://example.com/x", "jsons://example.com/…")


def test_a_secret_is_kept_with_the_address_and_neither_is_seen_again(people):
    client = people.admin.client
    shown = f"https://open.feishu.cn/open-apis/bot/v2/hook/{SECRET}"
    assert client.post(f"{CHANNELS}add/", form(address=shown, secret="canary0secret")).status_code == 302
    channel, rule = Channel.objects.get(), Rule.objects.get()
    assert channel.url == f"feishu://canary0secret@{SECRET}"
    page = f"{CHANNELS}{channel.pk}/change/"
    assert "canary" not in client.get(page).content.decode()
    again = {"rules-INITIAL_FORMS": "1", "rules-0-id": rule.pk, "rules-0-channel": channel.pk}
    for address, secret, stored in [
        ("", "", f"feishu://canary0secret@{SECRET}"),
        ("", "another0secret", f"feishu://another0secret@{SECRET}"),
        (shown, "", f"feishu://{SECRET}"),
    ]:
        assert client.post(page, form(address=address, secret=secret, **again)).status_code == 302
        channel.refresh_from_db()
        assert channel.url == stored


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"address": ""}, "Enter the channel’s address."),
        ({"secret": "canary0secret"}, "This service has no secret."),
        (
            {"address": "tgram://123456789:abcdefg_hijklmnop/1/?template=/etc/passwd"},
            "a parameter that is not allowed",
        ),
        ({"address": "syslog://"}, "can’t be used"),
        ({"address": "tgram://nonsense"}, "doesn’t match the service’s format"),
        ({"rules-0-kinds": []}, "This field is required."),
        ({"rules-0-hours_from": "22:00"}, "Enter both a start and an end for quiet hours."),
        ({"rules-0-time_zone": "Mars/Olympus"}, "Unknown time zone"),
    ],
)
def test_a_form_that_is_wrong_says_so_and_repeats_no_address(people, changed, complaint):
    page = people.admin.client.post(f"{CHANNELS}add/", form(**changed))
    assert page.status_code == 200
    assert complaint in page.content.decode()
    assert SECRET not in page.content.decode()
    assert not Channel.objects.exists()


def test_a_rule_as_it_is_proposed_is_kept(people):
    kinds = [kind for kind, _label in RULE_KINDS]
    people.admin.client.post(f"{CHANNELS}add/", form(**{"rules-0-kinds": kinds}))
    assert Rule.objects.get().kinds == kinds


@pytest.mark.slow
def test_a_test_message_shows_what_the_service_said(people, service):
    channel = Channel.objects.create(name="x", url=service.url, language="zh-hans")
    path = f"{CHANNELS}{channel.pk}/test/"
    page = people.admin.client.post(path, follow=True)
    assert shown_messages(page) == ["The service accepted the test message. Check that it arrived."]
    assert len(service.messages) == 1
    service.status = 403
    (said,) = shown_messages(people.admin.client.post(path, follow=True))
    assert said.startswith("Test message not sent:") and "403" in said and "canary" not in said
    assert people.admin.client.get(path).status_code == 403


def test_a_channel_that_was_switched_off_says_why_and_is_switched_on_again_by_saving_it(people):
    channel = Channel.objects.create(
        name="Gone", url=f"wecombot://{SECRET}", active=False, switched_off_at=timezone.now(), switched_off_why="HTTP 404"
    )  # fmt: skip
    client = people.admin.client
    assert "disabled: HTTP 404" in client.get(CHANNELS).content.decode()
    assert shown_messages(client.get(CHANNELS)) == [
        "“Gone” was disabled and sends no notifications. Reason: HTTP 404"
    ]
    client.post(f"{CHANNELS}{channel.pk}/change/", form(name="Gone", address=""))
    channel.refresh_from_db()
    assert channel.active and channel.switched_off_at is None and channel.switched_off_why == ""
    assert "disabled: " not in client.get(CHANNELS).content.decode()


def test_saving_a_channel_keeps_its_lease(people, monkeypatch):
    channel = Channel.objects.create(name="x", url=f"wecombot://{SECRET}")
    until = timezone.now() + timedelta(seconds=60)
    clean = addresses.checked

    def taken_meanwhile(*args, **how):
        Channel.objects.update(sending_until=until)
        return clean(*args, **how)

    monkeypatch.setattr(addresses, "checked", taken_meanwhile)
    people.admin.client.post(f"{CHANNELS}{channel.pk}/change/", form())
    assert Channel.objects.get().sending_until == until


@pytest.mark.parametrize("rights", [(), ("view_channel",), ("view_account", "view_delivery")])
def test_without_the_right_nobody_changes_a_channel_sends_a_test_or_reads_notifications(
    people, service, rights
):
    channel = Channel.objects.create(name="x", url=service.url)
    people.mate.is_staff = True
    people.mate.save()
    people.mate.user_permissions.add(*Permission.objects.filter(codename__in=rights))
    client = people.mate.client
    assert client.post(f"{CHANNELS}{channel.pk}/test/").status_code == 403
    assert client.post(f"{CHANNELS}{channel.pk}/change/", form()).status_code == 403
    assert client.get(DELIVERIES).status_code == 403
    assert service.asked == 0
    if "view_channel" in rights:
        page = client.get(f"{CHANNELS}{channel.pk}/change/").content.decode()
        assert "canary" not in page and "send-test" not in page


def deliveries(people, number):
    for _n in range(number):
        account = people.account(label="Shop <7>")
        notification = Notification.objects.create(
            key=f"k{Notification.objects.count()}", kind=NotificationKind.OFFLINE, account=account
        )
        channel = Channel.objects.create(name=f"c{Channel.objects.count()}", url=f"wecombot://{SECRET}")
        Delivery.objects.create(channel=channel, notification=notification, error="HTTP 500")


@pytest.mark.parametrize(
    "path", [CHANNELS, DELIVERIES, f"{DELIVERIES}?state__exact=pending", f"{DELIVERIES}?channel=1"]
)
def test_twice_the_rows_need_no_more_queries_and_no_address_is_read(people, path):
    def queries():
        deliveries(people, 4)
        with CaptureQueriesContext(connection) as captured:
            assert people.admin.client.get(path).status_code == 200
        return [query["sql"] for query in captured.captured_queries]

    once = queries()
    assert len(queries()) == len(once) <= 15
    assert not [sql for sql in once if '"accounts_channel"."url"' in sql]


def test_the_log_of_deliveries_is_read_only(people):
    deliveries(people, 1)
    delivery = Delivery.objects.get()
    client = people.admin.client
    page = client.get(f"{DELIVERIES}{delivery.pk}/change/").content.decode()
    assert "Shop &lt;7&gt;" in page and "HTTP 500" in page and 'name="_save"' not in page
    assert client.post(f"{DELIVERIES}{delivery.pk}/change/", {"state": "sent"}).status_code == 403
    assert client.post(f"{DELIVERIES}{delivery.pk}/delete/", {"post": "yes"}).status_code == 403
    assert client.get(f"{DELIVERIES}add/").status_code == 403
