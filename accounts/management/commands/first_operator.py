from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.core.management.base import BaseCommand, CommandError
from django.utils.crypto import get_random_string

from accounts.models.audit import log as audit
from accounts.models.audit.entry import AuditKind
from accounts.roles import RoleCode
from wkportal.env import Env

EASY_TO_TYPE = "abcdefghjkmnpqrstuvwxyz23456789"


class Command(BaseCommand):
    help = (
        "Makes the first operator, who may do everything, unless there is one. Name and password come from "
        "DJANGO_SUPERUSER_USERNAME and DJANGO_SUPERUSER_PASSWORD; a password that is not given is generated and "
        "printed once."
    )

    def handle(self, **options) -> None:
        name, password = first_operator()
        if name is None:
            self.stdout.write("There is an operator already; nothing was changed.")
        elif password is None:
            self.stdout.write(
                f"Made the operator {name} with the password given in DJANGO_SUPERUSER_PASSWORD."
            )
        else:
            self.stdout.write(f"Made the operator {name} with the password {password} (shown only now).")


def first_operator() -> tuple[str | None, str | None]:
    """Create the first operator with all rights, unless one exists.

    Returns (name, password): the password only if it was generated, (None, None) if an operator exists.
    Raises CommandError if a user without all rights has the name.
    """
    users = get_user_model()._default_manager
    if users.filter(is_superuser=True).exists():
        return None, None
    # The names that Django's own createsuperuser reads.
    env = Env()
    name = env("DJANGO_SUPERUSER_USERNAME", cast=str.strip, default="admin")
    given = env.str("DJANGO_SUPERUSER_PASSWORD", default="")
    if users.filter(username=name).exists():
        raise CommandError(
            f"There is no operator with all rights, and {name!r} is the name of a user without them. "
            "Set DJANGO_SUPERUSER_USERNAME to another name."
        )
    generated = None if given else get_random_string(16, EASY_TO_TYPE)
    user = users.create_superuser(name, email="", password=given or generated)
    user.groups.add(*Group.objects.filter(role=RoleCode.OPERATOR))
    audit.record(AuditKind.ADDED, about=user, detail="superuser")
    return name, generated
