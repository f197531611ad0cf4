"""A small OpenID Connect provider over real HTTP: it checks what it is sent, and lies as it is told."""

import base64
import hashlib
import json
import secrets
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

CLIENT, SECRET = "wkportal", "a-secret-of-the-client-0123456789"


class Provider:
    """`person`: whose claims the next sign-in brings. `lies`: claims that its ID token has instead of the true ones."""

    def __init__(self, tls: ssl.SSLContext | None = None):
        self.person = {"sub": "sub-1", "preferred_username": "Li.Ming", "groups": ["wk-operators"]}
        self.lies: dict = {}
        self.broken: dict[str, int | bytes] = {}  # path: a status, or what is sent
        self.described = {"end_session_endpoint": "/out", "userinfo_endpoint": "/me"}
        self.secret, self.algorithm = SECRET, "ES256"
        self.codes: dict[str, dict] = {}
        self.asked: list[str] = []
        self.rotate()
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):  # noqa: N802
                provider.answer(self, "")

            def do_POST(self):  # noqa: N802
                provider.answer(self, self.rfile.read(int(self.headers["Content-Length"])).decode())

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/realm"
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
            self.url = f"https://localhost:{self.server.server_port}/realm"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def rotate(self) -> None:
        """Sign with another key from now on."""
        self.key, self.kid = ec.generate_private_key(ec.SECP256R1()), secrets.token_hex(4)

    def answer(self, handler: BaseHTTPRequestHandler, body: str) -> None:
        parts = urlsplit(handler.path)
        path = parts.path.removeprefix("/realm")
        self.asked.append(path)
        fields = {name: values[0] for name, values in parse_qs(body or parts.query).items()}
        broken = self.broken.get(path)
        if broken is None:
            status, sent = {
                "/.well-known/openid-configuration": self.describe,
                "/authorize": self.authorize,
                "/token": self.token,
                "/keys": self.keys,
                "/me": lambda _fields: (200, self.person),
                "/out": lambda _fields: (200, {"signed": "out"}),
            }[path](fields)
        else:
            status, sent = (broken, {}) if isinstance(broken, int) else (200, broken)
        content = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
        handler.send_response(status)
        if status == 302:
            handler.send_header("Location", sent["to"])
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    def describe(self, _fields: dict) -> tuple[int, dict]:
        pages = {"authorization_endpoint": "/authorize", "token_endpoint": "/token", "jwks_uri": "/keys"}
        addresses = {name: self.url + path for name, path in (pages | self.described).items()}
        return 200, {"issuer": self.url} | addresses

    def authorize(self, fields: dict) -> tuple[int, dict]:
        """Sign the person in without a question, as a provider does at which the browser is signed in."""
        right = fields["client_id"] == CLIENT and fields["response_type"] == "code"
        if not (right and fields["code_challenge_method"] == "S256" and "openid" in fields["scope"].split()):
            return 400, {"error": "invalid_request"}
        code = secrets.token_urlsafe()
        self.codes[code] = fields
        back = {"code": code, "state": fields["state"]}
        return 302, {"to": f"{fields['redirect_uri']}?{urlencode(back)}"}

    def token(self, fields: dict) -> tuple[int, dict]:
        asked = self.codes.pop(fields["code"], None)
        digest = hashlib.sha256(fields["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        known = (fields["client_id"], fields["client_secret"]) == (CLIENT, self.secret)
        if not (asked and known and challenge == asked["code_challenge"]):
            return 400, {"error": "invalid_grant"}
        if fields["redirect_uri"] != asked["redirect_uri"]:
            return 400, {"error": "invalid_grant"}
        now = int(time.time())
        claims = self.person | {"iss": self.url, "aud": CLIENT, "iat": now, "exp": now + 300}
        claims |= {"nonce": asked["nonce"]} | self.lies
        claims = {name: value for name, value in claims.items() if value is not None}
        key = self.key if self.algorithm == "ES256" else ("" if self.algorithm == "none" else SECRET)
        signed = jwt.encode(claims, key, self.algorithm, headers={"kid": self.kid})
        return 200, {"id_token": signed, "access_token": "a", "token_type": "Bearer"}

    def keys(self, _fields: dict) -> tuple[int, dict]:
        key = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self.key.public_key()))
        return 200, {"keys": [key | {"kid": self.kid, "use": "sig", "alg": "ES256"}]}
