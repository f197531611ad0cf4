"""Who gets what: every address, read and sent to, by everybody. An address without a line fails.

Django admin has its own table in tests/admin/test_access.py.
"""

from collections.abc import Iterable, Iterator
from datetime import timedelta

import pytest
from django.db import transaction
from django.test import Client
from django.urls import get_resolver, reverse
from django.urls.resolvers import URLPattern
from django.utils import timezone

from accounts.bulk import runs
from accounts.models import Account, Drop, Incident, SavedView, UnmanagedAccount
from accounts.models.operators.bulk_run import BulkAction
from accounts.models.operators.scan_run import ScanSource
from accounts.scanning import links, queue
from tests.support.factories import make_attempt

pytestmark = [pytest.mark.usually("sqlite"), pytest.mark.slow]

WHO = ("anonymous", "nobody", "viewer", "operator", "lead", "auditor", "admin", "superuser")
OF_ONE_TEAM = ("viewer", "operator", "lead")
# What names rows of a team in addresses.
OBJECTS = {"account_id", "attempt_id", "incident_id", "person_id", "team_id", "view_id", "run_id"}


def row(*statuses: int) -> dict[str, int]:
    return dict(zip(WHO, statuses, strict=True))


def act(done: int) -> dict[str, int]:
    """What changes something about an account: for those who operate it."""
    return row(302, 404, 403, done, done, 403, done, done)


def made_by_operators(done: int) -> dict[str, int]:
    return row(302, 403, 403, done, done, 403, done, done)


def of_admins(done: int, others: int = 404) -> dict[str, int]:
    return row(302, *[others] * 5, done, done)


def of_managers(done: int) -> dict[str, int]:
    return row(302, 404, 404, 404, done, 404, done, done)


def same(status: int) -> dict[str, int]:
    return dict.fromkeys(WHO, status)


