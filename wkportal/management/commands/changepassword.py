from django.contrib.auth import get_user_model
from django.contrib.auth.management.commands import changepassword

from accounts.models.audit import log as audit
from accounts.models.audit.entry import AuditKind


class Command(changepassword.Command):
    """Django's command, with an entry in the audit log."""

    def handle(self, *args, **options) -> str:
        name = options["username"] = options["username"] or changepassword.getpass.getuser()
        said = super().handle(*args, **options)
        audit.record(AuditKind.PASSWORD, about=get_user_model().objects.get_by_natural_key(name))
        return said
