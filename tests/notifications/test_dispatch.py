"""From event rows to messages at a real receiving end, with time set by the test."""

import re
from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from accounts.lib import db_clock
from accounts.models import (
    Account,
    AccountEvent,
    Channel,
    Delivery,
    Drop,
    Notification,
    Presence,
    Rule,
    UpstreamAccess,
)
from accounts.models.event import gathered, record
from accounts.models.notification import DeliveryState
from accounts.notifications import dispatch, outbox
from accounts.presence import offline
from accounts.relogin import recover
from accounts.states import AccountState, DropKind, EventType, NextStep, NotificationKind
from tests.support.factories import make_account
from tests.support.fake_chat_service import Receiver

KINDS = list(NotificationKind.values)
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


class Time:
    """The test's clock: it stands still, and moves on request."""

    def __init__(self):
        self.now = timezone.now().replace(microsecond=0)

    def __call__(self):
        return self.now

    def goes_on(self, **delta):
        self.now += timedelta(**delta)


@pytest.fixture
def time(monkeypatch, own_clock):
    stands = Time()
    monkeypatch.setattr(db_clock, "now", stands)
    return stands


@pytest.fixture
def phone():
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def site(settings):
    settings.WK_PUBLIC_URL = "https://desk.example.com"


def channel_to(receiver, name="Shop desk", language="en", **rule):
    channel = Channel.objects.create(name=name, url=receiver.url, language=language)
    teams = rule.pop("teams", [])
    made = Rule.objects.create(channel=channel, **{"kinds": KINDS, **rule})
    made.teams.set(teams)
    return channel


def drops(*accounts, kind=DropKind.ORDINARY, **fields):
    """These accounts go offline now, as the sweep does it: the account, its event and its drop in one transaction."""
    now = db_clock.now()
    with gathered():
        for account in accounts:
            account.state, account.w_id, account.state_since = AccountState.OFFLINE, "", now
            account.save()
            Drop.objects.create(
                account=account,
                kind=kind,
                at=now,
                w_id="w-old",
                proxy=account.proxy,
                region=account.region,
                **fields,
            )
            record(account, EventType.ACCOUNT_OFFLINE, old="online", new="offline", at=now)


def comes_back(*accounts):
    now = db_clock.now()
    for account in accounts:
        account.login_seq += 1
        assert account.go_online(account.login_seq, f"w-new-{account.pk}-{account.login_seq}", now, None)
        Drop.objects.filter(account=account, ended_at=None).update(ended_at=now)


def to_scan(account):
    account.queued_for_scan_at = db_clock.now()
    account.save()
    account.drops.filter(ended_at=None).update(next_step=NextStep.SCAN, next_at=None)
    record(account, EventType.TO_SCAN, detail="used_up", at=db_clock.now())


def notify():
    return sum(map(dispatch.send, dispatch.tick()))


def online(**fields):
    number = Account.objects.count() + 1
    return make_account(w_id=f"w-{number}", wc_id=f"wxid_secret{number:04}", mobile="13812345678", **fields)


def states(channel):
    return sorted(Delivery.objects.filter(channel=channel).values_list("notification__kind", "state"))


# --- one account ---------------------------------------------------------------------------------------


def test_a_drop_that_is_over_within_the_debounce_is_not_notified(db, time, phone):
    channel, account = channel_to(phone), online()
    drops(account)
    assert notify() == 0
    time.goes_on(seconds=170)
    comes_back(account)
    assert notify() == 0
    time.goes_on(hours=1)
    assert notify() == 0
    assert phone.messages == []
    assert states(channel) == [("offline", "unneeded")]


@pytest.mark.slow
def test_a_drop_that_stays_is_notified_once_and_its_end_once(db, time, phone):
    channel, account = channel_to(phone), online(label="Shop 7")
    drops(account)
    for _tick in range(5):
        notify()
        time.goes_on(seconds=60)
    assert phone.titles == ["Offline: Shop 7"]
    time.goes_on(minutes=20)
    comes_back(account)
    for _tick in range(5):
        notify()
        time.goes_on(seconds=60)
    assert phone.titles == ["Offline: Shop 7", "Back online: Shop 7"]
    assert "Offline for 25 minutes" in phone.messages[1]["message"]
    assert states(channel) == [("back", "sent"), ("offline", "sent")]


