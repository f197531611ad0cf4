"""The file of a backup: a ZIP with the database, as pg_dump or SQLite wrote it, and with a manifest of what that holds.

The manifest is written last, and a ZIP ends with its table of contents: a file that was cut has neither.
"""

import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from zipfile import ZIP_DEFLATED, BadZipFile, ZipFile

from django.core.management.base import CommandError

FORMAT = 1
DATABASE, MANIFEST = "database", "manifest.json"
NAMES = ("format", "version", "engine", "at", "migrations", "rows", "sha256")
CHUNK = 1 << 20
ERRORS = (BadZipFile, EOFError, KeyError, NotImplementedError, TypeError, ValueError, zlib.error)


def write(target: IO[bytes], chunks: Iterable[bytes], facts: dict) -> dict:
    """Write the chunks of a database, and the facts with its checksum. Return the manifest."""
    digest = hashlib.sha256()
    with ZipFile(target, "w", ZIP_DEFLATED, compresslevel=1) as file:
        with file.open(DATABASE, "w", force_zip64=True) as entry:
            for chunk in chunks:
                digest.update(chunk)
                entry.write(chunk)
        manifest = {"format": FORMAT, **facts, "sha256": digest.hexdigest()}
        file.writestr(MANIFEST, json.dumps(manifest, indent=1))
    return manifest


def manifest_of(path: Path) -> dict:
    """Return the manifest of a file whose database has the manifest's checksum. Raises CommandError for any other file."""
    digest = hashlib.sha256()
    try:
        with ZipFile(path) as file:
            found = json.loads(file.read(MANIFEST))
            manifest = {name: found[name] for name in NAMES}
            if manifest["format"] != FORMAT:
                raise CommandError(f"{path} was made by a newer version: its format is {manifest['format']}.")
        with database_in(path) as chunks:
            for chunk in chunks:
                digest.update(chunk)
        whole = digest.hexdigest() == manifest["sha256"]
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror or error}.") from None
    except ERRORS as error:
        raise CommandError(
            f"{path} is no backup, or it was cut or changed ({error}). Nothing was restored."
        ) from None
    if not whole:
        raise CommandError(f"{path} was changed: its checksum is another. Nothing was restored.")
    return manifest


@contextmanager
def database_in(path: Path) -> Iterator[Iterator[bytes]]:
    with ZipFile(path) as file, file.open(DATABASE) as entry:
        yield iter(lambda: entry.read(CHUNK), b"")
