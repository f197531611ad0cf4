"""How long an import of 5,000 accounts takes, all new and then all changed, and an export of them."""

import csv
import re
from collections.abc import Callable
from io import StringIO

from bench import report
from bench.processes import CpuUsage
from bench.services import start_services

parser = report.parser(__doc__, rows=5000)
parser.add_argument("database", choices=["sqlite", "postgres"])
options = parser.parse_args()
services = start_services(options.database)

from django.contrib.auth.models import Group, User
from django.core.files.uploadedfile import SimpleUploadedFile

from accounts.models import RecoveryPolicy
from bench.pages.renderer import client

HEADS = ["label", "place", "wcid", "proxy", "tags", "team", "keep online", "note", "policy", "hours from"]
HEADS += ["hours until", "time zone"]
AIM = 10  # seconds
figures = []


def file_of(rows: int, version: int) -> bytes:
    text = StringIO()
    table = csv.writer(text)
    table.writerow(HEADS)
    for n in range(rows):
        named = [f"门店 {n} 号 v{version}", f"机架 {n // 20} · 卡位 {n % 20 + version}", f"wxid_{n:08}"]
        tags, note = f"tag {n % 30}, 夜班 {n % (7 + version)}", f"note {n}, version {version}"
        table.writerow([*named, n % 5 + 1, tags, "East", "yes", note, "Gentle", "9:00", "21:30", ""])
    return text.getvalue().encode()


def timed(what: str, status: int, send: Callable, *sent) -> str:
    usage = CpuUsage(postgres=services.pids["postgres"])
    answer = send(*sent)
    content = answer.getvalue().decode()
    usage.stop()
    figures.append(report.Figure(f"{what}: s", usage.seconds, aim=AIM))
    figures.append(report.Figure(f"{what}: s of the processor", sum(usage.used.values())))
    assert answer.status_code == status, f"{what}: {answer.status_code}"
    return content


def main() -> None:
    Group.objects.create(name="East"), RecoveryPolicy.objects.create(name="Gentle")
    User.objects.create_superuser("admin")
    admin = client("admin")
    for version, what in enumerate(("all new", "all changed")):
        upload = {"file": SimpleUploadedFile("accounts.csv", file_of(options.rows, version))}
        page = timed(f"dry run, {what}", 200, admin.post, "/accounts/import/", upload)
        columns = {f"column-{n}": re.findall(r'value="(\w+)"\s+selected', page)[n] for n in range(len(HEADS))}
        carried = re.search(r'name="carried" value="([^"]+)"', page)[1]
        sent = columns | {"carried": carried, "start": "1"}
        timed(f"import, {what}", 302, admin.post, "/accounts/import/", sent)
    timed("export", 200, admin.get, "/accounts/export.csv")
    report.finish(figures, options)


main()
