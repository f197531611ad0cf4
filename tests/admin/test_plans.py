"""Plans in the admin: what can be typed and what is said about it, "Run now", the record, and due times for many."""

from datetime import time, timedelta

import pytest
from django.contrib.auth.models import Group, Permission
from django.utils import timezone

from accounts.models import (
    Account,
    AccountEvent,
    Channel,
    LoginAttempt,
    Plan,
    PlanRun,
    RecoveryPolicy,
    Tag,
    WaitsWorker,
)
from accounts.models.audit.entry import AuditEntry, AuditKind
from accounts.models.plan import Outcome, PlanMethod
from accounts.relogin import plan_choice, plan_runs
from accounts.states import AccountState
from tests.support.factories import make_account, make_attempt

PLANS, RUNS, ENTRIES = "/admin/accounts/plan/", "/admin/accounts/planrun/", "/admin/accounts/planresult/"
ACCOUNTS = "/admin/accounts/account/"


def typed(**changed) -> dict:
    fields = {
        "name": "Mornings", "active": "on", "tags": [], "team": "", "state": "offline", "weekdays": ["5", "1"],
        "at": "09:30", "crontab": "", "time_zone": "Europe/Berlin", "method": "scan", "most_a_run": "20", "most_a_minute": "5",
    }  # fmt: skip
    return {name: value for name, value in (fields | changed).items() if value is not None}


def text(answer) -> str:
    return answer.content.decode()


@pytest.fixture
def admin(people):
    return people.admin.client


def make_plan(**fields) -> Plan:
    return Plan.objects.create(
        **({"name": "Mornings", "crontab": "0 9 * * *", "method": PlanMethod.SCAN} | fields)
    )


def test_a_plan_is_made_in_plain_fields_and_says_when_it_runs_next(admin, people):
    tag = Tag.objects.create(name="vip")
    form = text(admin.get(f"{PLANS}add/"))
    assert "Monday" in form
    assert "30 9 * * 1-5" in form
    answer = admin.post(f"{PLANS}add/", typed(tags=[tag.pk], team=people.east.pk), follow=True)
    plan = Plan.objects.get()
    assert (plan.weekdays, plan.at, plan.expression) == ("1,5", time(9, 30), "30 9 * * 1,5")
    assert list(plan.tags.all()) == [tag]
    berlin = plan.next_at.astimezone(plan.zone)
    assert (berlin.hour, berlin.minute, berlin.isoweekday() in (1, 5)) == (9, 30, True)
    assert f"Next run: {berlin:%Y-%m-%d} 09:30:00 (Europe/Berlin)." in text(answer)
    page = text(admin.get(PLANS))
    assert f"{berlin:%Y-%m-%d} 09:30:00 (Europe/Berlin)" in page
    assert "Offline, East, vip" in page
    assert "Monday, Friday 09:30" in page
    change = text(admin.get(f"{PLANS}{plan.pk}/change/"))
    assert change.count("checked") == 3  # active, Monday, Friday


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"weekdays": [], "at": ""}, "Enter when to run: days of the week and a time, or a cron expression."),
        ({"at": ""}, "Enter when to run: days of the week and a time, or a cron expression."),
        (
            {"crontab": "0 9 * * *"},
            "Enter either a cron expression or days of the week with a time, not both.",
        ),
        ({"weekdays": [], "at": "", "crontab": "0 9 * *"}, "This one has 4."),
        ({"weekdays": [], "at": "", "crontab": "0 99 * * *"}, "is not a valid cron expression"),
        ({"time_zone": "Berlin"}, "Unknown time zone “Berlin”. Use a name such as Asia/Shanghai."),
        ({"most_a_run": "0"}, "greater than or equal to 1"),
        ({"most_a_minute": "9999"}, "less than or equal to 600"),
        ({"weekdays": ["8"]}, "Select a valid choice"),
    ],
)
@pytest.mark.usually("sqlite")
def test_what_cannot_be_is_refused_with_a_sentence(admin, changed, said):
    answer = admin.post(f"{PLANS}add/", typed(**changed))
    assert said in text(answer)
    assert not Plan.objects.exists()


def test_a_plan_is_changed_and_deleted(admin):
    admin.post(f"{PLANS}add/", typed())
    plan = Plan.objects.get()
    admin.post(f"{PLANS}{plan.pk}/change/", typed(weekdays=[], at="", crontab="5 4 * * *", active=None))
    plan.refresh_from_db()
    assert (plan.expression, plan.active, plan.next_at) == ("5 4 * * *", False, None)
    other = make_plan(name="Other")
    admin.post(PLANS, {"action": "delete_selected", "_selected_action": [plan.pk], "post": "yes"})
    assert list(Plan.objects.all()) == [other]
    admin.post(f"{PLANS}{other.pk}/delete/", {"post": "yes"})
    assert not Plan.objects.exists()


