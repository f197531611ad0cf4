"""How long an import of 5,000 accounts takes, and an export of them.

    python -m bench.exchange sqlite|postgres [--rows 5000] [--profile]

A file with all columns is read and tried (the dry run), imported, exported, and imported again with other labels,
places, tags and notes. Elapsed seconds, and those of the processor, PostgreSQL's included.
"""

import cProfile
import csv
import os
import re
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib import import_module
from io import StringIO
from pathlib import Path

from bench import report
from bench.pages.__main__ import SETTINGS
from bench.processes import product_env
from bench.services import start_postgres

HEADS = ["label", "place", "wcid", "proxy", "tags", "team", "keep online", "note", "policy", "hours from"]
HEADS += ["hours until", "time zone"]
AIM = 10  # seconds


def file_of(rows: int, version: int) -> bytes:
    text = StringIO()
    csv.writer(text).writerow(HEADS)
    for n in range(rows):
        named = [f"门店 {n} 号 v{version}", f"机架 {n // 20} · 卡位 {n % 20 + version}", f"wxid_{n:08}"]
        tags, note = f"tag {n % 30}, 夜班 {n % (7 + version)}", f"note {n}, version {version}"
        csv.writer(text).writerow(
            [*named, n % 5 + 1, tags, "East", "yes", note, "Gentle", "9:00", "21:30", ""]
        )
    return text.getvalue().encode()


def measure(options) -> list[report.Figure]:
    seconds = import_module("bench.pages.renderer").cpu_seconds  # sets Django up
    from django.contrib.auth.models import Group, User
    from django.core.files.uploadedfile import SimpleUploadedFile
    from django.core.management import call_command
    from django.db import connection
    from django.test import Client

    from accounts.models import RecoveryPolicy

    call_command("migrate", verbosity=0)
    call_command("collectstatic", interactive=False, verbosity=0)
    Group.objects.create(name="East"), RecoveryPolicy.objects.create(name="Gentle")
    client, figures = Client(HTTP_HOST="localhost"), []
    client.force_login(User.objects.create_superuser("admin"), "django.contrib.auth.backends.ModelBackend")

    def timed(what: str, status: int, send: Callable, *sent) -> bytes:
        began, cpu, profile = time.monotonic(), seconds(), cProfile.Profile()
        answer = profile.runcall(send, *sent) if options.profile else send(*sent)
        content = b"".join(answer) if answer.streaming else answer.content
        connection.ensure_connection()  # an export has returned it, and may get another one
        figures.append(report.Figure(f"{what}: s", time.monotonic() - began, aim=AIM))
        if not answer.streaming:
            figures.append(report.Figure(f"{what}: s of the processor", seconds() - cpu))
        if options.profile:
            print(what)
            profile.print_stats("cumulative")
        if answer.status_code != status:
            raise RuntimeError(f"{what}: {answer.status_code}")
        return content

    for version, what in enumerate(("all new", "all changed")):
        upload = {"file": SimpleUploadedFile("accounts.csv", file_of(options.rows, version))}
        page = timed(f"dry run, {what}", 200, client.post, "/accounts/import/", upload).decode()
        columns = {f"column-{n}": re.findall(r'value="(\w+)"\s+selected', page)[n] for n in range(len(HEADS))}
        carried = re.search(r'name="carried" value="([^"]+)"', page)[1]
        sent = columns | {"carried": carried, "start": "1"}
        timed(f"import, {what}", 302, client.post, "/accounts/import/", sent)
    timed("export", 200, client.get, "/accounts/export.csv")
    return figures


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("vendor", choices=["sqlite", "postgres"])
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--profile", action="store_true", help="print a profile of each step")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wkportal-bench-")))
        folder.chmod(0o755)  # run by root, PostgreSQL is another user
        url = f"sqlite:///{folder / 'db.sqlite3'}"
        if options.vendor == "postgres":
            url = stack.enter_context(start_postgres(folder / "pg")).get_uri()
        os.environ |= product_env(DATABASE_URL=url, VAR_DIR=str(folder), **SETTINGS)
        report.finish(measure(options), options)


if __name__ == "__main__":
    main()
