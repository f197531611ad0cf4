"""The version before works on this schema: an upgrade replaces one process after the other, and can be taken back.

"The version before" is the newest tag, or while there is none, what stood before the newest migration was added.
"""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.db import connection, migrations, models
from django.db.migrations.loader import MigrationLoader

from accounts.models import AccountEvent
from tests.support import environment
from tests.support.processes import ROOT, Program, port_answers, reserve_port, started
from tests.support.scenarios import ends
from tests.support.stack import LONELY, Operator

# The newest migration of the last version that is installed somewhere: to be raised with each release.
RELEASED = "0021_password_links"
PARTS = ("manage.py", "wkportal", "accounts", "templates", "static", "locale")
# What processes that do not know of it need not notice.
HARMLESS = (
    *(migrations.CreateModel, migrations.AddIndex, migrations.RemoveIndex, migrations.RenameIndex),
    *(migrations.AlterModelOptions, migrations.AlterModelManagers, migrations.RunPython),
)


# --- by the operations of migrations -----------------------------------------------------------------------


def conflicts(operations: list, state) -> list[str]:
    """What may break processes of the version before, or keep them from being started again."""
    found = []
    for operation in operations:
        before = state.clone()
        operation.state_forwards("accounts", state)
        in_database = getattr(operation, "database_operations", [operation])
        if not all(map(is_harmless, in_database)) and not is_state_only(operation, before, state):
            found.append(operation.describe())
    return found


def is_harmless(operation) -> bool:
    """A new column is one if rows that are added without it get a value from the database."""
    if isinstance(operation, migrations.AddField):
        field = operation.field
        return field.many_to_many or ((field.null or field.has_db_default()) and not field.unique)
    return isinstance(operation, HARMLESS)


def is_state_only(operation, before, after) -> bool:
    """Whether a changed field, such as one with more choices, leaves its column as it is."""
    if not isinstance(operation, migrations.AlterField):
        return False
    old, new = (
        state.apps.get_model("accounts", operation.model_name)._meta.get_field(operation.name)
        for state in (before, after)
    )
    return not connection.schema_editor()._field_should_be_altered(old, new)


def test_migrations_since_the_last_release_only_add_what_the_version_before_can_ignore():
    loader = MigrationLoader(None)
    ours = sorted(name for app, name in loader.disk_migrations if app == "accounts")
    assert RELEASED in ours
    found = {
        name: conflicts(
            loader.disk_migrations["accounts", name].operations,
            loader.project_state(("accounts", name), at_end=False),
        )
        for name in ours
        if name > RELEASED
    }
    assert {name: operations for name, operations in found.items() if operations} == {}


def test_what_breaks_the_version_before_is_told_from_what_does_not():
    text = models.CharField(max_length=5)
    breaking = [
        migrations.AddField("tag", "needed", text),
        migrations.RemoveField("account", "note"),
        migrations.RenameField("account", "place", "location"),
        migrations.AlterField("tag", "name", models.CharField(max_length=20, unique=True)),
        migrations.DeleteModel("Avatar"),
        migrations.AddConstraint(
            "tag", models.CheckConstraint(condition=models.Q(id__gt=0), name="positive")
        ),
    ]
    harmless = [
        migrations.AddField("tag", "color", models.CharField(max_length=5, db_default="")),
        migrations.AddField("tag", "shade", models.CharField(max_length=5, null=True)),
        migrations.AlterField("tag", "name", models.CharField("label", max_length=40, unique=True)),
        migrations.CreateModel("Thing", [("id", models.BigAutoField(primary_key=True)), ("name", text)]),
        migrations.SeparateDatabaseAndState(state_operations=[migrations.RemoveField("account", "region")]),
    ]
    loader = MigrationLoader(None)
    for operation in [*breaking, *harmless]:
        found = conflicts([operation], loader.project_state(("accounts", RELEASED)))
        assert bool(found) == (operation in breaking), operation


# --- by a login ---------------------------------------------------------------------------------------------


def git(*words: str) -> str:
    """What git says, "" if it refuses."""
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def commit_before() -> str:
    """Skip the test where it is not known: in a copy without history, or with the newest part of it."""
    newest = max(path.name for path in (ROOT / "accounts" / "migrations").glob("0*.py"))
    tag = git("describe", "--tags", "--abbrev=0", "--match", "v*", "HEAD^")
    added = git("log", "--diff-filter=A", "--format=%H", "-1", "--", f"accounts/migrations/{newest}")
    commit = git("rev-parse", "--verify", "--quiet", f"{tag or f'{added}^' if added else 'HEAD'}^{{commit}}")
    return commit or pytest.skip("the history of this copy has no version before the newest migration")


@pytest.fixture
def before(tmp_path) -> Path:
    """The version before, in a folder of its own."""
    command = ["git", "archive", commit_before(), *PARTS]
    archive = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    subprocess.run(["tar", "-x"], cwd=tmp_path, input=archive.stdout, check=True)
    return tmp_path


@pytest.mark.live
@pytest.mark.slow
def test_the_version_before_logs_in_an_account_on_this_schema(before, live, upstream):
    port = reserve_port()
    folders = {"STATIC_ROOT": str(before / "collected"), "VAR_DIR": str(before / "var")}
    env = {**os.environ, "DATABASE_URL": environment.database_url, **folders}
    collect = [sys.executable, "manage.py", "collectstatic", "--no-input", "-v0"]
    subprocess.run(collect, cwd=before, env=env, check=True)
    worker = ["-m", "celery", "-A", "wkportal", "worker", "-n", "before@test", "-Q", "waits", *LONELY]
    commands = {"web": ["manage.py", "serve", "--port", port], "waits": [*worker, "-P", "gevent", "-c", "50"]}
    web, waits = (
        Program([sys.executable, *command], before, env, name, partial(started, cwd=before))
        for name, command in commands.items()
    )
    with web, waits:
        web.until(lambda: port_answers(port))
        waits.until_said("ready.")
        operator, account = (
            Operator(SimpleNamespace(url=f"http://127.0.0.1:{port}"), live.operator),
            live.account(),
        )
        attempt = operator.log_in(account)
        upstream.wait(wId=attempt.w_id, step3_now=1)
        upstream.phone("confirm", wId=attempt.w_id)
        ends(attempt)
        account.refresh_from_db()
        assert account.state == "online" and account.w_id
        assert AccountEvent.objects.filter(account=account, happened="account_online").exists()
        for page in ("/", "/accounts/", f"/accounts/{account.pk}/", f"/attempts/{attempt.pk}/"):
            assert operator.get(page).status_code == 200