@pytest.mark.slow
def test_run_now_and_its_record(admin, people):
    accounts = [
        people.account(label=f"off {n}", wc_id=f"wxid_{n}", state=AccountState.OFFLINE) for n in range(3)
    ]
    plan = make_plan(most_a_run=2)
    answer = admin.post(PLANS, {"action": "run_now", "_selected_action": [plan.pk]}, follow=True)
    assert "Mornings: run started. Accounts to log in: 2." in text(answer)
    again = admin.post(PLANS, {"action": "run_now", "_selected_action": [plan.pk]}, follow=True)
    assert "Mornings: the previous run is still in progress." in text(again)
    plan_runs.tick()
    run = PlanRun.objects.get(skipped=False)
    listed = text(admin.get(RUNS))
    assert "Queued for scan: 2" in listed
    assert "Deferred to the next run: 1" in listed
    page = text(admin.get(f"{RUNS}{run.pk}/change/"))
    for account, outcome in zip(accounts, (Outcome.TO_SCAN, Outcome.TO_SCAN, Outcome.LEFT), strict=True):
        assert f'data-account="{account.pk}" data-outcome="{outcome}"' in page
    rows = text(admin.get(f"{ENTRIES}?run__id__exact={run.pk}&outcome__exact=left"))
    assert "off 2" in rows
    assert "off 1" not in rows
    assert admin.post(f"{RUNS}{run.pk}/change/", {"due": 9}).status_code == 403
    assert admin.get(f"{RUNS}add/").status_code == 403


def test_with_nobody_to_take_it_says_so(admin):
    plan = make_plan()
    answer = admin.post(PLANS, {"action": "run_now", "_selected_action": [plan.pk]}, follow=True)
    assert "Mornings: no accounts to log in right now." in text(answer)


@pytest.mark.slow
@pytest.mark.usually("sqlite")
def test_plans_are_for_those_who_see_all_teams(people):
    staff = people.operator
    staff.is_staff = True
    staff.save()
    named = ["view_plan", "add_plan", "change_plan", "view_planrun", "view_planresult"]
    staff.user_permissions.add(*Permission.objects.filter(codename__in=named))
    for address in (PLANS, f"{PLANS}add/", RUNS, ENTRIES):
        assert staff.client.get(address).status_code == 403
    staff.user_permissions.add(Permission.objects.get(codename="view_every_account"))
    operators = Group.objects.get(role="operator")
    staff.groups.remove(operators)  # with them goes the right to view any account at all
    for address in (PLANS, f"{PLANS}add/", RUNS, ENTRIES):
        assert staff.client.get(address).status_code == 403
    staff.groups.add(operators)
    for address in (PLANS, f"{PLANS}add/", RUNS, ENTRIES):
        assert staff.client.get(address).status_code == 200


def test_many_runs_cost_no_more_queries_than_a_few(admin, django_assert_max_num_queries):
    plan = make_plan(active=False)
    make_account(state=AccountState.OFFLINE, wc_id="wxid_1")
    for minute in range(20):
        run = plan_runs.run(plan, timezone.now() - timedelta(minutes=minute))
        PlanRun.objects.filter(pk=run.pk).update(ended_at=timezone.now())
    with django_assert_max_num_queries(14):
        admin.get(RUNS)


