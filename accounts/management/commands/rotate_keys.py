import sys

from django.core.management.base import BaseCommand

from accounts.maintenance import field_keys

SOME_LOST = 3


class Command(BaseCommand):
    help = (
        "Encrypts every secret in the database by the first key of FIELD_KEYS. Run it while the portal runs, once every "
        "process has the new key in front. It can be interrupted and started again. Exit codes: 0: all values have the "
        "first key; 3: some values are encrypted by a key that is missing."
    )

    def handle(self, **options) -> None:
        lost = 0
        for field in field_keys.columns():
            found = field_keys.rotate(field)
            lost += found[field_keys.LOST]
            words = ", ".join(f"{number} {what}" for what, number in found.items()) or "no values"
            self.stdout.write(f"{field}: {words}")
        if lost:
            self.stderr.write(
                "FIELD_KEYS or SECRET_KEY_FALLBACKS lacks the key of those that are lost; they were left as they are."
            )
            sys.exit(SOME_LOST)
        self.stdout.write("Every value has the first key. Older backups still need the other keys.")