@pytest.mark.slow
def test_the_end_is_notified_where_the_drop_was(db, time, phone):
    account = online(label="Shop 7")
    with Receiver() as slow:
        channel_to(slow, "slow", debounce_seconds=3600)
        channel_to(phone, "quick")
        drops(account)
        notify()
        time.goes_on(minutes=5)
        notify()
        comes_back(account)
        notify()
        time.goes_on(hours=2)
        notify()
        assert slow.messages == []
    assert phone.titles == ["Offline: Shop 7", "Back online: Shop 7"]


@pytest.mark.slow
def test_an_account_queued_for_scan_is_notified_once_and_not_as_offline_too(db, time, phone):
    channel_to(phone)
    account = online(label="Shop 7")
    drops(account)
    time.goes_on(seconds=20)
    to_scan(account)
    for _tick in range(5):
        notify()
        time.goes_on(seconds=60)
    assert phone.titles == ["Queued for scan: Shop 7"]
    assert "prompt limit reached" in phone.messages[0]["message"]
    comes_back(account)
    notify()
    assert phone.titles == ["Queued for scan: Shop 7", "Back online: Shop 7"]


@pytest.mark.slow
def test_a_scan_that_becomes_needed_after_the_notification_is_notified_too(db, time, phone):
    channel_to(phone)
    account = online(label="Shop 7")
    drops(account, next_step=NextStep.POPUP)
    dispatch.tick()
    time.goes_on(minutes=4)
    notify()
    time.goes_on(minutes=20)
    to_scan(account)
    dispatch.tick()
    time.goes_on(minutes=4)
    notify()
    assert phone.titles == ["Offline: Shop 7", "Queued for scan: Shop 7"]
    to_scan(account)
    notify()
    time.goes_on(minutes=4)
    notify()
    assert len(phone.messages) == 2


def test_a_scan_that_a_plan_wants_of_an_account_without_a_drop(db, time, phone):
    channel_to(phone)
    account = online(label="Shop 7")
    to_scan(account)
    notify()
    time.goes_on(minutes=4)
    notify()
    assert phone.titles == ["Queued for scan: Shop 7"]


@pytest.mark.parametrize("how", ["paused", "joined", "deleted"])
def test_nobody_is_notified_of_a_paused_account(db, time, phone, how):
    channel_to(phone)
    account, other = online(), online()
    drops(account)
    notify()
    if how == "deleted":
        account.delete()
    elif how == "paused":
        Account.objects.filter(pk=account.pk).update(keep_online=False)
    else:
        Account.objects.filter(pk=account.pk).update(merged_into=other)
    time.goes_on(minutes=10)
    assert notify() == 0
    assert phone.asked == 0


@pytest.mark.slow
def test_a_drop_as_the_sweep_writes_it_and_a_scan_as_recovery_asks_for_it(db, time, phone):
    """By the doors that everybody else uses."""
    channel_to(phone)
    account = online(label="Shop 7", first_login_at=time.now, last_login_at=time.now - timedelta(days=3))
    with transaction.atomic():
        assert offline.go_offline([account.pk], time.now, time.now) == [account.pk]
    notify()
    assert Notification.objects.get().drop == Drop.objects.get()
    assert recover.queue_for_scan(Account.objects.get(pk=account.pk), detail="refused")
    notify()
    time.goes_on(minutes=4)
    notify()
    assert phone.titles == ["Queued for scan: Shop 7"]
    assert "WKTeam requires a scan" in phone.messages[0]["message"]
    account.refresh_from_db()
    time.goes_on(minutes=30)
    assert account.go_online(account.login_seq + 1, "w-new", time.now, None)
    offline.end_drops()
    notify()
    assert phone.titles == ["Queued for scan: Shop 7", "Back online: Shop 7"]
    assert "Offline for 34 minutes" in phone.messages[1]["message"]


# --- what a message says -------------------------------------------------------------------------------