@pytest.mark.slow
def test_a_plan_says_whom_it_would_take_and_its_run_takes_them(admin, people):
    """Each account is there for one reason; what is said before the run is what the run records."""
    now, vip = timezone.now(), Tag.objects.create(name="vip")
    offline = {"state": AccountState.OFFLINE, "last_login_at": now}
    rows = {
        "taken": {}, "no wcId": {"wc_id": None}, "logging in": {}, "listed": {"queued_for_scan_at": now}, "paused 1": {"keep_online": False},
        "paused 2": {"keep_online": False}, "online": {"state": AccountState.ONLINE, "w_id": "w-1", "keep_online": False},
        "archived": {"state": AccountState.ARCHIVED}, "other tag": {}, "late": {"last_login_at": now + timedelta(days=1)},
        "listed later": {"queued_for_scan_at": now + timedelta(days=1)},
    }  # fmt: skip
    accounts = {
        label: people.account(label=label, **{"wc_id": f"wxid_{number}"} | offline | fields)
        for number, (label, fields) in enumerate(rows.items())
    }
    for label, account in accounts.items():
        if label != "other tag":
            account.tags.add(vip)
    people.account(label="merged", merged_into=accounts["taken"], **offline).tags.add(vip)
    make_attempt(accounts["logging in"])
    plan = make_plan(most_a_run=5, method=PlanMethod.POPUP)
    plan.tags.add(vip)
    WaitsWorker.objects.create(name="w", alive_until=now + timedelta(hours=1))
    RecoveryPolicy.objects.update(prompts_a_minute=60)

    page = text(admin.get(f"{PLANS}{plan.pk}/change/"))
    assert f'2: <a href="{ACCOUNTS}{accounts["taken"].pk}/change/">taken</a>, <a' in page
    said = "Archived: 1, In another state: 1, Not kept online: 2"
    for part in (
        said, "Never logged in: scan required: 1", "Login already in progress: 1", "Already in the scan queue: 1",
        "Deferred to the next run: 1",
    ):  # fmt: skip
        assert part in page, part
    assert not LoginAttempt.objects.exclude(account=accounts["logging in"]).exists()

    run = plan_runs.run_now(plan, people.admin)
    assert run.left_out == {"archived": 1, "state": 1, "paused": 2}
    plan_runs.tick()
    outcomes = {entry.account.label: entry.outcome for entry in run.entries.select_related("account")}
    assert outcomes == {
        "taken": Outcome.PROMPTED, "no wcId": Outcome.NO_PROMPT, "logging in": Outcome.BUSY, "late": Outcome.PROMPTED,
        "listed": Outcome.LISTED, "listed later": Outcome.LEFT,
    }  # fmt: skip
    assert said in text(admin.get(RUNS))
    assert said in text(admin.get(f"{RUNS}{run.pk}/change/"))


@pytest.mark.slow
def test_a_plan_of_due_accounts_says_how_many_are_not_due(admin, people):
    now = timezone.now()
    for number, at in enumerate((now - timedelta(hours=1), now + timedelta(hours=1), None)):
        people.account(
            label=f"off {number}", wc_id=f"wxid_{number}", state=AccountState.OFFLINE, relogin_at=at
        )
    plan = make_plan(only_due=True)
    assert plan_choice.choose(plan, now).left_out == {"not_due": 2}
    page = text(admin.get(f"{PLANS}{plan.pk}/change/"))
    assert "Not due: 2" in page
    assert "off 0" in page
    assert "off 1" not in page


def test_a_dry_run_of_many_accounts_needs_no_more_queries(admin, people, django_assert_max_num_queries):
    for number in range(30):
        people.account(wc_id=f"wxid_{number}", state=AccountState.OFFLINE)
    plan = make_plan()
    with django_assert_max_num_queries(25):
        page = text(admin.get(f"{PLANS}{plan.pk}/change/"))
    assert "30: <a" in page
    assert ", …" in page


def test_many_plans_are_enabled_and_disabled(admin):
    plans = [make_plan(name=f"plan {number}") for number in range(2)]
    chosen = {"_selected_action": [plan.pk for plan in plans]}
    assert "2 plans disabled." in text(admin.post(PLANS, {"action": "disable", **chosen}, follow=True))
    assert set(Plan.objects.values_list("active", "next_at")) == {(False, None)}
    plans[0].save()  # enabled again
    assert "1 plan enabled." in text(admin.post(PLANS, {"action": "enable", **chosen}, follow=True))
    assert all(plan.active and plan.next_at for plan in Plan.objects.all())
    audited = AuditEntry.objects.filter(kind=AuditKind.CHANGED, subject="accounts.plan")
    assert audited.count() == 3
    # In Chinese too, it names the field so that each reader's language can.
    in_chinese = {"headers": {"accept-language": "zh-hans"}, "follow": True}
    assert "已停用 2 个" in text(admin.post(PLANS, {"action": "disable", **chosen}, **in_chinese))
    assert set(audited.values_list("detail", flat=True)) == {"enabled"}


def test_many_channels_are_enabled_and_disabled(admin):
    channel = Channel.objects.create(
        name="Night",
        url="json://secret.example.com",
        active=False,
        switched_off_at=timezone.now(),
        failures=9,
    )
    base = "/admin/accounts/channel/"
    chosen = {"_selected_action": [channel.pk]}
    assert "1 channel enabled." in text(admin.post(base, {"action": "enable", **chosen}, follow=True))
    channel.refresh_from_db()
    assert (channel.active, channel.failures, channel.switched_off_at) == (True, 0, None)
    assert "1 channel disabled." in text(admin.post(base, {"action": "disable", **chosen}, follow=True))
    channel.refresh_from_db()
    assert (channel.active, channel.url) == (False, "json://secret.example.com")
    in_chinese = {"headers": {"accept-language": "zh-hans"}}
    admin.post(base, {"action": "enable", **chosen}, **in_chinese)
    audited = AuditEntry.objects.filter(kind=AuditKind.CHANGED, subject="accounts.channel")
    assert list(audited.values_list("detail", flat=True)) == ["enabled"] * 3


