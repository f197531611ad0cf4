"""A PostgreSQL connection that gives up a silent server. Not loaded with SQLite: psycopg takes 5 MB in each process."""

from collections.abc import Generator
from time import monotonic
from typing import Any

import psycopg

SILENT_SECONDS = 3
# For the connection that asks about a silent one: to connect, and for its answer.
ASK_SECONDS = 2
AT_WORK = """
    SELECT FROM pg_stat_activity
    WHERE pid = %s AND (state = 'active' OR state_change > clock_timestamp() - make_interval(secs => %s))
"""


class ServerSilent(psycopg.OperationalError):
    """Raised for a statement that gets no answer although the server does not work on it."""


class PostgresConnection(psycopg.Connection):
    """A connection that gives up a statement without an answer, unless the server still works on it.

    A connection can stay open although its server is gone: behind a proxy, or after a failover behind one
    address, TCP notices nothing. After SILENT_SECONDS a second connection asks the server. A slow statement
    goes on. A silent connection is closed, and those in its pool are replaced: they are probably silent too.
    """

    def wait(self, gen: Generator, *args, **kwargs) -> Any:
        try:
            return super().wait(self._watched(gen), *args, **kwargs)
        except ServerSilent:
            pool = getattr(self, "_pool", None)
            self.close()
            if pool is not None:
                pool.drain()
            raise

    def _watched(self, gen: Generator) -> Generator:
        """Pass on what `gen` waits for. psycopg sends 0 several times a second while nothing comes."""
        try:
            waits_for, since = next(gen), monotonic()
            while True:
                ready = yield waits_for
                if ready:
                    since = monotonic()
                elif monotonic() - since > SILENT_SECONDS:
                    if not self._server_is_at_work():
                        raise ServerSilent(f"no answer for {SILENT_SECONDS} seconds")
                    since = monotonic()
                waits_for = gen.send(ready)
        except StopIteration as end:
            return end.value

    def _server_is_at_work(self) -> bool:
        try:
            address = psycopg.conninfo.make_conninfo(
                self.info.dsn, password=self.info.password, connect_timeout=ASK_SECONDS
            )
            with _Asking.connect(address, autocommit=True) as other:
                return other.execute(AT_WORK, [self.info.backend_pid, SILENT_SECONDS / 2]).rowcount == 1
        except psycopg.Error:
            return False


class _Asking(psycopg.Connection):
    def wait(self, gen: Generator, *args, **kwargs) -> Any:
        return super().wait(gen, *args, **{**kwargs, "timeout": ASK_SECONDS})