@pytest.mark.usually("sqlite")
def test_a_message_says_why_since_when_what_is_next_and_where(db, time, phone, site):
    channel_to(phone)
    account = online(label="Shop 7 <@all>", wechat_id="shop7number")
    words = "设备 wxid_secret0001 13812345678 shop7number w-old 在其他地方登录 @all"
    drops(account, kind=DropKind.AT_ONCE, next_step=NextStep.BACK_OFF, next_at=time.now + timedelta(hours=1))
    Drop.objects.update(reason_text=words)
    began = timezone.localtime(time.now)
    notify()
    time.goes_on(minutes=4)
    notify()
    (message,) = phone.messages
    text = message["message"]
    assert message["title"] == "Offline: Shop 7 ‹＠all›"
    assert f"Offline since {began:%m-%d %H:%M}." in text
    assert "within a minute of login" in text
    assert "在其他地方登录" in text
    assert f"Waiting for the next prompt, until {began + timedelta(hours=1):%m-%d %H:%M}." in text
    assert f"https://desk.example.com/accounts/{account.pk}/" in text
    for secret in ("wxid_", "13812345678", "w-old", "shop7number", "@"):
        assert secret not in text + message["title"]
    assert re.search(rf"Message {Delivery.objects.get().pk}$", text)


@pytest.mark.usually("sqlite")
def test_an_account_without_a_name_is_not_called_by_its_wcid(db, time, phone):
    channel_to(phone)
    account = online(label="")
    drops(account)
    notify()
    time.goes_on(minutes=4)
    notify()
    assert phone.titles == [f"Offline: #{account.pk}"]


@pytest.mark.usually("sqlite")
def test_each_channel_speaks_its_language_and_times_are_the_sites(db, time, phone, settings):
    settings.TIME_ZONE = "Asia/Shanghai"
    account = online(label="七号店")
    with Receiver() as chinese:
        channel_to(chinese, "zh", language="zh-hans")
        channel_to(phone, "en")
        drops(account, kind=DropKind.FIRST_NIGHT)
        notify()
        time.goes_on(minutes=4)
        notify()
        assert "七号店" in chinese.titles[0]
    assert phone.titles == ["Offline: 七号店"]
    assert "normal and happens once" in phone.messages[0]["message"]


@pytest.mark.slow
@pytest.mark.usually("sqlite")
def test_without_an_address_of_this_site_there_is_no_link(db, time, phone, settings):
    settings.WK_PUBLIC_URL = ""
    channel_to(phone)
    drops(online())
    notify()
    time.goes_on(minutes=4)
    notify()
    assert "http" not in phone.messages[0]["message"]


# --- rules ---------------------------------------------------------------------------------------------


def test_a_rule_notifies_of_its_kinds_and_teams(people, time, phone):
    with Receiver() as west, Receiver() as scans:
        channel_to(phone, "east", teams=[people.east])
        channel_to(west, "west", teams=[people.west])
        channel_to(scans, "scans", kinds=[NotificationKind.TO_SCAN])
        mine, of_nobody = online(label="Mine", team=people.east), online(label="Of nobody")
        drops(mine, of_nobody)
        notify()
        time.goes_on(minutes=4)
        notify()
        assert west.asked == scans.asked == 0
    assert phone.titles == ["Offline: Mine"]


@pytest.mark.slow
def test_quiet_hours_defer_what_comes_and_send_it_as_one_message_at_their_end(db, time, phone, settings):
    time.now = timezone.make_aware(timezone.datetime(2026, 3, 2, 23, 0), timezone.get_default_timezone())
    channel_to(phone, hours_from="22:00", hours_until="08:00")
    first, second, back = online(label="One"), online(label="Two"), online(label="Three")
    drops(first, second, back)
    for _hour in range(4):
        assert notify() == 0
        time.goes_on(hours=1)
    comes_back(back)
    for _hour in range(4):
        assert notify() == 0
        time.goes_on(hours=1)
    time.goes_on(hours=1, minutes=1)
    notify()
    (message,) = phone.messages
    assert message["title"] == "offline 2"
    assert "Offline: One" in message["message"] and "Offline: Two" in message["message"]
    assert "Three" not in message["message"]


