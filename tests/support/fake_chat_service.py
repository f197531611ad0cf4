"""A chat service of the test's own, over real HTTP: it keeps what it is sent, and answers as it is told."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Receiver:
    """Use it as a context. `messages` are the bodies that it took, in their order; `asked` counts all calls.

    `status`, `body` and `location` are its answer; `hold` is an event that it waits for before it answers. With
    `drip` its answer never ends: one byte after the other, while `dripping`.
    """

    def __init__(self):
        self.messages: list[dict] = []
        self.paths: list[str] = []
        self.asked = 0
        self.status, self.body = 200, {}
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
                if receiver.status < 300:
                    receiver.messages.append(json.loads(sent))
                receiver.arrived.set()
                if receiver.hold is not None:
                    receiver.hold.wait(30)
                answer = json.dumps(receiver.body).encode()
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
