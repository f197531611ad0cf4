from django.core.management.base import BaseCommand

from accounts.maintenance import retention


class Command(BaseCommand):
    help = (
        "Deletes the history that is older than RETENTION_DAYS now, in small batches while the portal runs. The jobs do the "
        "same every hour. It can be interrupted and started again."
    )

    def add_arguments(self, parser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only say how many rows would be deleted")

    def handle(self, *, dry_run: bool, **options) -> None:
        for kind, days, old in retention.old_rows():
            number = old.rows.count() if dry_run else sum(retention.delete(old))
            done = "would be deleted" if dry_run else "deleted"
            self.stdout.write(f"{kind}, {days} days: {number} rows of {old.name} {done}")
