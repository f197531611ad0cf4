"""Connections of a guarded context reach the Internet and nothing else."""

import contextvars
import socket
import threading

import pytest
import requests

from accounts.notifications import egress
from tests.support.fake_chat_service import Receiver


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True), ("2606:4700::1111", True), ("127.0.0.1", False), ("10.1.2.3", False), ("0.0.0.0", False),
        ("169.254.169.254", False), ("100.64.0.1", False), ("224.0.0.1", False), ("::", False), ("::1", False),
        ("fe80::1%eth0", False), ("fd00::1", False), ("::ffff:10.0.0.1", False), ("::ffff:8.8.8.8", True),
        ("64:ff9b::a00:1", False), ("64:ff9b::808:808", True), ("2002:a00:1::", False), ("name", False), ("", False),
    ],
)  # fmt: skip
def test_which_addresses_are_public(address, public):
    assert egress.is_public(address) is public


@pytest.fixture
def service():
    with Receiver() as receiver:
        yield receiver


def address_of(receiver) -> str:
    return f"http://127.0.0.1:{receiver.port}/"


def test_a_private_connection_is_refused_within_the_guard_and_only_there(service):
    with egress.public_only() as guard, pytest.raises(requests.ConnectionError):
        requests.post(address_of(service), json={}, timeout=5)
    assert guard.refused == ["127.0.0.1"]
    assert requests.post(address_of(service), json={}, timeout=5).ok
    assert service.asked == 1


@pytest.mark.parametrize("status", [307, 308])
def test_a_redirect_to_a_private_address_is_not_followed(status, service):
    with Receiver() as inside:
        # 0.0.0.0 is this host too, and 127.0.0.1 counts as one of the Internet here.
        service.status, service.location = status, f"http://0.0.0.0:{inside.port}/latest/meta-data/"
        with egress.public_only() as guard, pytest.raises(requests.ConnectionError):
            guard.allowed = frozenset({"127.0.0.1"})
            requests.post(address_of(service), json={}, timeout=5)
        assert (service.asked, inside.asked) == (1, 0)
        assert guard.refused == ["0.0.0.0"]  # noqa: S104
        assert requests.post(address_of(service), json={}, timeout=5).ok
        assert inside.asked == 1


def test_a_thread_with_a_copy_of_the_context_is_guarded_and_another_is_not(service):
    def post(into: list):
        try:
            into.append(requests.post(address_of(service), json={}, timeout=5).ok)
        except requests.ConnectionError:
            into.append(False)

    inside, outside = [], []
    with egress.public_only():
        copied = threading.Thread(target=contextvars.copy_context().run, args=(post, inside))
        plain = threading.Thread(target=post, args=(outside,))
        for thread in (copied, plain):
            thread.start()
        for thread in (copied, plain):
            thread.join()
    assert (inside, outside) == ([False], [True])


def test_a_local_socket_is_no_way_out(tmp_path):
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(tmp_path / "socket"))
        server.listen()
        with egress.public_only(), pytest.raises(egress.PrivateAddress):
            client.connect(str(tmp_path / "socket"))