@pytest.mark.slow
def test_a_digest_combines_notifications_in_one_message(db, time, phone):
    time.now = time.now.replace(minute=1, second=0)
    channel_to(phone, digest_minutes=30)
    drops(online(label="One"))
    time.goes_on(minutes=10)
    notify()
    drops(online(label="Two"))
    for _minute in range(15):
        assert notify() == 0
        time.goes_on(minutes=1)
    time.goes_on(minutes=5)
    notify()
    assert phone.titles == ["offline 2"]


def test_many_at_once_are_one_message_also_without_an_incident(db, time, phone):
    channel_to(phone)
    accounts = [online(label=f"Shop {n}") for n in range(8)]
    drops(*accounts)
    notify()
    time.goes_on(minutes=4)
    notify()
    assert phone.titles == ["offline 8"]
    comes_back(*accounts)
    notify()
    assert phone.titles == ["offline 8", "back online 8"]


# --- sending -------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usually("sqlite")
def test_a_service_that_is_unreachable_is_tried_again_with_growing_pauses(db, time, phone):
    channel = channel_to(phone)
    phone.status = 503
    drops(online(label="Shop 7"))
    notify()
    time.goes_on(minutes=4)
    notify()
    for tries, minutes in enumerate((1, 2, 4, 8, 16), 1):
        rests_until = max(Channel.objects.get().next_at, Delivery.objects.get().next_at)
        assert minutes * 60 * 0.8 <= (rests_until - time.now).total_seconds() <= minutes * 60 * 1.2
        time.now = rests_until - timedelta(seconds=1)
        notify()
        assert phone.asked == tries
        time.now = rests_until
        notify()
        assert phone.asked == tries + 1
    delivery = Delivery.objects.get()
    assert delivery.state == DeliveryState.FAILED and "503" in delivery.error
    assert Channel.objects.get(pk=channel.pk).active
    phone.status = 200
    time.goes_on(hours=1)
    assert notify() == 1
    assert states(channel) == [("offline", "sent")]
    assert Delivery.objects.get().error == ""


@pytest.mark.slow
@pytest.mark.usually("sqlite")
def test_a_message_that_never_gets_through_is_given_up(db, time, phone):
    channel_to(phone)
    phone.status = 500
    drops(online())
    notify()
    for _longest_pause in range(dispatch.TRIES + 2):
        time.goes_on(hours=5)
        notify()
    delivery = Delivery.objects.get()
    assert (delivery.state, delivery.tries) == (DeliveryState.GIVEN_UP, dispatch.TRIES)
    assert phone.asked == dispatch.TRIES


@pytest.mark.slow
def test_a_service_that_refuses_disables_its_channel_and_others_are_notified(db, time, phone):
    with Receiver() as gone:
        gone.status = 404
        channel = channel_to(gone, "gone")
        channel_to(phone, "other")
        drops(online(label="Shop 7"))
        notify()
        time.goes_on(minutes=4)
        for _minute in range(10):
            notify()
            time.goes_on(minutes=1)
        assert gone.asked == dispatch.REFUSALS
        channel.refresh_from_db()
        assert not channel.active and channel.switched_off_at is not None
        assert "404" in channel.switched_off_why
        assert "canary" not in channel.switched_off_why
        assert list(Channel.objects.broken()) == [channel]
        assert states(channel) == [("offline", "given_up")]
        drops(online(label="Shop 8"))
        time.goes_on(minutes=10)
        notify()
        assert gone.asked == dispatch.REFUSALS
    assert phone.titles[:2] == ["Offline: Shop 7", "Channel “gone” disabled"]


def test_an_address_that_is_none_switches_its_channel_off_at_once(db, time):
    channel = Channel.objects.create(name="broken", url="tgram://nonsense", language="en")
    Rule.objects.create(channel=channel, kinds=KINDS)
    drops(online())
    notify()
    time.goes_on(minutes=4)
    notify()
    channel.refresh_from_db()
    assert not channel.active
    assert "doesn’t match the service’s format" in str(channel.why_off)


