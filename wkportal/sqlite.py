"""Connections to SQLite that keep nothing open when they cannot be set up.

Django's errors of the database hold themselves alive, and with them a connection that was opened but not set up: its
files stay open until Python looks for garbage. Where files are scarce, those are what the next try would need.
"""

import sqlite3


class Connection(sqlite3.Connection):
    """Django calls `execute` of the connection itself only to set it up; everything else goes through a cursor."""

    def execute(self, *args, **kwargs) -> sqlite3.Cursor:
        try:
            return super().execute(*args, **kwargs)
        except sqlite3.Error:
            self.close()
            raise
