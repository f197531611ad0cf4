"""Small TCP servers for what no decent HTTP server does, and a client of ours to call them with."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from django.conf import settings

from accounts.upstream.client import Client
from accounts.upstream.token_store import KeptTokens
from tests.support.environment import CANARIES

GIVEN = "canary-authorization"
JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@dataclass
class Request:
    path: str
    headers: dict[str, str]
    body: bytes
    head: bytes


@dataclass
class Wire:
    """Plays one connection after the other, each in a thread, and keeps what it was asked.

    `sent`: bytes handed to the kernel by `send`.
    """

    play: Callable[[socket.socket, "Wire"], None]
    connections: int = 0
    sent: int = 0
    requests: list[Request] = field(default_factory=list)
    url: str = ""
    closed: threading.Event = field(default_factory=threading.Event)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def serve(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _peer = listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.one, args=(connection,), daemon=True).start()

    def one(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            self.play(connection, self)

    def send(self, connection: socket.socket, data: bytes) -> None:
        connection.sendall(data)
        self.sent += len(data)

    def ask(self, connection: socket.socket) -> Request | None:
        """The next request on a connection; None when the other side hung up."""
        data = b""
        while b"\r\n\r\n" not in data:
            piece = connection.recv(65536)
            if not piece:
                return None
            data += piece
        head, _empty, body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _colon, value in (line.partition(": ") for line in lines)}
        while len(body) < int(headers.get("content-length", 0)):
            body += connection.recv(65536)
        self.requests.append(Request(first.split()[1], headers, body, head))
        return self.requests[-1]


@contextmanager
def wire(play: Callable[[socket.socket, Wire], None], host: str = "127.0.0.1") -> Iterator[Wire]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family, dualstack_ipv6=host == "::", backlog=512) as listener:
        served = Wire(play, url=f"http://127.0.0.1:{listener.getsockname()[1]}")
        threading.Thread(target=served.serve, args=(listener,), daemon=True).start()
        try:
            yield served
        finally:
            served.closed.set()
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)


def saying(*pieces: bytes) -> Callable[[socket.socket, Wire], None]:
    """Answers every request with these bytes and hangs up."""

    def play(connection: socket.socket, served: Wire) -> None:
        served.ask(connection)
        for piece in pieces:
            connection.sendall(piece)

    return play


def json_answer(body: bytes, more: bytes = b"") -> bytes:
    return JSON + more + b"Content-Length: %d\r\n\r\n" % len(body) + body


def dripping(head: bytes, gap: float = 0.02) -> Callable[[socket.socket, Wire], None]:
    """These bytes at once, then one after the other for as long as somebody listens."""

    def play(connection: socket.socket, served: Wire) -> None:
        served.ask(connection)
        served.send(connection, head)
        while not served.closed.wait(gap):
            served.send(connection, b"x")

    return play


def silent(connection: socket.socket, served: Wire) -> None:
    served.ask(connection)
    served.closed.wait()


def client_of(url: str, given: str = GIVEN, tokens: KeptTokens | None = None, **how) -> Client:
    account = how.pop("account", "canary-developer")
    return Client(
        base_url=url,
        account=account,
        password=how.pop("password", CANARIES["WK_PASSWORD"]),
        tokens=tokens or KeptTokens(url, account, given),
        **{"seconds": 4, "sign_in_words": tuple(settings.WK_SIGN_IN_WORDS)} | how,
    )


def outcome(call: Callable[[], object]) -> object:
    """What a call returned or raised."""
    try:
        return call()
    except Exception as error:
        return error


def self_signed(folder: Path) -> Path:
    """A certificate for 127.0.0.1 with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    signed = made.add_extension(address, False).sign(key, hashes.SHA256())
    file = folder / "certificate.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(private + signed.public_bytes(Encoding.PEM))
    return file


def over_tls(connection: socket.socket, certificate: Path, play: Callable[[ssl.SSLSocket], None]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with context.wrap_socket(connection, server_side=True) as inner:
        play(inner)