def test_what_failed_and_is_over_meanwhile_is_not_notified_nor_is_its_end(db, time, phone):
    channel, account = channel_to(phone), online()
    phone.status = 502
    drops(account)
    notify()
    time.goes_on(minutes=4)
    notify()
    comes_back(account)
    phone.status = 200
    time.goes_on(minutes=10)
    assert notify() == 0
    assert states(channel) == [("offline", "unneeded")]


def test_one_that_sends_keeps_all_others_from_the_channel(db, time, phone):
    channel = channel_to(phone)
    drops(online())
    notify()
    time.goes_on(minutes=4)
    dispatch.tick()
    lease = dispatch.claim(channel.pk)
    assert dispatch.send(channel.pk) == 0
    assert channel.pk not in dispatch.tick()
    batch, _message = dispatch.next_message(channel, lease)
    assert len(batch) == 1
    # It was killed: its lease ends, and the message is sent by another, with the same number.
    time.goes_on(minutes=2)
    assert notify() == 1
    assert phone.messages[0]["message"].endswith(f"Message {batch[0].pk}")


def test_a_process_that_lost_its_lease_on_a_channel_sends_nothing_more(db, time, phone):
    channel = channel_to(phone)
    drops(online(), online())
    notify()
    time.goes_on(minutes=4)
    dispatch.tick()
    slept = dispatch.claim(channel.pk)
    time.goes_on(minutes=2)
    other = dispatch.claim(channel.pk)
    with slept:
        assert dispatch.next_message(channel, slept) == ([], ("", ""))
    assert dispatch.claim(channel.pk) is None
    with other:
        assert len(dispatch.next_message(channel, other)[0]) == 1
    assert dispatch.send(channel.pk) == 1
    time.goes_on(minutes=2)
    assert dispatch.send(channel.pk) == 1
    assert len(phone.messages) == 2


def test_a_disabled_channel_is_sent_nothing_and_keeps_nothing(db, time, phone):
    channel = channel_to(phone)
    drops(online())
    notify()
    Channel.objects.update(active=False)
    time.goes_on(hours=1)
    assert notify() == 0
    Channel.objects.update(active=True)
    assert notify() == 0
    assert states(channel) == [("offline", "given_up")]


# --- reading -------------------------------------------------------------------------------------------


def test_reading_again_adds_nothing(db, time, phone):
    channel_to(phone)
    drops(*[online() for _n in range(3)])
    for _tick in range(3):
        outbox.read(time.now)
    assert Notification.objects.count() == Delivery.objects.count() == 3


def test_a_row_that_is_committed_behind_a_later_one_is_read(db, time, phone):
    """Its id was given before: as of a transaction that took a while."""
    channel_to(phone)
    notify()
    time.goes_on(seconds=55)
    account, other = online(label="Late"), online(label="Early")
    drops(account)
    late = AccountEvent.objects.get()
    AccountEvent.objects.filter(pk=late.pk).delete()
    drops(other)
    notify()
    time.goes_on(seconds=10)
    notify()  # the floor rises
    time.goes_on(seconds=10)
    notify()
    AccountEvent.objects.bulk_create([late])
    notify()
    time.goes_on(minutes=4)
    notify()
    assert sorted(phone.titles) == ["Offline: Early", "Offline: Late"]


def test_what_happened_before_the_first_tick_is_notified_if_it_still_holds(db, time, phone):
    channel_to(phone)
    notify()
    gone, back = online(label="Gone"), online(label="Back")
    drops(gone, back)
    time.goes_on(hours=5)
    comes_back(back)
    time.goes_on(hours=5)
    notify()
    assert phone.titles == ["Offline: Gone"]


def test_at_the_first_reading_old_history_is_not_notified(db, time, phone):
    channel_to(phone)
    drops(online(label="Old"))
    time.goes_on(days=2)
    drops(online(label="New"))
    notify()
    time.goes_on(minutes=4)
    notify()
    assert phone.titles == ["Offline: New"]


# --- what no account is about --------------------------------------------------------------------------


