import os
import sys
from datetime import datetime
from errno import EEXIST
from pathlib import Path

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from wkportal.backup import archive
from wkportal.backup.restore import engine

NOT_IN_IT = (
    "Not in it: SECRET_KEY, FIELD_KEYS and the other settings (.env, or secrets.env in VAR_DIR). Keep them as well, in "
    "another place: without FIELD_KEYS the secrets in the backup cannot be decrypted."
)


class Command(BaseCommand):
    help = (
        "Writes the database to one file, while the portal runs: what it held at one moment, with its numbers of rows and a "
        "checksum. `manage.py restore` restores it."
    )
    requires_system_checks = []

    def add_arguments(self, parser) -> None:
        parser.add_argument(
            "file",
            nargs="?",
            help="file to write; - for standard output (default: one in VAR_DIR/backups, named for the time)",
        )

    def handle(self, *, file: str | None, **options) -> None:
        if file == "-":
            with engine().dumped(None) as (facts, chunks):
                archive.write(sys.stdout.buffer, chunks, facts)
            return
        path = (
            Path(file)
            if file
            else settings.VAR_DIR / "backups" / f"wkportal-{datetime.now():%Y%m%d-%H%M%S}.zip"
        )
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            manifest = write(path)
        except OSError as error:
            raise CommandError(f"{path} cannot be written: {error.strerror or error}.") from None
        self.stdout.write(
            f"{path}: {sum(manifest['rows'].values())} rows in {len(manifest['rows'])} tables, "
            f"{path.stat().st_size:,} bytes, SHA-256 of the database {manifest['sha256']}."
        )
        self.stdout.write(NOT_IN_IT)


def write(path: Path) -> dict:
    """Write the file, which has its name only once it is whole. Raises FileExistsError for the name of another one."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as target:
            with engine().dumped(path) as (facts, chunks):
                manifest = archive.write(target, chunks, facts)
            target.flush()
            os.fsync(target.fileno())
        if path.exists():
            raise FileExistsError(EEXIST, "there is one already")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return manifest
