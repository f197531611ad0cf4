"""An uploaded CSV or XLSX file as a table of text, within limits. Nothing is kept on disk."""

import codecs
import csv
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time
from io import BytesIO, StringIO
from itertools import islice

import openpyxl
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.utils.translation import gettext as _

from accounts.web.exchange.cells import as_written

FILE_MOST = 8 * 1024 * 1024
ROWS_MOST, COLUMNS_MOST, CELL_MOST = 5000, 60, 4000
# Of an XLSX file, which is a ZIP archive: what its parts may add up to, and how many there may be.
UNPACKED_MOST, PARTS_MOST = 32 * 1024 * 1024, 500
MERGED = re.compile(rb'<mergeCell [^>]*ref="([A-Z]+\d+:[A-Z]+\d+)"')
# A cell with a formula and without the value that a spreadsheet program computed and stored.
UNCOMPUTED = re.compile(
    rb'<c [^>]*r="([A-Z]+\d+)"[^>]*><f(?:/>| [^>]*/>|[ >][^<]*</f>)(?:<v ?/>|<v></v>)?</c>'
)
DELIMITERS = ",;\t"
NO_TEXT = dict.fromkeys([*range(9), *range(14, 32)])  # control characters that no text file has


@dataclass(frozen=True)
class Table:
    """`rows`: {number of the row as spreadsheets show it: its cells, as many as there are heads}."""

    heads: list[str]
    rows: dict[int, list[str]]


def table_of(file: UploadedFile) -> Table:
    """Read a file. Raises ValidationError for one that is no table within the limits."""
    if file.size > FILE_MOST:
        raise ValidationError(_("The file is too large. Import it in parts."))
    data = file.read()
    if not data.strip():
        raise ValidationError(_("The file is empty."))
    rows = _xlsx(data) if data.startswith(b"PK\x03\x04") else _csv(data)
    heads = [head.strip() for head in next(rows, [])]
    while heads and not heads[-1]:
        heads = heads[:-1]
    if not heads:
        raise ValidationError(_("The first row of the file has no column names."))
    if len(heads) > COLUMNS_MOST:
        raise ValidationError(_("The file has more than %s columns.") % COLUMNS_MOST)
    table = Table(heads, {})
    for number, row in enumerate(rows, start=2):
        cells = [as_written(cell) for cell in row[: len(heads)]]
        if not "".join(cells).strip():
            continue
        if len(table.rows) == ROWS_MOST:
            raise ValidationError(_("The file has more than %s rows. Import it in parts.") % ROWS_MOST)
        if max(map(len, cells)) > CELL_MOST:
            raise ValidationError(
                _("Row %(row)s has a cell with more than %(length)s characters.")
                % {"row": number, "length": CELL_MOST}
            )
        table.rows[number] = cells + [""] * (len(heads) - len(cells))
    if not table.rows:
        raise ValidationError(_("The file has column names but no rows."))
    return table


# --- CSV --------------------------------------------------------------------------------------------------


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


# --- XLSX -------------------------------------------------------------------------------------------------


def _xlsx(data: bytes) -> Iterator[list[str]]:
    """Yield the rows of the first sheet: of a formula its last result, as the file has it."""
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            parts = archive.infolist()
            if len(parts) > PARTS_MOST or sum(part.file_size for part in parts) > UNPACKED_MOST:
                raise ValidationError(_("The file is too large."))
            book = openpyxl.load_workbook(BytesIO(data), read_only=True, data_only=True, keep_links=False)
            sheet = book.worksheets[0]
            _check_sheet(archive.read(sheet._worksheet_path))
        sheet.reset_dimensions()  # some programs write wrong ones
        rows = sheet.iter_rows(max_col=COLUMNS_MOST + 1, values_only=True)
        for row in islice(rows, 2 * ROWS_MOST):
            yield [_text(value) for value in row]
        book.close()
    except ValidationError:
        raise
    except Exception:  # openpyxl raises whatever a broken part leads to
        raise ValidationError(_("This XLSX file can’t be read. Save it again, or save it as CSV.")) from None


def _check_sheet(xml: bytes) -> None:
    """Raise ValidationError where cells would be read as empty although they do not look so."""
    if merged := MERGED.search(xml):
        raise ValidationError(
            _("Cells are merged (%s). Split them and fill in each one.") % merged[1].decode()
        )
    if without := UNCOMPUTED.search(xml):
        raise ValidationError(
            _("The formula in %s has no result. Paste values instead of formulas.") % without[1].decode()
        )


def _text(value: object) -> str:
    """Return a cell as a person would type it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return _("Yes") if value else _("No")
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, time):
        return value.strftime("%H:%M")
    if isinstance(value, datetime | date):
        return value.isoformat(" ") if isinstance(value, datetime) else value.isoformat()
    return str(value)
