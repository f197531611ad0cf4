"""SQLite connections that close their files if they cannot be set up.

Django's database errors keep themselves alive by a reference cycle, and with them a connection that was
opened but not set up. Its files stay open until the garbage collector runs. If file descriptors are scarce,
the next try needs these.
"""

import sqlite3


class Connection(sqlite3.Connection):
    """Close on a failed `execute`. Django calls it on the connection only for setup, else on a cursor."""

    def execute(self, *args, **kwargs) -> sqlite3.Cursor:
        try:
            return super().execute(*args, **kwargs)
        except sqlite3.Error:
            self.close()
            raise
