"""Django's own command; afterwards the index for searches follows the accounts again."""

from django.core.management.commands import migrate

from accounts import search


class Command(migrate.Command):
    def handle(self, *args, **options) -> None:
        super().handle(*args, **options)
        search.mend()
