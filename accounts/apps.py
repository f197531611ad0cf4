from importlib import import_module

from django.apps import AppConfig
from django.apps import apps as installed
from django.contrib.auth.management import create_permissions
from django.core import checks
from django.db import connections
from django.db.migrations.recorder import MigrationRecorder
from django.db.models.signals import post_migrate, pre_migrate
from django.dispatch import Signal
from django.utils.translation import gettext_lazy as _


class AccountsConfig(AppConfig):
    name = "accounts"
    verbose_name = _("WeChat accounts")

    def ready(self) -> None:
        checks.register(squashed_migrations_are_complete, checks.Tags.database)
        post_migrate.connect(complete_roles, sender=self)
        pre_migrate.connect(limit_idle_transactions, sender=self)
        post_migrate.connect(limit_idle_transactions, sender=self)


def squashed_migrations_are_complete(databases=None, **_options) -> list[checks.Error]:
    """Refuse a database that has some of the migrations before 0.1.0, which are gone: `migrate` asks this first."""
    squashed = import_module("accounts.migrations.0001_squashed_0010_long_lists").Migration
    errors = []
    for alias in databases or ():
        applied = MigrationRecorder(connections[alias]).applied_migrations()
        known = [name for app, name in squashed.replaces if (app, name) in applied]
        if known and len(known) < len(squashed.replaces):
            sentence = (
                f"The database stands at migration accounts.{known[-1]}, which this version does not know."
            )
            hint = f"Upgrade it with the last version before 0.1.0 first, to accounts.{squashed.replaces[-1][1]}."
            errors.append(checks.Error(sentence, hint=hint, id="accounts.E001"))
    return errors


def complete_roles(sender: AppConfig, using: str, apps=installed, **_options) -> None:
    """Let roles have the permissions that this version gives them, after its migrations. Not after a part of them."""
    try:
        apps.get_model("accounts", "Role")
    except LookupError:
        return
    create_permissions(sender, verbosity=0, using=using, apps=apps)  # Django's own comes later
    import_module("accounts.models.operators.role").complete_roles(using)


def limit_idle_transactions(sender: AppConfig, using: str, signal: Signal, **_options) -> None:
    """Let PostgreSQL end no idle transaction during `migrate`: a migration may compute for long between two statements."""
    if connections[using].vendor == "postgresql":
        value = "0" if signal is pre_migrate else "DEFAULT"
        with connections[using].cursor() as cursor:
            cursor.execute(f"SET idle_in_transaction_session_timeout TO {value}")
