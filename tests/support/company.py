"""A company of forty accounts with a month behind it, and an address for every page that shows it.

For those that look at all pages: one test for what is wrong on any of them, and the screenshots of the docs.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from types import SimpleNamespace

from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.contrib import admin
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils import timezone

from accounts.attention import assignment
from accounts.bulk import runs
from accounts.models import (
    Account,
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
    SecondFactor,
    SignInUnlock,
    Tag,
    UnmanagedAccount,
    UpstreamAccess,
)
from accounts.models.audit import log as audit
from accounts.models.audit import origin
from accounts.models.audit.entry import AuditKind
from accounts.models.audit.origin import Origin, Way
from accounts.models.event import record
from accounts.models.notification import DeliveryState
from accounts.models.operators.bulk_run import BulkAction
from accounts.models.operators.scan_run import ScanSource
from accounts.models.plan import Outcome, PlanMethod
from accounts.scanning import links, queue
from accounts.states import (
    AccountState,
    AttemptState,
    EventType,
    Method,
    NextStep,
    NotificationKind,
    Trigger,
)
from tests.support.factories import PASSWORD, People, make_account, make_attempt

SHOPS = (
    ("门店 1 · 新街口", "新街口百货"), ("门店 2 · 夫子庙", "夫子庙小王"), ("门店 10 · 河西", "河西万达"),
    ("Customer care 1", "Lily"), ("Customer care 2", "Anna"), ("Sales East", "Sales desk"),
)  # fmt: skip
STATES = (AccountState.ONLINE,) * 6 + (AccountState.OFFLINE,) * 3 + (AccountState.NEW,)
ENDINGS = (
    (AttemptState.SUCCEEDED, "", ""), (AttemptState.SUCCEEDED, "", ""), (AttemptState.EXPIRED, "not_scanned", ""),
    (AttemptState.SUCCEEDED, "", ""), (AttemptState.FAILED, "declined", "用户拒绝登录"),
)  # fmt: skip
ACCOUNTS, NEVER_LOGGED_IN = 30, 10
# Of a month: how many logins a day, by weekday, and in which hours accounts drop, on which proxies.
LOGINS_A_DAY = (24, 22, 25, 21, 23, 9, 7)
DROP_HOURS = (3, 9, 10, 10, 10, 11, 11, 14, 16, 19, 20, 22)
DROP_PROXIES = (1, 1, 1, 2, 2, 5)
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)


class Company:
    @origin.bound(Origin(Way.PAGE, "account", "203.0.113.9"))
    def __init__(self, people: People):
        self.people, self.now = people, timezone.now()
        self.tags = [Tag.objects.create(name=name) for name in ("客服", "VIP", "night shift")]
        self.accounts = [self._account(number) for number in range(1, ACCOUNTS + 1)]
        for number in range(ACCOUNTS + 1, ACCOUNTS + NEVER_LOGGED_IN + 1):
            self.accounts.append(self._account(number, AccountState.NEW))
        self._month()
        self._sign_ins()
        self._second_steps()
        offline = [account for account in self.accounts if account.state == AccountState.OFFLINE]
        self.dropped, self.online, self.new = offline[0], self.accounts[0], self.accounts[9]
        self.incident = self._incident(offline)
        self.ended = self._history(self.dropped)
        self.waiting = make_attempt(
            self.new,
            AttemptState.WAITING,
            asked_by=people.operator,
            asked_by_name="operator",
            qr_text="https://example/x",
        )
        UnmanagedAccount.objects.create(wc_id="wxid_unknown01", w_id="w-unknown-1")
        self.bulk = runs.start(
            people.operator,
            BulkAction.TAG,
            {"tags": ["VIP"]},
            Account.objects.filter(pk__lte=self.new.pk),
        )
        chosen = Account.objects.filter(
            pk__in=[account.pk for account in self.accounts if account.state == "new"][1:]
        )
        self.run = queue.start_run(people.operator, ScanSource.NEW, chosen)
        self.link = links.create(offline[-1], DAY, by=people.operator)
        assignment.take_incident(
            self.incident, by=people.operator, note="Asked the shop to charge the phones"
        )
        self._audit()

    def _sign_ins(self) -> None:
        phone = (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) Version/18.1 Mobile/15E148 Safari/604.1"
        )
        seen = {"ip_address": "203.0.113.9", "user_agent": phone}
        for name in ("operator", "mate"):
            AccessLog.objects.create(username=name, **seen)
        for name in ("stranger", "nobody-has-this-name"):
            AccessFailureLog.objects.create(username=name, locked_out=True, **seen)
            AccessAttempt.objects.create(username=name, failures_since_start=5, **seen)
        SignInUnlock.objects.create(
            at=self.now - DAY,
            by=self.people.admin,
            by_name="admin",
            username="mate",
            ip_address="203.0.113.9",
        )

    def _second_steps(self) -> None:
        """The viewer has taken the step, and a mate who gave the password has yet to take it: `halfway`."""
        viewer, mate = self.people.viewer, self.people.mate
        for person in (viewer, mate):
            SecondFactor.objects.create(
                user=person, confirmed=True, key="A" * 32, key_made_at=self.now, recovery_codes=["x"] * 10
            )
        session = viewer.client.session
        session["second_step"] = True
        session.save()
        self.people.halfway = SimpleNamespace(client=Client())
        self.people.halfway.client.post("/login/", {"username": mate.username, "password": PASSWORD})

    def _audit(self) -> None:
        """What people did, on pages and elsewhere. What the stories below do is in the log too."""
        admin, account = self.people.admin, self.accounts[8]
        with origin.bound(Origin(Way.PAGE, "person", "203.0.113.9")):
            audit.record(AuditKind.GROUPS, about=self.people.mate, by=admin, detail="operator, East")
            audit.record(AuditKind.LINK, about=self.people.mate, by=admin)
        with origin.bound(Origin(Way.PAGE, "edit_account", "203.0.113.9")):
            audit.record(
                AuditKind.CHANGED, about=account, by=self.people.operator, detail="label, proxy, own_proxy"
            )
            audit.record(
                AuditKind.EXPORTED, by=admin, name="accounts", detail="group=offline&tag=VIP", number=1234
            )
        with origin.bound(Origin(Way.LINK, "scan_link", "198.51.100.77", link=12)):
            audit.record(AuditKind.CODE_SHOWN, about=account)
        with origin.bound(Origin(Way.COMMAND, "changepassword")):
            audit.record(AuditKind.PASSWORD, about=admin)

    def add_what_only_the_admin_shows(self) -> None:
        # Made by migrate, and gone with the rows of a test before.
        RecoveryPolicy.objects.get_or_create(name="Default", defaults={"is_default": True})
        plan = Plan.objects.create(
            name="Mornings", crontab="0 9 * * *", method=PlanMethod.SCAN, next_at=self.now + DAY
        )
        run = PlanRun.objects.create(plan=plan, plan_name=plan.name, scheduled_at=self.now - DAY, due=2)
        for account, outcome in ((self.dropped, Outcome.DECLINED), (self.online, Outcome.ONLINE)):
            PlanResult.objects.create(run=run, account=account, outcome=outcome, ended_at=self.now)
        channel = Channel.objects.create(name="Night shift", url="json://chat.example.com/")
        rule = Rule.objects.create(channel=channel, kinds=[NotificationKind.OFFLINE])
        for number, (state, error) in enumerate(
            ((DeliveryState.SENT, ""), (DeliveryState.FAILED, "HTTP 500"))
        ):
            told = Notification.objects.create(
                key=f"offline:{number}", kind=NotificationKind.OFFLINE, account=self.dropped
            )
            Delivery.objects.create(
                channel=channel, notification=told, rule=rule, state=state, error=error, tries=1
            )
        UpstreamAccess.objects.get_or_create(
            base_url="https://wkteam.example", account="13800000000", seats=50
        )

    def _account(self, number: int, state: str = "") -> Account:
        label, nickname = SHOPS[number % len(SHOPS)]
        state = state or STATES[(number - 1) % len(STATES)]
        since = self.now - (HOUR if state == AccountState.OFFLINE else number * 7 * HOUR)
        known = state != AccountState.NEW
        account = make_account(
            team=self.people.east, label=f"{label} · {number}", nickname=nickname if known else "", state=state,
            place=f"Rack {1 + number // 12} · Slot {number}" if number % 5 else "", proxy=(1, 2, None)[number % 3],
            wc_id=f"wxid_{number:06}" if known else None, w_id=f"w{number}" if state == AccountState.ONLINE else "",
            state_since=since, last_login_at=self.now - number * 7 * HOUR if known else None,
            last_offline_at=since if state == AccountState.OFFLINE else None,
            first_login_at=self.now - 90 * DAY if known else None, note="Charger is loose" if number % 9 == 0 else "",
        )  # fmt: skip
        account.tags.set(self.tags[: number % 3])
        return account

    def _month(self) -> None:
        """Logins and drops of 30 days, most of which ended well."""
        known = [account for account in self.accounts if account.state == AccountState.ONLINE]
        noon = self.now.replace(hour=4, minute=0)
        logins, drops = [], []
        for day in range(1, 31):
            for number in range(LOGINS_A_DAY[(noon - day * DAY).weekday()]):
                state, reason, words = (
                    ENDINGS[4] if number == day % 7 else ENDINGS[2] if number == day % 5 else ENDINGS[0]
                )
                began, seconds = (
                    noon - day * DAY + number * 23 * MINUTE,
                    150 if reason == "not_scanned" else 8 + (7 * number + day) % 21,
                )
                logins.append(LoginAttempt(
                    account=known[(3 * day + number) % len(known)], state=state, reason=reason, upstream_text=words, seq=0,
                    w_id=f"past-{day}-{number}", created_at=began, sent_at=began, qr_shown_at=began + timedelta(seconds=1),
                    deadline_at=began + timedelta(seconds=150), ended_at=began + timedelta(seconds=seconds),
                    asked_by=self.people.operator, asked_by_name="operator",
                ))  # fmt: skip
            for number in range(1 + day % 3):
                hour, proxy = DROP_HOURS[(5 * day + number) % 12], DROP_PROXIES[(day + number) % 6]
                at = (self.now - day * DAY).replace(hour=hour, minute=7 * number)
                drops.append(Drop(
                    account=known[(2 * day + number) % len(known)], at=at, ended_at=at + (5 + day) * MINUTE, proxy=proxy, w_id="past",
                    ended_by=Method.POPUP if number else Method.QR, online_since=at - (9 + 2 * day) * DAY, reason_text="网络异常，已下线",
                ))  # fmt: skip
        LoginAttempt.objects.bulk_create(logins)
        Drop.objects.bulk_create(drops)

    def _incident(self, offline: list[Account]) -> Incident:
        incident = Incident.objects.create(
            at=self.now - HOUR, last_drop_at=self.now - 50 * MINUTE, shares="proxy", shared="1"
        )
        steps = (NextStep.SCAN, NextStep.BACK_OFF, NextStep.POPUP)
        for number, account in enumerate(offline):
            step = steps[number % len(steps)]
            if step == NextStep.SCAN:
                Account.objects.filter(pk=account.pk).update(queued_for_scan_at=self.now - HOUR)
            Drop.objects.create(
                account=account, incident=incident, w_id=f"old{number}", at=self.now - HOUR, next_step=step, proxy=1,
                online_since=self.now - 3 * DAY, next_at=None if step == NextStep.SCAN else self.now + HOUR,
                reason_text="网络异常，已下线",
            )  # fmt: skip
        for account in self.accounts[:3]:
            Drop.objects.create(
                account=account, incident=incident, w_id="old", at=self.now - HOUR, ended_at=self.now - 20 * MINUTE,
                ended_by=Method.POPUP, online_since=self.now - 9 * DAY, proxy=1,
            )  # fmt: skip
        return incident

    def _history(self, account: Account) -> LoginAttempt:
        """A month of logins of one account; the last has failed."""
        attempt = None
        for number, (state, reason, words) in enumerate(ENDINGS * 2):
            began = self.now - (len(ENDINGS) * 2 - number) * 3 * DAY
            attempt = make_attempt(
                account, state, reason=reason, upstream_text=words, created_at=began, deadline_at=began + 150 * timedelta(seconds=1),
                qr_shown_at=began + timedelta(seconds=1), sent_at=began, ended_at=began + timedelta(seconds=9 + 20 * (number % 4)),
                trigger=Trigger.RECOVERY if number % 3 == 0 else Trigger.OPERATOR, asked_by=self.people.operator, asked_by_name="operator",
            )  # fmt: skip
            for kind, seconds in ((EventType.ATTEMPT_STARTED, 0), (EventType.WAIT_TAKEN, 1)):
                record(
                    account,
                    kind,
                    attempt=attempt,
                    by=self.people.operator,
                    at=began + timedelta(seconds=seconds),
                )
        return attempt


@dataclass(frozen=True)
class PageOf:
    """A page's address in a company, and who opens it: an attribute of `People`, or "" for a visitor."""

    address: Callable[[Company], str]
    who: str = "operator"
    ready: str = ""  # what is there once the page is whole


