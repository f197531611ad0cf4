"""Each address that takes a POST has an entry in the audit log for what it does, or a reason why it needs none."""

import re
from datetime import timedelta

import pytest
from axes.models import AccessAttempt
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import get_resolver, reverse
from django.utils import timezone

from accounts.admin.base import Audited
from accounts.models import (
    Account,
    AuditEntry,
    Channel,
    Drop,
    Incident,
    RecoveryPolicy,
    Rule,
    Tag,
    UnmanagedAccount,
)
from accounts.models.audit.entry import AuditKind
from accounts.models.audit.entry import AuditKind as K
from accounts.models.audit.origin import Way
from accounts.models.event import record
from accounts.reasons import Reason
from accounts.roles import RoleCode
from accounts.scanning import links
from accounts.states import AttemptState, EventType, Method
from tests.support.factories import PASSWORD, make_attempt
from tests.support.scanning import run_of
from tests.support.scanning import shown as shown_item
from tests.web.test_two_step import set_up

OWN = "a setting of one's own, about nobody else"
ASKS = "only asks WKTeam or the person; changes nothing"
NO_ENTRY = {
    "save_view": OWN,
    "remove_view": OWN,
    "set_language": OWN,
    "choose_bulk": ASKS,
    "check_account": ASKS,
    "check_all": ASKS,
    "start_station": "a list of work of one's own; each of its logins and codes has an entry",
    "take_incident": "an incident's notes keep who took it, and when",
    "release_incident": "an incident's notes keep who released it, and when",
    "add_incident_note": "the note itself keeps its author and its time",
    "sign_in": "django-axes keeps each sign-in, refused ones too: the page of sign-ins",
    "second_step": "a part of signing in: django-axes keeps its failures too",
    "provider": "leads to the sign-in provider; what comes back has its entries, and its rows at django-axes",
    "provider_callback": "takes no POST; what it does has its entries, and its rows at django-axes",
    "admin_login": "leads to the page of signing in",
    "admin_own_password": "leads to the page of one's settings",
    "admin_sign_out": "django-axes keeps it beside the sign-in",
    "sign_out": "django-axes keeps it beside the sign-in",
    "callback": "WKTeam itself, which is nobody here; what it leads to is the portal's own doing",
}
PNG = b"\x89PNG"


