"""Cells that no spreadsheet runs as a formula, and tables that are sent as CSV while they are read."""

import csv
import re
from collections.abc import AsyncIterator, Iterable, Iterator
from io import StringIO

from asgiref.sync import sync_to_async
from django.http import StreamingHttpResponse
from django.utils import translation

from accounts.lib.db_errors import release_connection
from accounts.lib.rows import in_batches
from accounts.models.audit import log as audit
from accounts.models.audit import origin
from accounts.models.audit.entry import AuditKind

MARK = "'"
# What some spreadsheet runs, also behind blanks and control characters, and in full width. Marks before it are part of
# it, so that `as_written` knows the mark of `harmless` from one that was there.
FORMULA = re.compile(r"'*(?:[\t\r\n]|[\s\x00-\x1f\ufeff]*[=+\-@＝＋－＠])")
ROWS_AT_ONCE = 500


def harmless(cell: str) -> str:
    """Return the cell with a mark before it if a spreadsheet could run it as a formula."""
    return f"{MARK}{cell}" if FORMULA.match(cell) else cell


def as_written(cell: str) -> str:
    """Return what `harmless` was given."""
    rest = cell.removeprefix(MARK)
    return rest if rest != cell and FORMULA.match(rest) else cell


def csv_text(rows: Iterable[Iterable]) -> str:
    written = StringIO()
    csv.writer(written).writerows([harmless(str(cell)) for cell in row] for row in rows)
    return written.getvalue()


class CsvResponse(StreamingHttpResponse):
    """A table as a file, in UTF-8 with a byte order mark, without which Excel misreads Chinese.

    Rows are read in batches while the file is sent, in the language of the request. Between two batches it keeps no
    database connection, however slow the client is. The audit log says who asked for it, with which filters, and how
    many rows were sent. `about`: the account that they are about. `filters`: if they are not in the query string.
    """

    def __init__(self, name: str, rows: Iterable[Iterable], *, about=None, filters: str = ""):
        filters = filters or origin.current().query
        entry = audit.record(AuditKind.EXPORTED, about=about, name=name, detail=filters)
        parts = _parts(audit.counted(entry, rows), translation.get_language())
        super().__init__(parts, content_type="text/csv; charset=utf-8")
        self["Content-Disposition"] = f'attachment; filename="{name}.csv"'

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Read each batch in a thread. Django would read all of them first."""
        parts = iter(self.streaming_content)
        while (part := await sync_to_async(next)(parts, None)) is not None:
            yield part


def _parts(rows: Iterable[Iterable], language: str) -> Iterator[str]:
    batches = in_batches(rows, ROWS_AT_ONCE)
    yield "\ufeff"
    while True:
        with translation.override(language):
            batch = next(batches, None)
            text = csv_text(batch or [])
        release_connection()
        if batch is None:
            return
        yield text
