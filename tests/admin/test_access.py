"""Who gets what in Django admin: every model with its pages and actions, for every role. A model without a line fails."""

import re

import pytest
from django.contrib import admin
from django.db import transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import (
    Account,
    AccountEvent,
    Channel,
    Delivery,
    Drop,
    Incident,
    LoginAttempt,
    Notification,
    Plan,
    PlanResult,
    PlanRun,
    RecoveryPolicy,
    Rule,
    Tag,
    UpstreamAccess,
)
from accounts.models.event import record
from accounts.models.plan import Outcome
from accounts.states import EventType, NotificationKind
from tests.support.factories import make_attempt

pytestmark = [pytest.mark.usually("sqlite"), pytest.mark.slow]

# What each may do: view, add, change, delete. Who is not named is let in nowhere.
SEES_HISTORY = {"lead": "v", "auditor": "v", "admin": "v", "superuser": "v"}
SEES_ALL_HISTORY = {"auditor": "v", "admin": "v", "superuser": "v"}
EDITED = {"admin": "vacd", "superuser": "vacd"}
SUPERUSERS = {"superuser": "vacd"}
RIGHTS = {
    "account": {"lead": "vac", "auditor": "v", "admin": "vacd", "superuser": "vacd"},
    "loginattempt": SEES_HISTORY,
    "accountevent": SEES_HISTORY,
    "drop": SEES_HISTORY,
    "incident": SEES_ALL_HISTORY,
    "planrun": SEES_ALL_HISTORY,
    "planresult": SEES_ALL_HISTORY,
    "notification": SEES_ALL_HISTORY,
    "delivery": SEES_ALL_HISTORY,
    "tag": EDITED,
    "plan": EDITED,
    "recoverypolicy": EDITED,
    "channel": EDITED,
    "upstreamaccess": {"admin": "v", "superuser": "v"},
    "user": SUPERUSERS,
    "group": {"superuser": "vac"},  # teams are deleted under People
}
# Besides deleting many, which who may delete may; but accounts go one by one.
OPERATE = {"log_in", "cancel_login", "pause", "resume", "make_due", "clear_due"}
ACTIONS = {
    "account": {"lead": OPERATE, "admin": OPERATE, "superuser": OPERATE},
    "loginattempt": dict.fromkeys(("lead", "admin", "superuser"), {"cancel_login"}),
    "plan": dict.fromkeys(("admin", "superuser"), {"run_now", "enable", "disable"}),
    "channel": dict.fromkeys(("admin", "superuser"), {"enable", "disable"}),
}
# Addresses of a model beside Django's own, and the right that each needs.
MORE = {"accounts_channel_test": "c", "auth_user_password_change": "c"}
EXPORTED = {"loginattempt", "accountevent", "drop"}
WHO = ("anonymous", "nobody", "viewer", "operator", "lead", "auditor", "admin", "superuser")
NAMES = {
    model._meta.model_name: f"{model._meta.app_label}_{model._meta.model_name}"
    for model in admin.site._registry
}
KNOWN_ACTIONS = {
    action[1] for found in admin.site._registry.values() for action in found._get_base_actions() if action
}
OPTION = re.compile(r'<option value="(\w+)">')


def rows_of(people, team) -> dict[str, int]:
    """The key of a row of each model, of this team where rows have one."""
    account = people.account(team=team)
    attempt = make_attempt(account, "failed")
    record(account, EventType.CHANGED, attempt=attempt)
    channel = Channel.objects.create(name=f"Channel {team}", url="json://chat.example.com/")
    told = Notification.objects.create(key=f"{team}", kind=NotificationKind.OFFLINE, account=account)
    rule = Rule.objects.create(channel=channel, kinds=[NotificationKind.OFFLINE])
    plan = Plan.objects.create(name=f"Plan {team}", crontab="0 9 * * *", active=False)
    run = PlanRun.objects.create(plan=plan, plan_name=plan.name, scheduled_at=timezone.now(), due=1)
    made = (
        account, attempt, channel, plan, run, people.mate if team == people.east else people.stranger, team,
        told, AccountEvent.objects.latest("pk"), Tag.objects.create(name=f"Tag {team}"),
        Drop.objects.create(account=account, w_id="old", at=timezone.now(), ended_at=timezone.now()),
        Delivery.objects.create(channel=channel, notification=told, rule=rule),
        Incident.objects.create(at=timezone.now(), last_drop_at=timezone.now()),
        PlanResult.objects.create(run=run, account=account, outcome=Outcome.ONLINE),
        UpstreamAccess.objects.create(base_url="https://wkteam.example", account=f"1380000000{team.pk}"),
    )  # fmt: skip
    keys = {row._meta.concrete_model._meta.model_name: row.pk for row in made}
    return {**keys, "recoverypolicy": RecoveryPolicy.objects.create(name=f"Policy {team}").pk}


def test_every_model_and_address_has_a_line():
    models = {model._meta.model_name: found for model, found in admin.site._registry.items()}
    assert set(models) == set(RIGHTS)
    usual = {"changelist", "add", "history", "delete", "change"}
    names = {pattern.name for found in models.values() for pattern in found.get_urls() if pattern.name}
    exports = {f"accounts_{model}_export" for model in EXPORTED}
    assert {name for name in names if name.split("_", 2)[2] not in usual} == set(MORE) | exports