class World:
    def __init__(self, people, upstream):
        self.people, self.upstream, self.n = people, upstream, 0
        self.operator, self.admin = people.operator.client, people.admin.client

    def account(self, **fields) -> Account:
        self.n += 1
        fields.setdefault("label", f"Shop {self.n}")
        return self.people.account(**fields)

    def offline(self) -> Account:
        account = self.account(state="offline")
        Account.objects.filter(pk=account.pk).update(
            wc_id=f"wxid_{account.pk:08}", last_login_at=timezone.now()
        )
        account.refresh_from_db()
        return account

    def post(self, name: str, *args, data: dict | None = None, client: Client | None = None) -> str:
        answer = (client or self.admin).post(reverse(name, args=args), data or {})
        assert answer.status_code < 400, (name, answer.status_code, answer.content.decode()[-3000:])
        return (
            answer.content.decode() if not answer.streaming else b"".join(answer.streaming_content).decode()
        )

    # --- what each address does; the kind of its entry ---

    def bulk(self, start: bool = True) -> None:
        self.post("prepare_bulk", "tag", data={"account": self.account().pk, "start": "1", "tags": "VIP"})

    def cancel_bulk(self) -> None:
        self.bulk()
        self.post("cancel_bulk_run", self._newest("accounts.bulkrun"))

    def _newest(self, subject: str) -> int:
        return AuditEntry.objects.filter(subject=subject).latest("pk").subject_id

    def import_file(self) -> None:
        file = SimpleUploadedFile("a.csv", b"label,proxy\nImported,None\n")
        page = self.admin.post(reverse("import_accounts"), {"file": file}).content.decode()
        carried = re.search(r'name="carried" value="([^"]+)"', page)[1]
        self.post(
            "import_accounts",
            data={"carried": carried, "start": "1", "column-0": "label", "column-1": "proxy"},
        )

    def edit(self) -> None:
        account = self.account()
        self.post("edit_account", account.pk, data={"label": "Renamed", "proxy": "none", "keep_online": "on"})

    def undo_merge(self) -> None:
        owner, merged = self.offline(), self.account()
        Account.objects.filter(pk=merged.pk).update(merged_into=owner)
        record(merged, EventType.MERGED)
        self.post("undo_merge_of_account", merged.pk)

    def take_as_meant(self) -> None:
        typed = self.account(wc_id=f"hi{self.n}")
        other = self.account(w_id=f"w-other-{self.n}", wechat_id=typed.wc_id)
        attempt = make_attempt(typed, AttemptState.FAILED, reason=Reason.WRONG_ACCOUNT, other_account=other)
        self.post("take_as_meant", attempt.pk)

    def station(self) -> None:
        run = run_of(self.people.operator, [self.account()])
        self.operator.get(reverse("station_live", args=[run.pk]))
        item = shown_item(run)
        type(item.attempt).objects.filter(pk=item.attempt_id).update(state=AttemptState.WAITING)
        self.post("station_do", run.pk, data={"do": "scan", "item": item.pk}, client=self.operator)

    def link(self, client: Client | None = None, **data) -> None:
        account = self.offline()
        self.post("account_link", account.pk, data={"do": "create", "hours": "1"}, client=self.operator)
        self.token = account.scan_links.get().token

    def code(self) -> None:
        attempt = make_attempt(self.account(), AttemptState.CODE_REQUIRED)
        self.post("submit_code", attempt.pk, data={"code": "123456"})

    def scan_instead(self) -> None:
        prompt = make_attempt(self.offline(), AttemptState.PREPARING, method=Method.POPUP)
        self.post("scan_instead", prompt.pk)

    def scan_link(self) -> None:
        link = links.create(self.offline(), timedelta(hours=1), by=self.people.operator)
        self.post("scan_link_do", link.token, data={"do": "code"}, client=Client(REMOTE_ADDR="198.51.100.7"))

    def recover(self) -> None:
        incident = Incident.objects.create(at=timezone.now(), last_drop_at=timezone.now())
        Drop.objects.create(account=self.offline(), incident=incident, w_id="x", at=timezone.now())
        self.post("recover_incident", incident.pk)

    def adopt(self, name: str) -> None:
        found = UnmanagedAccount.objects.create(wc_id=f"wxid_unmanaged_{name}", w_id=f"w-{name}")
        self.post(name, found.pk, data={"label": "Found"})

    def password(self) -> None:
        person = self.people.person("changes-password", RoleCode.OPERATOR, self.people.east)
        data = {"do": "password", "old_password": PASSWORD}
        data |= {"new_password1": "another horse 77", "new_password2": "another horse 77"}
        self.post("me", data=data, client=person.client)

    def lockout(self) -> None:
        AccessAttempt.objects.create(
            username="mate", ip_address="203.0.113.9", failures_since_start=5, user_agent="x"
        )
        page = self.admin.get(reverse("sign_ins")).content.decode()
        self.post("sign_ins", data={"lockout": re.search(r'name="lockout" value="(\w+)"', page)[1]})

    def set_password(self) -> None:
        page = self.post("person", self.people.viewer.pk, data={"do": "link"})
        path = re.search(r'data-copy="http://testserver(/password/[^"]+/)"', page)[1]
        visitor = Client()
        form = visitor.get(path, follow=True)
        data = {"new_password1": "another horse 78", "new_password2": "another horse 78"}
        assert visitor.post(form.request["PATH_INFO"], data).status_code == 302

    def test_channel(self) -> None:
        channel = Channel.objects.create(name="Night", url="json://127.0.0.1:1/")
        self.post("admin:accounts_channel_test", channel.pk)