@pytest.mark.slow
def test_refused_wkteam_access_is_notified_once_and_its_end_once(db, time, phone, settings):
    channel_to(phone)
    access = UpstreamAccess.objects.create(base_url=settings.WK_BASE_URL, account=settings.WK_ACCOUNT)
    for _minute in range(5):
        access.refused_at, access.refused_why = time.now, "developer_frozen"
        access.refused_text = "账号冻结"
        access.save()
        notify()
        time.goes_on(minutes=1)
    assert phone.titles == ["WKTeam access denied"]
    assert "账号冻结" in phone.messages[0]["message"]
    assert "contact WKTeam" in phone.messages[0]["message"]
    access.refused_at = None
    access.save()
    for _minute in range(5):
        notify()
        time.goes_on(minutes=1)
    assert phone.titles == ["WKTeam access denied", "WKTeam access restored"]


@pytest.mark.slow
def test_unknown_presence_is_notified_unless_it_is_short(db, time, phone):
    channel_to(phone)
    presence, _new = Presence.objects.get_or_create(pk=Presence.ONLY)
    for minutes in (2, 5):
        presence.unknown_since, presence.unknown_why = time.now, "unreachable"
        presence.save()
        for _minute in range(minutes):
            notify()
            time.goes_on(minutes=1)
        presence.unknown_since = None
        presence.save()
        notify()
    assert phone.titles == [
        "Presence checks are failing",
        "Presence checks work again",
    ]


def test_a_plan_run_is_notified_once(db, time, phone):
    channel_to(phone)
    for _again in range(2):
        dispatch.plan_has_run(7, "Every Monday", {"due": 12, "online": 9, "to_scan": 2, "left": 1})
        notify()
    assert phone.titles == ["Plan “Every Monday” finished"]
    assert "due 12 · online 9 · queued for scan 2 · remaining 1" in phone.messages[0]["message"]


# --- limits --------------------------------------------------------------------------------------------


def test_a_long_message_fits_into_what_the_strictest_service_takes(db, time, phone):
    """WeCom takes 2,048 bytes; what is longer would be cut into several messages, or be refused."""
    channel_to(phone, language="zh-hans")
    drops(*[online(label="七" * 100) for _n in range(40)], kind=DropKind.FIRST_NIGHT)
    notify()
    time.goes_on(minutes=4)
    notify()
    (message,) = phone.messages
    assert len(f"{message['title']}\r\n{message['message']}".encode()) <= 2048
    assert re.search(r"\d+$", message["message"])


@pytest.mark.slow
def test_only_some_channels_are_sent_on_at_the_same_time(db, time, phone):
    """Services that let us wait must not hold up all short tasks."""
    for number in range(5):
        channel_to(phone, f"Channel {number}", debounce_seconds=0)
    drops(online())
    first = dispatch.tick()
    assert len(first) == dispatch.SENDERS
    for channel in first:
        assert dispatch.claim(channel) is not None
    assert dispatch.tick() == []
    time.goes_on(minutes=2)
    for _tick in range(3):
        for channel in dispatch.tick():
            dispatch.send(channel)
    assert len(phone.messages) == 5


def test_a_message_that_cannot_be_rendered_blocks_no_other(db, time, phone):
    channel = channel_to(phone, debounce_seconds=0)
    Notification.objects.create(key="x", kind=NotificationKind.PLAN, facts={"counts": None}, at=time.now)
    Delivery.objects.create(channel=channel, notification=Notification.objects.get(), next_at=time.now)
    drops(online(label="Shop 7"))
    notify()
    notify()
    assert phone.titles == ["Offline: Shop 7"]
    assert Delivery.objects.get(notification__key="x").state == DeliveryState.GIVEN_UP


def test_an_idle_tick_asks_little(db, time, phone, django_assert_max_num_queries):
    channel_to(phone)
    drops(*[online() for _n in range(8)])
    notify()
    time.goes_on(minutes=4)
    notify()
    time.goes_on(minutes=5)
    notify()
    with django_assert_max_num_queries(32):
        dispatch.tick()


# --- the developer account -------------------------------------------------------------------------------


