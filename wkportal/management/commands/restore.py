from pathlib import Path

from django.core.management.base import BaseCommand
from django.db import connection

from wkportal.backup.restore import restore


class Command(BaseCommand):
    help = (
        "Puts a backup in the place of the database, migrated to this version. Stop web, workers and beat before. The "
        "database before is kept under another name; if anything fails, it stays as it is."
    )
    requires_system_checks = []

    def add_arguments(self, parser) -> None:
        parser.add_argument("file", type=Path, help="a file that `manage.py backup` wrote")
        parser.add_argument(
            "--lost-keys",
            action="store_true",
            help="also if some secrets in it cannot be decrypted with the keys here",
        )

    def handle(self, *, file: Path, lost_keys: bool, **options) -> None:
        before = restore(file, lost_keys=lost_keys, say=self.stdout.write)
        self.stdout.write("Restored. Start the portal again.")
        if before:
            thing = "database" if connection.vendor == "postgresql" else "file"
            self.stdout.write(
                f"What was there before is in the {thing} {before}. Delete it once all is well."
            )
