"""An uploaded CSV or XLSX file as a table of text, within limits. Nothing is kept on disk."""

import codecs
import csv
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from io import StringIO

from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.utils.translation import gettext as _

from accounts.web.exchange.cells import as_written
from accounts.web.exchange.files.limits import (
    CELL_MOST,
    CHARACTERS_MOST,
    COLUMNS_MOST,
    FILE_MOST,
    ROWS_MOST,
    too_large,
    too_many_columns,
    too_many_rows,
)

DELIMITERS = ",;\t"
NO_TEXT = dict.fromkeys([*range(9), *range(14, 32)])  # control characters that no text file has


@dataclass(frozen=True)
class Table:
    """`rows`: {number of the row as spreadsheets show it: its cells, as many as there are heads}.

    A row that has more in the file has one more here, the first of those.
    """

    heads: list[str]
    rows: dict[int, list[str]]


def table_of(file: UploadedFile) -> Table:
    """Read a file. Raises ValidationError for one that is no table within the limits."""
    if file.size > FILE_MOST:
        raise too_large()
    data = file.read()
    if not data.strip():
        raise ValidationError(_("The file is empty."))
    rows = _bounded(_xlsx(data) if data.startswith(b"PK\x03\x04") else _csv(data))
    heads = [head.strip() for head in next(rows, [])]
    while heads and not heads[-1]:
        heads = heads[:-1]
    if not heads:
        raise ValidationError(_("The first row of the file has no column names."))
    if len(heads) > COLUMNS_MOST:
        raise too_many_columns()
    table = Table(heads, {})
    for number, row in enumerate(rows, start=2):
        cells = list(map(as_written, row))
        if not "".join(cells).strip():
            continue
        if len(table.rows) == ROWS_MOST:
            raise too_many_rows()
        if max(map(len, cells)) > CELL_MOST:
            raise ValidationError(
                _("Row %(row)s has a cell with more than %(length)s characters.")
                % {"row": number, "length": CELL_MOST}
            )
        surplus = [cell for cell in cells[len(heads) :] if cell.strip()]
        cells += [""] * (len(heads) - len(cells))
        table.rows[number] = cells[: len(heads)] + surplus[:1]
    if not table.rows:
        raise ValidationError(_("The file has column names but no rows."))
    return table


def _bounded(rows: Iterator[list[str]]) -> Iterator[list[str]]:
    """Yield the rows. Raises ValidationError as soon as their cells have too many characters."""
    left = CHARACTERS_MOST
    for row in rows:
        left -= sum(map(len, row))
        if left < 0:
            raise too_large()
        yield row


# --- CSV --------------------------------------------------------------------------------------------------


def _xlsx(data: bytes) -> Iterator[list[str]]:
    # Loaded with the first such file: it needs 5 MB, and is in the imports of every process.
    return import_module("accounts.web.exchange.files.xlsx").sheet_rows(data)


def _csv(data: bytes) -> Iterator[list[str]]:
    text = _decoded(data)
    reader = csv.reader(StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
    try:
        yield from reader
    except csv.Error:
        raise ValidationError(
            _("Line %s can’t be read: it is too long, or a quotation mark is missing.") % reader.line_num
        ) from None


def _decoded(data: bytes) -> str:
    """Decode UTF-8, UTF-16 with its byte order mark, or GB18030, as Excel writes them."""
    encodings = ["utf-8-sig", "gb18030"]
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encodings = ["utf-16"]
    for encoding in encodings:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if not any(map(NO_TEXT.__contains__, map(ord, set(text)))):
            return text
    raise ValidationError(_("This is no text file. Save it as CSV (UTF-8) or as XLSX."))


def _delimiter(text: str) -> str:
    """Return the one that cuts the first row into the most cells."""
    return max(DELIMITERS, key=lambda delimiter: _cells_of_first_row(text, delimiter))


def _cells_of_first_row(text: str, delimiter: str) -> int:
    try:
        return len(next(csv.reader(StringIO(text, newline=""), delimiter=delimiter), []))
    except csv.Error:
        return 0