NEVER = same(405)  # this method
SIGNED_IN = row(302, 200, 200, 200, 200, 200, 200, 200)
OWN = row(302, 302, 302, 302, 302, 302, 302, 302)  # saved or refused, for oneself
SEE = row(302, 404, 200, 200, 200, 200, 200, 200)
SOMEBODY_ELSES = row(302, 404, 404, 404, 404, 404, 404, 404)
RUN_OF_A_MATE = row(302, 404, 404, 404, 404, 200, 200, 200)
STATION_OF_A_MATE = row(302, 403, 403, 404, 404, 403, 404, 404)
# name: (what a GET answers, what a POST answers). Actions are sent what DATA has, and say by 404 or 422 that there is
# nothing to do.
MATRIX = {
    "overview": (SIGNED_IN, NEVER),
    "overview_now": (SIGNED_IN, NEVER),
    "overview_charts": (SIGNED_IN, NEVER),
    "report": (SIGNED_IN, NEVER),
    "accounts": (SIGNED_IN, NEVER),
    "account_counts": (SIGNED_IN, NEVER),
    "list_news": (SIGNED_IN, NEVER),
    "archived_accounts": (SIGNED_IN, NEVER),
    "export_accounts": (SIGNED_IN, SIGNED_IN),  # POST: a selection
    "export_list_attempts": (SIGNED_IN, NEVER),
    "export_list_events": (SIGNED_IN, NEVER),
    "save_view": (NEVER, OWN),
    "remove_view": (NEVER, SOMEBODY_ELSES),
    "check_all": (NEVER, row(302, 403, 302, 302, 302, 403, 302, 302)),
    # Accounts.
    "new_account": (
        made_by_operators(200),
        row(302, 403, 403, 422, 422, 403, 302, 302),
    ),  # without a team: admins
    "import_accounts": (made_by_operators(200), made_by_operators(422)),
    "account": (SEE, NEVER),
    "account_row": (SEE, NEVER),
    "account_live": (SEE, NEVER),
    "account_history": (SEE, NEVER),
    "export_attempts": (SEE, NEVER),
    "export_events": (SEE, NEVER),
    "avatar": (row(302, 404, 404, 404, 404, 404, 404, 404), NEVER),  # it has none
    "edit_account": (act(200), row(302, 404, 403, 422, 422, 403, 302, 302)),  # without a team: admins
    "start_login": (NEVER, act(302)),
    "ask_phone": (NEVER, act(404)),  # it never logged in
    "check_account": (NEVER, row(302, 404, 302, 302, 302, 403, 302, 302)),
    "log_out_account": (NEVER, act(404)),  # it is not online
    "keep_online": (NEVER, act(200)),  # asks for a reason
    "take_account": (NEVER, act(302)),
    "release_account": (NEVER, act(302)),
    "silence_account": (NEVER, act(200)),  # asks for how long
    "archive_account": (NEVER, act(200)),  # asks first
    "restore_account": (NEVER, act(404)),  # it is not archived
    "undo_merge_of_account": (NEVER, act(403)),  # it is not merged
    "due": (NEVER, act(302)),
    "account_link": (act(200), act(302)),
    "account_link_live": (act(200), NEVER),
    # Logins.
    "attempt": (SEE, NEVER),
    "attempt_live": (SEE, NEVER),
    "qr_png": (act(200), NEVER),
    "scan_instead": (NEVER, act(404)),  # it is no phone prompt
    "cancel_login": (NEVER, act(302)),
    "take_as_meant": (NEVER, act(404)),  # nobody else scanned
    "submit_code": (NEVER, act(422)),
    # Many at once.
    "bulk_runs": (SIGNED_IN, NEVER),
    "choose_bulk": (NEVER, row(302, 404, 200, 200, 200, 404, 200, 200)),  # auditors do nothing
    "prepare_bulk": (NEVER, made_by_operators(200)),
    "bulk_run": (RUN_OF_A_MATE, NEVER),
    "bulk_run_live": (RUN_OF_A_MATE, NEVER),
    "cancel_bulk_run": (NEVER, row(302, 404, 404, 404, 404, 403, 302, 302)),
    "to_scan": (OWN, NEVER),
    "start_station": (made_by_operators(200), made_by_operators(302)),
    "station": (STATION_OF_A_MATE, NEVER),
    "station_live": (STATION_OF_A_MATE, NEVER),
    "station_queue": (STATION_OF_A_MATE, NEVER),
    "station_do": (NEVER, STATION_OF_A_MATE),
    "wall": (STATION_OF_A_MATE, NEVER),
    "wall_live": (STATION_OF_A_MATE, NEVER),
    "incidents": (SIGNED_IN, NEVER),
    "incident": (SEE, NEVER),
    "recover_incident": (NEVER, act(302)),
    "take_incident": (NEVER, act(302)),
    "release_incident": (NEVER, act(302)),
    "add_incident_note": (NEVER, act(422)),
    "unmanaged": (of_admins(200, 403), NEVER),
    "adopt": (NEVER, of_admins(302, 403)),
    "ignore": (NEVER, of_admins(302, 403)),
    # People.
    "me": (SIGNED_IN, OWN),
    "two_step": (SIGNED_IN, SOMEBODY_ELSES),  # an action that is none
    "notifications": (SIGNED_IN, NEVER),
    "account_notifications": (SIGNED_IN, NEVER),
    "people": (of_managers(200), NEVER),
    "new_person": (of_managers(200), row(302, 404, 404, 404, 422, 404, 200, 200)),  # without a team: admins
    "person": (of_managers(200), of_managers(302)),
    "teams": (of_managers(200), of_admins(302)),
    "team": (of_managers(200), of_admins(302)),
    "delete_team": (NEVER, of_admins(200)),
    "sign_ins": (row(302, 404, 404, 404, 404, 200, 200, 200), row(302, 404, 404, 404, 404, 403, 302, 302)),
    "set_password": (same(200), same(200)),  # the link is none, and says so
    "audit": (row(302, 404, 404, 404, 404, 200, 200, 200), NEVER),
    "export_audit": (row(302, 404, 404, 404, 404, 200, 200, 200), NEVER),
    # The portal.
    "status": (of_admins(200), NEVER),
    "status_now": (of_admins(200), NEVER),
    "runbook": (of_admins(200), NEVER),
    "alarm": (SIGNED_IN, NEVER),
    "waiting": (SIGNED_IN, NEVER),
    "sign_in": ({**OWN, "anonymous": 200}, {**OWN, "anonymous": 200}),
    "second_step": (OWN, OWN),
    # There is no sign-in provider here.
    "provider": (same(404), same(404)),
    "provider_callback": (same(404), same(404)),
    "admin_login": (row(302, 403, 403, 403, 302, 302, 302, 302), row(302, 403, 403, 403, 302, 302, 302, 302)),
    "admin_own_password": (OWN, OWN),  # to the page of one's settings
    "set_language": (OWN, OWN),
    # Who has the secret of the address, signed in or not.
    "scan_link": (same(200), NEVER),
    "scan_link_live": (same(200), NEVER),
    "scan_link_do": (NEVER, same(404)),
    "callback": (same(404), same(404)),
    "healthz": (same(200), NEVER),
    "readyz": (same(200), NEVER),
    "admin_sign_out": (NEVER, OWN),
    "sign_out": (NEVER, OWN),  # the last ones, because the cookie goes
}
ELSEWHERE = {"events": "realtime/test_sse.py"}
DATA = {
    "new_account": {"label": "New"},
    "edit_account": {"label": "New"},
    "account_link": {"do": "create", "hours": 1},
    "start_station": {"source": "new"},
    "me": {"do": "preferences"},
    "new_person": {"username": "new"},
    "person": {"do": "lock"},
    "teams": {"name": "New"},
    "team": {"name": "Renamed"},
    "sign_ins": {"lockout": "x"},
}


