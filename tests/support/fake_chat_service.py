"""A chat service of the test's own, over real HTTP: it keeps what it is sent, and answers as it is told."""

import json
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def certificate_for(hosts: list[str], path: Path) -> ssl.SSLContext:
    """Write a certificate for these hosts, which is its own authority, to `path`; return a server's context with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "chat services of a test")])
    names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def resolves_to(port: int, address: str = "127.0.0.1"):
    """Return a `socket.getaddrinfo` for which every name, with every port, is this port of an address."""

    def getaddrinfo(_host, _port, *_args, **_kwargs):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    return getaddrinfo


class Receiver:
    """Use it as a context. `messages` are the bodies that it took, in their order; `asked` counts all calls.

    `context` makes it speak TLS. `status`, `body` and `location` are its answer; `hold` is an event that it waits for
    before it answers. With `drip` its answer never ends: one byte after the other, while `dripping`.
    """

    def __init__(self, context: ssl.SSLContext | None = None):
        self.context = context
        self.messages: list[dict] = []
        self.paths: list[str] = []
        self.hosts: list[str] = []
        self.asked = 0
        self.status: int = 200
        self.body: dict | bytes = {}
        self.location = ""
        self.hold: threading.Event | None = None
        self.drip = self.dripping = False
        self.over = threading.Event()
        self.arrived = threading.Event()

    def __enter__(self) -> "Receiver":
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                receiver.asked += 1
                receiver.paths.append(self.path)
                receiver.hosts.append(self.headers["Host"])
                if receiver.status < 300:
                    receiver.messages.append(json.loads(sent))
                receiver.arrived.set()
                if receiver.hold is not None:
                    receiver.hold.wait(30)
                answer = (
                    receiver.body if isinstance(receiver.body, bytes) else json.dumps(receiver.body).encode()
                )
                try:
                    self.send_response(receiver.status)
                    if receiver.location:
                        self.send_header("Location", receiver.location)
                    self.send_header("Content-Type", "application/json")
                    if receiver.drip:
                        return self.drip()
                    self.send_header("Content-Length", str(len(answer)))
                    self.end_headers()
                    self.wfile.write(answer)
                except OSError:
                    pass  # who asked was killed, or has given up

            def drip(self):
                self.end_headers()
                receiver.dripping = True
                try:
                    while not receiver.over.wait(0.05):
                        self.wfile.write(b" ")
                finally:
                    receiver.dripping = False

            def log_message(self, *_args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if self.context is not None:
            self.server.socket = self.context.wrap_socket(self.server.socket, server_side=True)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_exc) -> None:
        self.over.set()
        if self.hold is not None:
            self.hold.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    @property
    def port(self) -> int:
        return self.server.server_address[1]

    @property
    def url(self) -> str:
        """Its address as a channel's."""
        return f"json://127.0.0.1:{self.port}/canary-path-of-a-webhook"

    @property
    def titles(self) -> list[str]:
        return [message["title"] for message in self.messages]
