"""Telling by real processes: beside each other, killed while they send, and from the beat to the message."""

import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from accounts.lib import db_clock
from accounts.models import Channel, Delivery, Notification, OutboxCursor
from accounts.models.notification import DeliveryState
from accounts.notifications import dispatch
from tests.notifications.test_dispatch import channel_to, comes_back, drops, notify, online, phone
from tests.support import environment
from tests.support.fake_chat_service import Receiver
from tests.support.processes import DEADLINE, until
from tests.support.stack import ROOT, Stack

__all__ = ["phone"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning"),
]


@contextmanager
def process(code):
    """Another process on the test database, that runs this and is gone behind the block."""
    setup = "import django; django.setup(); from accounts.lib import db_clock; from accounts.notifications import dispatch; "
    env = {
        **os.environ,
        "DATABASE_URL": environment.database_url,
        "DJANGO_SETTINGS_MODULE": "wkportal.settings",
    }
    running = subprocess.Popen([sys.executable, "-c", setup + code], cwd=ROOT, env=env)
    try:
        yield running
    finally:
        running.kill()
        running.wait()


def in_minutes(monkeypatch, minutes):
    later = timedelta(minutes=minutes)
    monkeypatch.setattr(db_clock, "now", lambda: timezone.now() + later)


def test_who_is_killed_while_sending_sends_again_with_the_same_number(committed, phone, monkeypatch):
    channel = channel_to(phone, debounce_seconds=0)
    drops(online(label="Shop 7"))
    dispatch.tick()
    phone.hold = threading.Event()
    with process(f"dispatch.send({channel.pk})") as sender:
        assert phone.arrived.wait(DEADLINE), "no message"
        assert dispatch.send(channel.pk) == 0
        sender.send_signal(signal.SIGKILL)
        sender.wait()
    assert Delivery.objects.get().state == DeliveryState.PENDING
    assert Delivery.objects.get().may_have_arrived
    phone.hold.set()
    phone.hold = None
    in_minutes(monkeypatch, 2)
    assert notify() == 1
    first, second = (message["message"].splitlines() for message in phone.messages)
    assert first[-1] == second[-1] == f"Message {Delivery.objects.get().pk}"
    assert Delivery.objects.get().state == DeliveryState.SENT


def test_the_end_is_notified_after_a_message_that_may_have_arrived(committed, phone, monkeypatch):
    channel = channel_to(phone, debounce_seconds=0)
    account = online(label="Shop 7")
    drops(account)
    dispatch.tick()
    phone.hold = threading.Event()
    with process(f"dispatch.send({channel.pk})") as sender:
        assert phone.arrived.wait(DEADLINE), "no message"
        sender.kill()
        sender.wait()
    phone.hold.set()
    phone.hold = None
    comes_back(account)
    in_minutes(monkeypatch, 2)
    notify()
    assert phone.titles == ["Offline: Shop 7", "Back online: Shop 7"]


def test_many_that_read_and_send_at_once_send_each_notification_once(committed, phone):
    """Threads of this process, each with a connection of its own."""
    channel_to(phone, debounce_seconds=0)
    drops(*[online(label=f"Shop {n}") for n in range(5)])
    failed = []

    def run():
        try:
            for _time in range(5):
                notify()
        except Exception as error:
            failed.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    notify()
    assert sorted(phone.titles) == [f"Offline: Shop {n}" for n in range(5)]
    assert Notification.objects.count() == Delivery.objects.count() == 5


@pytest.mark.live
def test_from_beat_to_the_message_without_anybody_asking(live, phone):
    """And no process has logged the address of the channel, at any level."""
    try:
        with Stack("jobs", "beat") as stack, Receiver() as refusing:
            channel_to(phone, debounce_seconds=0)
            refusing.status = 403
            channel_to(refusing, "refusing", debounce_seconds=0)
            account = online(label="Shop 7")
            drops(account)
            until(lambda: phone.titles == ["Offline: Shop 7"], "nobody was notified")
            comes_back(account)
            until(
                lambda: phone.titles == ["Offline: Shop 7", "Back online: Shop 7"],
                "nobody was notified of the end",
            )
            until(lambda: refusing.asked, "the other channel was not asked")
            until(lambda: "403" in stack.log_of("jobs"), "the refusal was not logged")
            assert "canary-path" not in stack.log
    finally:
        for table in (Channel, Notification, OutboxCursor):
            table.objects.all().delete()