def on_account(name: str, offline: bool = True, **data):
    return lambda world: world.post(name, (world.offline() if offline else world.account()).pk, data=data)


def online(name: str, **data):
    return lambda world: world.post(
        name, world.account(w_id=f"w-online-{world.n}").pk, data=data, client=world.operator
    )


DOES = {
    "prepare_bulk": (K.BULK_STARTED, World.bulk),
    "cancel_bulk_run": (K.BULK_CANCELLED, World.cancel_bulk),
    "export_accounts": (
        K.EXPORTED,
        lambda world: world.post("export_accounts", data={"account": world.account().pk}),
    ),
    "import_accounts": (K.IMPORTED, World.import_file),
    "new_account": (
        K.ADDED,
        lambda world: world.post("new_account", data={"label": "New", "proxy": "none", "keep_online": "on"}),
    ),
    "edit_account": (K.CHANGED, World.edit),
    "start_login": (K.LOGIN_STARTED, on_account("start_login")),
    "ask_phone": (K.LOGIN_STARTED, on_account("ask_phone")),
    "log_out_account": (K.LOGGED_OUT, online("log_out_account", sure="1")),
    "keep_online": (K.PAUSED, on_account("keep_online", wanted="0", reason="holiday")),
    "take_account": (K.ASSIGNED, on_account("take_account")),
    "release_account": (
        K.RELEASED,
        lambda world: world.post(
            "release_account",
            world.account(assignee=world.people.mate, assigned_at=timezone.now(), state="offline").pk,
        ),
    ),
    "silence_account": (K.SILENCED, on_account("silence_account", hours="4")),
    "archive_account": (K.ARCHIVED, on_account("archive_account", sure="1")),
    "restore_account": (
        K.RESTORED,
        lambda world: world.post("restore_account", world.account(state="archived").pk),
    ),
    "undo_merge_of_account": (K.UNMERGED, World.undo_merge),
    "due": (K.CHANGED, on_account("due", relogin_at="2099-01-01 09:00")),
    "station_do": (K.LOGIN_MOVED, World.station),
    "account_link": (K.LINK_CREATED, World.link),
    "scan_link_do": (K.LOGIN_STARTED, World.scan_link),
    "recover_incident": (K.RECOVERY_ASKED, World.recover),
    "adopt": (K.ADDED, lambda world: world.adopt("adopt")),
    "ignore": (K.IGNORED, lambda world: world.adopt("ignore")),
    "scan_instead": (K.LOGIN_STARTED, World.scan_instead),
    "cancel_login": (
        K.LOGIN_MOVED,
        lambda world: world.post("cancel_login", make_attempt(world.account()).pk),
    ),
    "take_as_meant": (K.MERGED, World.take_as_meant),
    "submit_code": (K.LOGIN_MOVED, World.code),
    "me": (K.PASSWORD, World.password),
    "new_person": (
        K.ADDED,
        lambda world: world.post("new_person", data={"username": "newcomer", "role": RoleCode.VIEWER}),
    ),
    "sign_ins": (K.LOCKOUT_ENDED, World.lockout),
    "person": (
        K.LOCKED,
        lambda world: world.post("person", world.people.mate.pk, data={"do": "lock"}),
    ),
    "teams": (K.ADDED, lambda world: world.post("teams", data={"name": "North"})),
    "team": (
        K.RENAMED,
        lambda world: world.post("team", world.people.west.pk, data={"name": "Far west"}),
    ),
    "delete_team": (
        K.DELETED,
        lambda world: world.post("delete_team", world.people.west.pk, data={"sure": "1"}),
    ),
    "set_password": (K.PASSWORD, World.set_password),
    "two_step": (K.FACTOR_ADDED, lambda world: set_up(world.people.mate)),
}
# The addresses of Django admin beside those of every model, which the next test is about.
IN_ADMIN = {"channel_test": (K.TESTED, World.test_channel)}


