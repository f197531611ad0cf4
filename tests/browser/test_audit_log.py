"""The audit log of real processes: what web, a worker and a command write of what people do there."""

from datetime import timedelta

import pytest
import requests

from accounts.models import AuditEntry, BulkRun
from accounts.models.audit.entry import AuditKind
from accounts.models.audit.origin import Way
from accounts.scanning import links
from tests.support.processes import until
from tests.support.stack import Operator, Stack

pytestmark = pytest.mark.live
HERE = "127.0.0.1"


@pytest.fixture(scope="module")
def stack(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock(), Stack("web", "jobs") as running:
        yield running


def entries(**fields) -> list[tuple]:
    found = AuditEntry.objects.filter(**fields).order_by("pk")
    return list(found.values_list("kind", "actor_name", "way", "origin", "address", "link_id"))


def test_of_a_login_a_link_an_export_and_a_job(stack, operator, upstream, live):
    account = live.account()
    attempt = operator.log_in(account)
    for _refresh in range(3):
        assert "data:image" in operator.get(f"/attempts/{attempt.pk}/live/").text
    other = live.account(state="offline")
    token = links.create(other, timedelta(hours=1), by=live.operator).token
    link = other.scan_links.get()
    visitor = requests.Session()
    visitor.get(f"{stack.url}/scan/{token}/")
    form = {"do": "code", "csrfmiddlewaretoken": visitor.cookies.get("wkportal_csrf")}
    assert "data:image" in visitor.post(f"{stack.url}/scan/{token}/do/", data=form).text
    of_link = (Way.LINK, "scan_link_do", HERE, link.pk)
    assert entries(attempt_id=attempt.pk) == [
        (AuditKind.LOGIN_STARTED, "operator", Way.PAGE, "start_login", HERE, None),
        (AuditKind.CODE_SHOWN, "operator", Way.PAGE, "attempt_live", HERE, None),
    ]
    assert entries(account_id=other.pk, way=Way.LINK) == [
        (AuditKind.LINK_OPENED, "", Way.LINK, "scan_link", HERE, link.pk),
        (AuditKind.LOGIN_STARTED, "", *of_link),
        (AuditKind.CODE_SHOWN, "", Way.LINK, "scan_link", HERE, link.pk),
    ]

    # A file is sent after the view has ended, by other threads: the number of its rows comes at its end.
    admin = Operator(stack, live.admin)
    assert admin.get("/audit/export.csv?who=operator").text.count("\r\n") > 2
    until(lambda: AuditEntry.objects.get(kind=AuditKind.EXPORTED).number, "the file has no number of rows")

    operator.post("/accounts/bulk/tag/prepare/", account=account.pk, tags="VIP", start="1")
    until(lambda: BulkRun.objects.filter(ended_at__isnull=False), "the bulk run did not end")
    of_job = entries(kind=AuditKind.CHANGED, account_id=account.pk)
    assert of_job == [(AuditKind.CHANGED, "operator", Way.JOB, "bulk_run", None, None)]
    started = AuditEntry.objects.get(kind=AuditKind.BULK_STARTED)
    changed = AuditEntry.objects.get(kind=AuditKind.CHANGED)
    assert started.request_id == changed.request_id != ""
