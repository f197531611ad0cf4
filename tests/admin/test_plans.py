"""Plans in the admin: what can be typed and what is said about it, "Run now", the record, and due times for many."""

from datetime import time, timedelta

import pytest
from django.contrib.auth.models import Group, Permission
from django.utils import timezone

from accounts.models import Account, LoginAttempt, Plan, PlanRun, Tag
from accounts.models.plan import Outcome, PlanMethod
from accounts.relogin import plan_runs
from accounts.states import AccountState
from tests.support.factories import make_account

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
    assert f"Next run: {berlin:%Y-%m-%d} 09:30 (Europe/Berlin)." in text(answer)
    page = text(admin.get(PLANS))
    assert f"{berlin:%Y-%m-%d} 09:30 (Europe/Berlin)" in page
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
