"""What an imported file may have at most, and what it says to one that has more."""

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

FILE_MOST = 8 * 1024 * 1024
# The characters of all cells: no CSV file has more, but an XLSX file may have one text in many cells.
CHARACTERS_MOST = FILE_MOST
ROWS_MOST, COLUMNS_MOST, CELL_MOST = 5000, 60, 4000


def too_large() -> ValidationError:
    return ValidationError(_("The file is too large. Import it in parts."))


def too_many_rows() -> ValidationError:
    return ValidationError(_("The file has more than %s rows. Import it in parts.") % ROWS_MOST)


def too_many_columns() -> ValidationError:
    return ValidationError(_("The file has more than %s columns.") % COLUMNS_MOST)
