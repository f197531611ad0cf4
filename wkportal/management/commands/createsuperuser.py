from django.contrib.auth import get_user_model
from django.contrib.auth.management.commands import createsuperuser

from accounts.models.audit import log as audit
from accounts.models.audit.entry import AuditKind


class Command(createsuperuser.Command):
    """Django's command, with an entry in the audit log."""

    def handle(self, *args, **options) -> None:
        people = get_user_model().objects
        newest = people.order_by("-pk").values_list("pk", flat=True).first() or 0
        super().handle(*args, **options)
        for person in people.filter(pk__gt=newest, is_superuser=True):
            audit.record(AuditKind.ADDED, about=person, detail="superuser")
