"""The first sheet of an XLSX file, which is a ZIP archive of XML files. Nothing that the archive states is trusted."""

import zipfile
from collections.abc import Iterator
from datetime import date, datetime, time
from io import BytesIO
from itertools import islice
from xml.sax.handler import ContentHandler

import openpyxl
from defusedxml import sax
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from openpyxl.utils.cell import coordinate_to_tuple, get_column_letter

from accounts.web.exchange.files.limits import (
    COLUMNS_MOST,
    ROWS_MOST,
    too_large,
    too_many_columns,
    too_many_rows,
)

# What the parts of the archive may add up to, in bytes and in tags, and how many there may be.
UNPACKED_MOST, TAGS_MOST, PARTS_MOST = 32 * 1024 * 1024, 3_000_000, 500
PIECE = 64 * 1024
# The last row that is read, counting empty ones.
LAST_ROW = 2 * ROWS_MOST


def sheet_rows(data: bytes) -> Iterator[list[str]]:
    """Yield the rows of the first sheet: of a formula its last result, as the file has it."""
    try:
        unpacked = _unpacked(data)
        book = openpyxl.load_workbook(unpacked, read_only=True, data_only=True, keep_links=False)
        sheet = book.worksheets[0]
        with zipfile.ZipFile(unpacked) as archive, archive.open(sheet._worksheet_path) as xml:
            sax.parse(xml, _SheetCheck())
        sheet.reset_dimensions()  # some programs write wrong ones
        rows = sheet.iter_rows(max_col=COLUMNS_MOST, values_only=True)
        for row in islice(rows, LAST_ROW):
            yield [_text(value) for value in row]
        book.close()
    except ValidationError:
        raise
    except Exception:  # openpyxl raises whatever a broken part leads to
        raise ValidationError(_("This XLSX file can’t be read. Save it again, or save it as CSV.")) from None


def _unpacked(data: bytes) -> BytesIO:
    """Return the archive without compression. It is unpacked piece by piece: the sizes that it states may be wrong."""
    copy, size, tags = BytesIO(), 0, 0
    with zipfile.ZipFile(BytesIO(data)) as packed, zipfile.ZipFile(copy, "w") as unpacked:
        parts = packed.infolist()
        if len(parts) > PARTS_MOST:
            raise too_large()
        # Of two parts with one name, readers take the last one.
        for name, part in {part.filename: part for part in parts}.items():
            if part.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise zipfile.BadZipFile("spreadsheet programs don't write this compression")
            with packed.open(part) as source, unpacked.open(name, "w") as target:
                while piece := source.read(PIECE):
                    size, tags = size + len(piece), tags + piece.count(b"<")
                    if size > UNPACKED_MOST or tags > TAGS_MOST:
                        raise too_large()
                    target.write(piece)
    return copy


class _SheetCheck(ContentHandler):
    """Raises ValidationError where cells would be read as empty, or not at all, although they do not look so."""

    def __init__(self):
        super().__init__()
        self.row = self.column = 0
        self.inside = ""
        self.is_text = self.has_formula = self.has_result = self.has_text = False

    def startElement(self, name, attrs):
        self.inside = name.rpartition(":")[2]
        if self.inside == "row":
            self._begin_row(attrs)
        elif self.inside == "c":
            self.column = coordinate_to_tuple(attrs["r"])[1] if "r" in attrs else self.column + 1
            self.is_text = attrs.get("t") == "str"
            self.has_formula = self.has_result = self.has_text = False
        elif self.inside == "f":
            self.has_formula = True
        elif self.inside == "v":
            self.has_result = self.is_text  # also an empty one
        elif self.inside == "mergeCell":
            raise ValidationError(
                _("Cells are merged (%s). Split them and fill in each one.") % attrs.get("ref", "")
            )

    def _begin_row(self, attrs) -> None:
        """Raises ValueError for a row that is not behind the one before it: openpyxl would leave it out."""
        last, self.column = self.row, 0
        self.row = int(float(attrs["r"])) if "r" in attrs else last + 1
        if self.row <= last:
            raise ValueError("rows are not in order")

    def characters(self, content):
        if self.inside in ("v", "t") and not content.isspace():
            self.has_text = True

    def endElement(self, name):
        self.inside = ""
        if name.rpartition(":")[2] == "c":
            self._check_cell()

    def _check_cell(self) -> None:
        if self.has_formula and not self.has_result and not self.has_text:
            raise ValidationError(
                _("The formula in %s has no result. Paste values instead of formulas.")
                % f"{get_column_letter(self.column)}{self.row}"
            )
        if self.has_text and self.row > LAST_ROW:
            raise too_many_rows()
        if self.has_text and self.column > COLUMNS_MOST:
            raise too_many_columns()


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