def addresses(patterns: Iterable) -> Iterator[tuple[str, frozenset[str]]]:
    """Each name with the parameters of its address."""
    for pattern in patterns:
        if isinstance(pattern, URLPattern):
            yield pattern.name, frozenset(pattern.pattern.converters)
        elif pattern.app_name != "admin":
            yield from addresses(pattern.url_patterns)


ADDRESSES = dict(addresses(get_resolver().url_patterns))


def test_every_address_has_a_line():
    assert set(ADDRESSES) == set(MATRIX) | set(ELSEWHERE)


def things_of(people, team, member) -> dict:
    """What a team has, by the parameters that name it in addresses."""
    account = people.account(team=team)
    offline = people.account(team=team, state="offline", wc_id=f"wxid_{team.pk}")
    incident = Incident.objects.create(at=timezone.now(), last_drop_at=timezone.now())
    Drop.objects.create(account=offline, incident=incident, w_id="old", at=timezone.now())
    these = Account.objects.filter(pk=account.pk)
    return {
        "account_id": account.pk,
        "attempt_id": make_attempt(account, qr_png=b"\x89PNG", qr_text="x").pk,
        "incident_id": incident.pk,
        "person_id": member.pk,
        "team_id": team.pk,
        "view_id": SavedView.objects.create(user=member, name="View").pk,
        "station_run": queue.start_run(member, ScanSource.NEW, these).pk,
        "bulk_run": runs.start(member, BulkAction.TAG, {"tags": ["VIP"]}, these).pk,
        "token": links.create(offline, timedelta(hours=1), by=member).token,
        "unmanaged_id": UnmanagedAccount.objects.create(
            wc_id=f"wxid_other_{team.pk}", w_id=f"w-{team.pk}"
        ).pk,
        "action": "tag",
        "name": "at-risk",
        "secret": "wrong",
        "uidb64": "x",
    }


def status_of(client: Client, method: str, name: str, things: dict) -> int:
    """What the address answers. Nothing of it stays."""
    run = "bulk_run" if "bulk" in name else "station_run"
    args = {part: things[run if part == "run_id" else part] for part in ADDRESSES[name]}
    with transaction.atomic():
        answer = getattr(client, method)(
            reverse(name, kwargs=args), DATA.get(name, {}) if method == "post" else {}
        )
        transaction.set_rollback(True)
    return answer.status_code


def client_of(people, who: str) -> Client:
    made = {
        "nobody": lambda: people.person("nobody", "", people.east),
        "lead": lambda: people.person("lead", "lead", people.east),
        "auditor": lambda: people.person("auditor", "auditor"),
        "admin": lambda: people.person("boss", "admin"),
        "superuser": lambda: people.admin,
    }
    return Client() if who == "anonymous" else made.get(who, lambda: getattr(people, who))().client


@pytest.mark.parametrize("who", WHO)
def test_everybody_gets_what_is_theirs(people, upstream, plain_refusals, who):
    client = client_of(people, who)
    ours = things_of(people, people.east, people.mate)
    wanted, found = {}, {}
    for name, (get, post) in MATRIX.items():
        wanted[name] = get[who], post[who]
        found[name] = tuple(status_of(client, method, name, ours) for method in ("get", "post"))
    assert found == wanted


@pytest.mark.parametrize("who", OF_ONE_TEAM)
def test_nobody_gets_what_another_team_has(people, upstream, plain_refusals, who):
    """It is not found, whatever one may do with the own; who works at no station learns that first."""
    client = client_of(people, who)
    theirs = things_of(people, people.west, people.stranger)
    names = [name for name in MATRIX if ADDRESSES[name] & OBJECTS]
    assert len(names) > 40
    wanted, found = {}, {}
    for name in names:
        wanted[name] = [line[who] if line in (NEVER, STATION_OF_A_MATE) else 404 for line in MATRIX[name]]
        found[name] = [status_of(client, method, name, theirs) for method in ("get", "post")]
    assert found == wanted
