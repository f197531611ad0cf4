"""A disk of a few megabytes, to be filled up; where nobody may mount one, the test is skipped.

with small_disk(folder, 48) as disk:
    disk.fill()
    disk.free()
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


class Disk:
    def __init__(self, folder: Path):
        self.folder = folder
        self.ballast = folder / "ballast"

    def fill(self, *files: Path) -> None:
        """Not a byte is left, nor in the last page of each of these files: they end with empty lines now."""
        for file in (self.ballast, *files):
            with file.open("ab", buffering=0) as written:
                for size in (1 << 20, 1 << 12, 1):
                    with suppress(OSError):
                        while written.write(b"\n" * size) == size:
                            pass

    def free(self) -> None:
        self.ballast.unlink(missing_ok=True)


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Disk]:
    """A file system in memory, mounted at `folder`, which is made for it."""
    folder.mkdir(parents=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "small", str(folder)]
    try:
        mounted = subprocess.run(words, capture_output=True, text=True)
        if mounted.returncode:
            pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    except FileNotFoundError:
        pytest.skip("there is no mount command here")
    try:
        yield Disk(folder)
    finally:
        # Lazily: a process that is on its way out may have a file open.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