def at(path: str, who: str = "operator", ready: str = "") -> PageOf:
    """`{…}`: an attribute of the company."""
    return PageOf(lambda company: path.format_map(vars(company)), who, ready)


PAGES = {
    "sign-in": at("/login/", ""),
    "second-step": at("/login/code/", "halfway"),
    "second-step-recovery": at("/login/code/?recovery=1", "halfway"),
    "provider-refused": at("/login/provider/callback/", ""),
    "two-step": at("/me/two-step/"),
    "two-step-on": at("/me/two-step/", "viewer"),
    "overview": at("/"),
    "accounts": at("/accounts/"),
    "accounts-none": at("/accounts/?q=nothing-like-it"),
    "account": at("/accounts/{dropped.pk}/"),
    "account-new": at("/accounts/{new.pk}/"),
    "account-online": at("/accounts/{online.pk}/"),
    "account-add": at("/accounts/new/"),
    "account-edit": at("/accounts/{dropped.pk}/edit/"),
    "account-import": at("/accounts/import/"),
    "account-viewer": at("/accounts/{dropped.pk}/", "viewer"),
    "attempt": at("/attempts/{ended.pk}/"),
    "station": at("/station/"),
    "station-run": at("/station/{run.pk}/", ready=".code img"),
    "wall": at("/wall/{run.pk}/", ready="#tile-7 .code img"),
    "link": at("/accounts/{link.account_id}/link/"),
    "scan-link": at("/scan/{link.token}/", ""),
    "incidents": at("/incidents/"),
    "incident": at("/incidents/{incident.pk}/"),
    "discovered": at("/discovered/", "admin"),
    "bulk-runs": at("/accounts/bulk/"),
    "bulk-run": at("/accounts/bulk/{bulk.pk}/"),
    "archived": at("/accounts/archived/"),
    "me": at("/me/"),
    "people": at("/people/", "admin"),
    "person": at("/people/{people.operator.pk}/", "admin"),
    "person-add": at("/people/new/", "admin"),
    "teams": at("/people/teams/", "admin"),
    "sign-ins": at("/people/sign-ins/", "admin"),
    "team": at("/people/teams/{people.east.pk}/", "admin"),
    "audit": at("/audit/", "admin"),
    "status": at("/status/", "admin"),
    "runbook": at("/status/runbook/", "admin"),
    "not-found": at("/nowhere/"),
}


def admin_pages(user) -> Iterator[str]:
    """The index of Django admin, and of each model what this person may open of it: its list, also searched and filtered,
    its form, and its newest row to change, to delete, and with its history."""
    request = RequestFactory().get("/")
    request.user = user
    yield reverse("admin:index")
    for model, model_admin in admin.site._registry.items():
        name, row = (
            f"admin:{model._meta.app_label}_{model._meta.model_name}",
            model._default_manager.latest("pk"),
        )
        yield reverse(f"{name}_changelist")
        yield f"{reverse(f'{name}_changelist')}?q=%22operator%22"
        yield reverse(f"{name}_change", args=[row.pk])
        yield reverse(f"{name}_history", args=[row.pk])
        if model_admin.has_add_permission(request):
            yield reverse(f"{name}_add")
        if model_admin.has_delete_permission(request, row):
            yield reverse(f"{name}_delete", args=[row.pk])
