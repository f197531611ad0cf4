"""Command line: ``python -m simulator --help``."""

import argparse
import asyncio
import contextlib
import errno
import json
import os
import resource
import signal
import sys
from pathlib import Path

from aiohttp import web

from simulator.server import application
from simulator.settings import CHOICES, BadSetting, Settings
from simulator.world import World

EVERYWHERE = ("0.0.0.0", "::", "")


def main() -> int:
    options = arguments().parse_args()
    try:
        settings = Settings().changed(
            {
                "dialect": options.dialect,
                "account": options.account,
                "password": options.password,
                "account_status": options.account_status,
                "public_url": options.public_url,
                "phone_url": options.phone_url,
                "time_factor": options.time_factor,
                "wait_seconds": options.wait_seconds,
                "qr_seconds": options.qr_seconds,
                "limit_answer": options.limit_answer,
                "auto_confirm": options.auto_confirm,
                "auto_jitter": options.jitter,
            }
        )
    except BadSetting as error:
        print(f"simulator: {error}", file=sys.stderr)
        return 2
    more_files()
    return asyncio.run(serve(settings, options))


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m simulator", description="A stand-in for the WKTeam server.")
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 lets real phones in (%(default)s)")
    add("--port", type=int, default=9899, help="0 picks a free one (%(default)s)")
    add("--announce", type=Path, metavar="FILE", help='write {"url", "pid"} there once listening')
    add("--account", default="demo", help="the developer's account (%(default)s)")
    add("--password", default="demo-password", help="its password (%(default)s)")
    add("--account-status", type=int, default=0, choices=(0, 1, 2), help="0 normal, 1 frozen, 2 expired")
    add(
        "--dialect", default="default", choices=CHOICES["dialect"], help="generation of the API (%(default)s)"
    )
    add("--public-url", default="", help="use this instead of the Host header in every address handed out")
    add("--phone-url", default="", help="the same, but only for the pages a phone opens")
    add("--time-factor", type=float, default=1.0, help="scales every wait, 0.01 makes 150 s 1.5 s")
    add("--wait-seconds", type=float, help="step 3's limit (the dialect's: 150 or 250)")
    add("--qr-seconds", type=float, default=300, help="life of an untouched code (%(default)s)")
    add(
        "--limit-answer",
        default="expired",
        choices=CHOICES["limit_answer"],
        help="step 3's answer at its limit",
    )
    add("--auto-confirm", type=float, metavar="SECONDS", help="every code confirms itself after so long")
    add("--jitter", type=float, default=0, metavar="SECONDS", help="up to so much later, at random")
    add("--access-log", action="store_true", help="print every request")
    return parser


def more_files() -> None:
    """Raise the limit of open files to the maximum: 10,000 blocking calls need 10,000 sockets."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def serve(settings: Settings, options: argparse.Namespace) -> int:
    """Listen until SIGINT or SIGTERM; blocking calls are cut then. Return the exit code."""
    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    app = application(World(settings), everywhere=options.host in EVERYWHERE)
    runner = web.AppRunner(
        app,
        handle_signals=False,
        # A wait ends when its caller disconnects, so the counts per wId stay correct.
        handler_cancellation=True,
        **({} if options.access_log else {"access_log": None}),
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, options.host, options.port, backlog=16384).start()
    except OSError as error:
        print(f"simulator: {trouble(error, options)}", file=sys.stderr)
        await runner.cleanup()
        return 1
    announce(runner.addresses[0], options.announce)
    await stop.wait()
    # No runner.cleanup(): it ends the blocked calls one by one. Leaving the loop cancels all of them.
    return 0


def trouble(error: OSError, options: argparse.Namespace) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {options.port} on {options.host} is taken by another program; choose another with --port."
        )
    return f"cannot listen on {options.host}, port {options.port}: {error.strerror or error}."


def announce(address: tuple, file: Path | None) -> None:
    """Print the URL and write the file atomically."""
    host, port = address[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    url = f"http://{host}:{port}"
    print(f"simulator: listening on {url}", flush=True)
    if file is not None:
        part = file.with_name(f"{file.name}.{os.getpid()}")
        part.write_text(json.dumps({"url": url, "pid": os.getpid()}))
        part.replace(file)


if __name__ == "__main__":
    sys.exit(main())
