from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError

from accounts.web.people import changes


class Command(BaseCommand):
    help = (
        "Removes the second step of a person's sign-in and ends the person's sessions: for an admin who lost the phone "
        "and the recovery codes while no other admin can do it on the page of that person."
    )

    def add_arguments(self, parser) -> None:
        parser.add_argument("username")

    def handle(self, username: str, **options) -> None:
        person = get_user_model().objects.filter(username=username).first()
        if person is None:
            raise CommandError(f"Nobody has the username {username!r}.")
        if not changes.reset_two_step(person, by=None, detail="manage.py"):
            raise CommandError(f"{username} has not set up two-step sign-in.")
        self.stdout.write(f"{username} signs in with the password alone now, and is signed out everywhere.")
