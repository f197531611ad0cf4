"""A SQLite connection whose failures leave no file open, and whose files are readable for their owner only."""

import os
import sqlite3
from contextlib import suppress


class SqliteConnection(sqlite3.Connection):
    """Close on a failed `execute`. Django calls it on the connection only for setup, else on a cursor.

    Django's database errors keep themselves alive by a reference cycle, and with them a connection that was
    opened but not set up. Its files stay open until the garbage collector runs. If file descriptors are
    scarce, the next try needs these.

    A new database file is readable for its owner only, and so are the files that SQLite puts beside it.
    """

    def __init__(self, database: str, *args, **kwargs):
        name = os.fspath(database)
        if not name.startswith((":memory:", "file:")) and not os.path.exists(name):
            with suppress(OSError):  # opening it then fails with SQLite's own error
                # Exclusively: to close a file that a connection of this process has open would drop its locks.
                os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        super().__init__(database, *args, **kwargs)

    def execute(self, *args, **kwargs) -> sqlite3.Cursor:
        try:
            return super().execute(*args, **kwargs)
        except sqlite3.Error:
            self.close()
            raise
