"""An import: each row as an account to add or to change, with its errors."""

from collections import Counter
from collections.abc import Iterator
from functools import cached_property

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from accounts.lib import typed_text
from accounts.models import Account
from accounts.web.exchange import columns
from accounts.web.exchange.files.upload import Table
from accounts.web.exchange.known import Known
from accounts.web.exchange.line_rules import Line, LineRules

SHOWN = 100


class Import:
    """What a table would do. `mapping`: for each of its columns a field, "" for one that is not read."""

    def __init__(self, user, table: Table, mapping: list[str]):
        self.user, self.mapping = user, mapping
        self.problem = _problem(mapping)
        self.lines: list[Line] = [] if self.problem else list(self._lines(table))

    @cached_property
    def wrong(self) -> list[Line]:
        return [line for line in self.lines if line.errors]

    @cached_property
    def written(self) -> list[Line]:
        return [line for line in self.lines if line.is_written]

    @property
    def is_possible(self) -> bool:
        return not self.problem and not self.wrong and bool(self.written)

    @property
    def counts(self) -> dict[str, int]:
        """Return how many accounts are added, changed and left as they are."""
        names = ("added", "changed", "same", "wrong")
        return dict.fromkeys(names, 0) | Counter(
            "wrong" if line.errors else "added" if line.is_new else "changed" if line.values else "same"
            for line in self.lines
        )

    @property
    def entered(self) -> set[object]:
        """Return the wcIds that the file gives to accounts."""
        return {line.values["wc_id"] for line in self.written if "wc_id" in line.values}

    @property
    def shown(self) -> list[Line]:
        """Return the first lines that say something: those with errors before the others."""
        return [*self.wrong, *self.written][:SHOWN]

    def _lines(self, table: Table) -> Iterator[Line]:
        cells = {number: self._cells(row) for number, row in table.rows.items()}
        every = cells.values()
        known = Known(
            self.user,
            {row["wc_id"] for row in every if "wc_id" in row},
            {form for row in every if "label" in row for form in _forms(row["label"])},
        )
        rules = LineRules(known)
        seen: dict[object, int] = {}
        for number, row in cells.items():
            line = Line(number, row.get("label") or row.get("wc_id", ""))
            try:
                line.account = _account_of(row, known)
                self._check_once(line, row, seen)
                _check_surplus(table, number)
            except ValidationError as error:
                line.wrong("", error)
            else:
                rules.fill(line, row)
            yield line

    def _cells(self, row: list[str]) -> dict[str, str]:
        """Return {field: cell}, without the empty cells: what they stand for stays as it is."""
        cells = {name: cell for name, cell in zip(self.mapping, row, strict=False) if name and cell}
        if "wc_id" in cells:
            cells["wc_id"] = typed_text.code(cells["wc_id"])
        return cells

    def _check_once(self, line: Line, row: dict, seen: dict[object, int]) -> None:
        """Raise ValidationError if an earlier line is about the same account."""
        label = typed_text.line(row.get("label", ""))
        keys = [("wc_id", row["wc_id"])] if row.get("wc_id") else [("label", label)] if label else []
        keys += [("account", line.account.pk)] if line.account else []
        for key in keys:
            if first := seen.get(key):
                raise ValidationError(_("Row %s is about the same account.") % first)
        seen.update(dict.fromkeys(keys, line.number))


def _problem(mapping: list[str]) -> str:
    """Return why the columns can't be read like this, or ""."""
    chosen = Counter(filter(None, mapping))
    if not {"label", "wc_id"} & chosen.keys():
        return _("Choose the column with the label or with the wcId: it tells which account a row is about.")
    twice = [str(columns.HEADS[name]) for name, number in chosen.items() if number > 1]
    return _("Two columns are read as “%s”.") % twice[0] if twice else ""


def _forms(label: str) -> list[str]:
    """Return a label as the file has it, and as the form would store it."""
    return [label, typed_text.line(label)]


def _check_surplus(table: Table, number: int) -> None:
    """Raise ValidationError if the row has more cells than there are heads, as after a comma without quotes."""
    if surplus := table.rows[number][len(table.heads) :]:
        raise ValidationError(
            _("“%s” is behind the last column. Put it into its column, or give its column a name.")
            % surplus[0]
        )


def _account_of(row: dict[str, str], known: Known) -> Account | None:
    """Return the account that a line is about, None for a new one: by its wcId, otherwise by its label.

    A label names an account of another wcId only in a line without one. Raises ValidationError.
    """
    wc_id = row.get("wc_id")
    account = known.by_wc_id.get(wc_id) if wc_id else None
    if account is None:
        labels = _forms(row.get("label", ""))
        same = next((known.by_label[label] for label in labels if label in known.by_label), [])
        same = [one for one in same if not one.is_archived and not (wc_id and one.wc_id)]
        if len(same) > 1:
            raise ValidationError(_("Several accounts have this label. Add the wcId."))
        account = same[0] if same else None
    if account is None and not known.may_add:
        raise ValidationError(_("There is no such account, and you can’t add accounts."))
    if account is not None and not known.may_edit:
        raise ValidationError(_("You can’t edit accounts."))
    if account is not None and account.is_archived:
        raise ValidationError(_("This account is archived. Restore it first."))
    return account