@pytest.mark.slow
@pytest.mark.usually("sqlite")
def test_time_zones_are_chosen_from_a_list_and_no_note_compares_clocks(admin, people):
    account = people.account(time_zone="PRC")  # an old name, which the list does not have
    policy = RecoveryPolicy.objects.create(name="Gentle", time_zone="Asia/Tokyo")
    for path, zone in (
        (f"{PLANS}add/", ""),
        ("/admin/accounts/channel/add/", ""),
        (f"/admin/accounts/recoverypolicy/{policy.pk}/change/", "Asia/Tokyo"),
        (f"{ACCOUNTS}{account.pk}/change/", "PRC"),
        (f"/accounts/{account.pk}/edit/", "PRC"),
    ):
        page = text(admin.get(path))
        assert f'<option value="{zone}" selected>' in page, path
        for expected in (
            '<optgroup label="Asia">',
            ">Asia/Shanghai</option>",
            "Site’s time zone (Asia/Shanghai)",
        ):
            assert expected in page, (path, expected)
        assert "DateTimeShortcuts" not in page
        assert "vTimeField" not in page
    sent = typed(time_zone="Asia/Tokyo")
    admin.post(f"{PLANS}add/", sent)
    assert Plan.objects.get().time_zone == "Asia/Tokyo"


# --- many accounts -------------------------------------------------------------------------------------


def test_many_accounts_are_paused_with_a_reason_and_resumed(admin, people):
    accounts = [people.account() for _ in range(3)]
    chosen = {"_selected_action": [account.pk for account in accounts[:2]]}
    assert "Say why" in text(admin.post(ACCOUNTS, {"action": "pause", "reason": " ", **chosen}, follow=True))
    assert not Account.objects.filter(keep_online=False).exists()
    answer = admin.post(ACCOUNTS, {"action": "pause", "reason": "Holidays", **chosen}, follow=True)
    assert "2 accounts paused." in text(answer)
    paused = Account.objects.filter(keep_online=False)
    assert set(paused.values_list("pk", "pause_reason")) == {
        (account.pk, "Holidays") for account in accounts[:2]
    }
    assert "2 accounts resumed." in text(admin.post(ACCOUNTS, {"action": "resume", **chosen}, follow=True))
    assert not Account.objects.filter(keep_online=False).exists()
    assert set(AccountEvent.objects.values_list("happened", "actor__username")) == {
        ("paused", "admin"),
        ("resumed", "admin"),
    }


# --- due times for many --------------------------------------------------------------------------------


def test_a_due_time_is_set_for_many_and_taken_away(admin, people):
    accounts = [people.account() for _ in range(3)]
    chosen = [account.pk for account in accounts[:2]]
    form = {"action": "make_due", "due_at": "2031-05-06T07:08", "_selected_action": chosen}
    answer = admin.post(ACCOUNTS, form, follow=True)
    assert "Re-login scheduled for 2 accounts at" in text(answer)
    due = Account.objects.exclude(relogin_at=None)
    assert {timezone.localtime(account.relogin_at).isoformat()[:16] for account in due} == {
        "2031-05-06T07:08"
    }
    assert set(due.values_list("pk", flat=True)) == set(chosen)
    answer = admin.post(ACCOUNTS, {"action": "clear_due", "_selected_action": chosen}, follow=True)
    assert "Scheduled re-login cancelled for 2 accounts." in text(answer)
    assert not Account.objects.exclude(relogin_at=None).exists()


@pytest.mark.parametrize("due_at", ["", "tomorrow", None])
@pytest.mark.usually("sqlite")
def test_a_time_that_is_none_changes_nothing(admin, people, due_at):
    account = people.account()
    form = {"action": "make_due", "due_at": due_at, "_selected_action": [account.pk]}
    answer = admin.post(ACCOUNTS, {k: v for k, v in form.items() if v is not None}, follow=True)
    assert "Nothing was changed." in text(answer)
    assert not LoginAttempt.objects.exists()
    assert Account.objects.get().relogin_at is None


def test_the_other_actions_need_no_time(admin, people):
    people.account()
    page = text(admin.get(ACCOUNTS))
    assert 'type="datetime-local" name="due_at"' in page
    form = {"action": "cancel_login", "due_at": "", "_selected_action": [Account.objects.get().pk]}
    assert "No logins in progress in your selection." in text(admin.post(ACCOUNTS, form, follow=True))