def client_of(people, who: str) -> Client:
    made = {
        "nobody": lambda: people.person("nobody", "", people.east),
        "lead": lambda: people.person("lead", "lead", people.east),
        "auditor": lambda: people.person("auditor", "auditor"),
        "admin": lambda: people.person("boss", "admin"),
        "superuser": lambda: people.admin,
    }
    return Client() if who == "anonymous" else made.get(who, lambda: getattr(people, who))().client


def asked(client: Client, method: str, name: str, *args) -> str | None:
    """The page, None if the answer is none. Nothing of it stays."""
    with transaction.atomic():
        answer = getattr(client, method)(reverse(f"admin:{name}", args=args))
        transaction.set_rollback(True)
    assert answer.status_code in (200, 302, 403)
    return answer.getvalue().decode() if answer.status_code == 200 else None


def rights_of(client: Client, name: str, key: int) -> tuple[str, set[str]]:
    """What may be done to this row by pages, and the actions of its list."""
    listed, page = (
        asked(client, "get", *where) for where in ((f"{name}_changelist",), (f"{name}_change", key))
    )
    found = "v" if listed and page else ""
    found += "a" if asked(client, "get", f"{name}_add") else ""
    found += "c" if page and 'name="_save"' in page else ""
    found += "d" if asked(client, "get", f"{name}_delete", key) else ""
    for letter, where in (("a", ("add",)), ("c", ("change", key)), ("d", ("delete", key))):
        sent = asked(client, "post", f"{name}_{where[0]}", *where[1:])
        assert letter in found or sent is None, (name, where)
    assert found or asked(client, "get", f"{name}_history", key) is None
    for more, letter in MORE.items():
        if more.startswith(f"{name}_"):
            assert letter in found or asked(client, "get", more, key) is None
    if name.partition("_")[2] in EXPORTED:
        assert bool(found) == (asked(client, "get", f"{name}_export") is not None)
    return found, set(OPTION.findall(listed or "")) & KNOWN_ACTIONS


@pytest.mark.parametrize("who", WHO)
def test_everybody_gets_what_is_theirs(people, plain_refusals, who):
    client = client_of(people, who)
    rows = rows_of(people, people.east)
    wanted, found = {}, {}
    for model in NAMES:
        may, actions = RIGHTS[model].get(who, ""), ACTIONS.get(model, {}).get(who, set())
        deletes = {"delete_selected"} if "d" in may and model != "account" else set()
        wanted[model] = may, actions | deletes
        found[model] = rights_of(client, NAMES[model], rows[model])
    assert found == wanted


def test_a_lead_finds_no_row_of_another_team(people):
    client, theirs = client_of(people, "lead"), rows_of(people, people.west)
    ours = rows_of(people, people.east)
    for model in ("account", "loginattempt", "accountevent", "drop"):
        name = NAMES[model]
        for page in ("change", "history", "delete"):
            assert asked(client, "get", f"{name}_{page}", theirs[model]) is None
            assert asked(client, "post", f"{name}_{page}", theirs[model]) is None
        listed = asked(client, "get", f"{name}_changelist")
        shown = {int(key) for key in re.findall(rf'/{model}/(\d+)/change/"', listed)}
        assert ours[model] in shown and theirs[model] not in shown


def test_a_lead_learns_the_name_of_nobody_whom_no_row_of_the_team_names(people):
    client = client_of(people, "lead")
    ours, theirs = (people.account(team=team) for team in (people.east, people.west))
    make_attempt(theirs, "failed", asked_by=people.stranger, asked_by_name="stranger")
    record(theirs, EventType.CHANGED, by=people.stranger)
    lists = [reverse(f"admin:{NAMES[model]}_changelist") for model in ("loginattempt", "accountevent")]
    for person in (people.stranger, people.person("secretive", "admin")):
        for page in lists:
            answer = client.get(page, {"operator": person.pk}).content.decode()
            assert person.username not in answer and f"#{person.pk}" in answer
    make_attempt(ours, "failed", asked_by=people.stranger, asked_by_name="stranger")
    record(ours, EventType.CHANGED, by=people.stranger)
    for page in lists:
        assert "stranger" in client.get(page, {"operator": people.stranger.pk}).content.decode()


def test_an_auditor_and_a_lead_start_and_cancel_nothing_by_an_action_that_they_do_not_see(people):
    theirs = rows_of(people, people.west)
    for who in ("lead", "auditor"):
        client = client_of(people, who)
        for model, action in (
            ("account", "log_in"),
            ("account", "make_due"),
            ("loginattempt", "cancel_login"),
            ("plan", "run_now"),
        ):
            before = [
                LoginAttempt.objects.count(),
                PlanRun.objects.count(),
                Account.objects.filter(relogin_at=None).count(),
            ]
            sent = {"action": action, "_selected_action": [theirs[model]], "due_at": "2099-01-01T09:00"}
            client.post(reverse(f"admin:{NAMES[model]}_changelist"), sent)
            after = [
                LoginAttempt.objects.count(),
                PlanRun.objects.count(),
                Account.objects.filter(relogin_at=None).count(),
            ]
            assert after == before, (who, action)