@pytest.fixture
def developer(db, settings):
    """The WKTeam connection of a portal that signs in itself."""
    settings.WK_AUTHORIZATION = ""
    return UpstreamAccess.objects.create(base_url=settings.WK_BASE_URL, account=settings.WK_ACCOUNT)


def told(row, time, **facts):
    UpstreamAccess.objects.filter(pk=row.pk).update(**facts, read_at=time.now)


@pytest.mark.slow
@pytest.mark.usually("sqlite")
def test_the_end_of_the_developer_account_is_notified_14_7_and_1_days_before(developer, time, phone):
    channel_to(phone)
    ends_at = time.now + timedelta(days=16)
    for _day in range(18):
        told(developer, time, ends_at=ends_at)
        notify()
        time.goes_on(minutes=4)
        notify()
        time.goes_on(hours=23, minutes=56)
    titles = [f"Developer account ends in {days}" for days in ("14 days", "7 days", "1 day")]
    assert phone.titles == titles
    assert f"ends on {timezone.localtime(ends_at):%Y-%m-%d}" in phone.messages[0]["message"]


def test_what_was_renewed_within_the_notification_delay_is_not_notified(developer, time, phone):
    channel = channel_to(phone)
    told(developer, time, ends_at=time.now + timedelta(days=3))
    notify()
    time.goes_on(minutes=2)
    told(developer, time, ends_at=time.now + timedelta(days=365))
    notify()
    time.goes_on(hours=1)
    notify()
    assert phone.titles == []
    assert states(channel) == [("limits", "unneeded")]


@pytest.mark.slow
@pytest.mark.usually("sqlite")
def test_seats_that_are_all_taken_are_notified_at_most_once_a_day(developer, time, phone):
    channel_to(phone)
    (first, _second) = online(), online()
    time.now = time.now.replace(hour=1, minute=0)
    for hour in range(0, 40, 4):
        told(developer, time, seats=2)
        notify()
        time.goes_on(minutes=10)
        notify()
        if hour < 30:
            # One is free again for a while: that neither ends nor starts anything worth a message.
            drops(first)
            notify()
            time.goes_on(minutes=1)
            comes_back(first)
        time.goes_on(hours=3, minutes=49)
    assert phone.titles.count("No free seat at WKTeam") == 2
    assert "All 2 seats of the developer account are taken." in phone.messages[0]["message"]


@pytest.mark.slow
def test_seats_that_were_taken_too_shortly_to_be_notified_are_notified_later_that_day(developer, time, phone):
    channel_to(phone, kinds=[NotificationKind.LIMITS])
    (first, _second) = online(), online()
    time.now = time.now.replace(hour=1, minute=0)
    told(developer, time, seats=2)
    notify()
    drops(first)
    notify()
    time.goes_on(minutes=10)
    notify()
    assert phone.titles == []
    comes_back(first)
    for _minute in range(10):
        notify()
        time.goes_on(minutes=1)
    assert phone.titles == ["No free seat at WKTeam"]


def test_only_rules_that_name_it_notify_about_the_developer_account(developer, time, phone):
    channel_to(phone, kinds=[NotificationKind.UPSTREAM])
    told(developer, time, ends_at=time.now + timedelta(days=1))
    notify()
    time.goes_on(hours=1)
    notify()
    assert phone.titles == []


# --- silenced accounts -----------------------------------------------------------------------------------


def test_nobody_is_notified_of_a_silenced_account_until_the_silence_ends(db, time, phone, site):
    channel_to(phone)
    account = online()
    account.silenced_until = time.now + timedelta(hours=1)
    account.save()
    drops(account)
    assert notify() == 0
    time.goes_on(minutes=59)
    assert notify() == 0
    time.goes_on(minutes=2)
    assert notify() == 1


def test_a_silence_that_is_lifted_counts_within_minutes(db, time, phone, site):
    channel_to(phone)
    account = online()
    account.silenced_until = time.now + timedelta(days=3)
    account.save()
    drops(account)
    assert notify() == 0
    Account.objects.update(silenced_until=None)
    time.goes_on(minutes=5)
    assert notify() == 1