def names() -> set[str]:
    """Every address of the product, by the name of its view."""
    found = set()
    for entry in get_resolver().url_patterns:
        parts = getattr(entry, "url_patterns", [entry])
        found |= {part.name for part in parts if getattr(entry, "app_name", "") != "admin"}
    return found


def takes_post(name: str, client: Client) -> bool:
    (pattern,) = get_resolver().reverse_dict.getlist(name)[-1:]
    params = dict.fromkeys(pattern[0][0][1], "1")
    return client.post(reverse(name, kwargs=params)).status_code != 405


@pytest.mark.slow
@pytest.mark.usually("sqlite")
def test_each_address_that_takes_a_post_is_in_one_of_the_tables(people, plain_refusals):
    known = DOES.keys() | NO_ENTRY.keys()
    assert not DOES.keys() & NO_ENTRY.keys()
    # A view that some request ends is asked anew: what it did is undone with this test.
    taking = {name for name in names() if takes_post(name, people.person(f"p-{name}", superuser=True).client)}
    assert taking - known == set(), "add an entry to the audit log, or the reason why none is needed"
    assert known - taking == set(), "no such address"


@pytest.mark.parametrize("name", [*DOES, *IN_ADMIN])
def test_what_an_address_does_has_its_entry(people, upstream, name):
    kind, do = (DOES | IN_ADMIN)[name]
    do(World(people, upstream))
    done = AuditEntry.objects.filter(kind=kind)
    last = done.latest("pk")
    assert bool(last.subject_name) == (kind != K.IMPORTED)
    assert last.way in (Way.LINK if name == "scan_link_do" else Way.PAGE, Way.ADMIN)
    assert last.origin in (name, f"admin:accounts_{name}")
    assert bool(last.actor_name) == (name != "scan_link_do")
    assert last.address == ("198.51.100.7" if name == "scan_link_do" else "127.0.0.1")


def test_what_is_written_in_django_admin_is_audited():
    """Their lists delete many at once: that has one entry for each."""
    for model, model_admin in admin.site._registry.items():
        writes = not type(model_admin).has_change_permission.__qualname__.startswith("ReadOnly")
        assert isinstance(model_admin, Audited) or not writes, model


def in_admin(people, path: str, data: dict) -> None:
    answer = people.admin.client.post(f"/admin/{path}", data)
    assert answer.status_code == 302, answer.content.decode()[-3000:]


def entries(**fields) -> list[tuple[str, str, str]]:
    found = AuditEntry.objects.filter(way=Way.ADMIN, **fields).order_by("pk")
    return [(entry.kind, entry.subject_name, entry.detail) for entry in found]


def test_rows_of_django_admin(people):
    in_admin(people, "accounts/tag/add/", {"name": "VIP"})
    tag = Tag.objects.get()
    in_admin(people, f"accounts/tag/{tag.pk}/change/", {"name": "night"})
    in_admin(
        people,
        "accounts/tag/",
        {"action": "delete_selected", "_selected_action": [tag.pk], "post": "yes"},
    )
    assert entries(subject="accounts.tag") == [
        ("added", "VIP", ""),
        ("changed", "night", "Name"),
        ("deleted", "night", ""),
    ]
    policy = {
        "name": "Gentle",
        "prompts_a_day": 3,
        "prompts_a_minute": 1,
        "pause_minutes": "5",
        "popup": "on",
    }
    in_admin(people, "accounts/recoverypolicy/add/", policy)
    assert entries(subject="accounts.recoverypolicy") == [("added", "Gentle", "")]
    assert RecoveryPolicy.objects.filter(name="Gentle").exists()


def test_an_account_that_is_edited_in_django_admin_has_one_entry(people):
    account = people.account(label="Shop 1")
    in_admin(
        people,
        f"accounts/account/{account.pk}/change/",
        {"label": "Shop 2", "proxy": "none", "keep_online": "on", "relogin_at_0": "", "relogin_at_1": ""},
    )
    kinds = [kind for kind, _name, _detail in entries(account_id=account.pk)]
    assert kinds == ["changed"]
    in_admin(people, f"accounts/account/{account.pk}/delete/", {"post": "yes"})
    assert entries(account_id=account.pk)[-1] == ("deleted", f"#{account.pk}", "")


def test_people_in_django_admin(people):
    mate = people.mate
    form = {"username": "mate", "last_login_0": "", "is_active": "on"}
    form["groups"] = [Group.objects.get(role=RoleCode.VIEWER).pk, people.west.pk]
    in_admin(people, f"auth/user/{mate.pk}/change/", form)
    password = {"password1": "another horse 79", "password2": "another horse 79", "usable_password": "true"}
    in_admin(people, f"auth/user/{mate.pk}/password/", password)
    assert entries(subject_id=mate.pk, subject="auth.user") == [
        ("groups", "mate", "Viewers, West"),
        ("changed", "mate", "Groups"),
        ("password", "mate", "password"),
    ]
    everything = " ".join(str(list(row.values())) for row in AuditEntry.objects.values())
    assert "another horse" not in everything


def test_django_admin_has_no_page_of_its_own_for_the_own_password(people):
    typed = {
        "old_password": PASSWORD,
        "new_password1": "another horse 79",
        "new_password2": "another horse 79",
    }
    answer = people.admin.client.post("/admin/password_change/", typed)
    assert answer.headers["Location"] == "/me/"
    people.admin.refresh_from_db()
    assert people.admin.check_password(PASSWORD)
    assert 'href="/admin/password_change/"' in people.admin.client.get("/admin/").content.decode()


def test_no_secret_is_in_the_log(people, upstream):
    """Those that people type: a proxy's password, a channel's address, a verification code; and a link's token."""
    world = World(people, upstream)
    account = world.account()
    form = {"label": "Shop", "proxy": "none", "keep_online": "on"}
    proxy = {"own_proxy": "127.0.0.1:1", "own_proxy_user": "canary-user", "own_proxy_password": "canary-word"}
    world.post("edit_account", account.pk, data=form | proxy | {"own_proxy_unchecked": "on"})
    channel = {
        "name": "Night",
        "address": "json://canary-host/canary-path",
        "secret": "",
        "language": "en",
        "active": "on",
    }
    rules = {
        f"rules-{name}": number
        for name, number in (
            ("TOTAL_FORMS", 1),
            ("INITIAL_FORMS", 0),
            ("MIN_NUM_FORMS", 0),
            ("MAX_NUM_FORMS", 9),
        )
    }
    rule = {"rules-0-kinds": "offline", "rules-0-debounce_seconds": 60, "rules-0-digest_minutes": 0}
    in_admin(people, "accounts/channel/add/", channel | rules | rule)
    row = Channel.objects.get()
    changed = {
        "rules-TOTAL_FORMS": 1,
        "rules-INITIAL_FORMS": 1,
        "rules-0-id": Rule.objects.get().pk,
        "rules-0-channel": row.pk,
    }
    in_admin(
        people,
        f"accounts/channel/{row.pk}/change/",
        channel
        | rules
        | rule
        | changed
        | {"address": "json://canary-other/", "name": "Day", "rules-0-digest_minutes": 5},
    )
    attempt = make_attempt(world.account(), AttemptState.CODE_REQUIRED)
    world.post("submit_code", attempt.pk, data={"code": "7777777"})
    world.scan_link()
    world.link()
    world.password()
    world.set_password()
    tokens = [value for value in (world.token,) if value]
    everything = " ".join(str(list(row.values())) for row in AuditEntry.objects.values())
    assert AuditEntry.objects.count() > 8
    for secret in ("canary", "7777777", "another horse", *tokens):
        assert secret not in everything, secret
    assert [detail for _kind, _name, detail in entries(subject="accounts.channel")][
        -1
    ] == "Name, Address, rule: changed"
    assert get_user_model().objects.count() and AuditKind.LINK_CREATED in everything
