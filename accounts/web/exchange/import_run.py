"""An import: each line as an account to add or to change, with its errors, and all of them saved or none."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from accounts import permissions
from accounts.lib import typed_text
from accounts.models import Account, UnmanagedAccount
from accounts.models.event import gathered
from accounts.presence import reconcile
from accounts.web.exchange import columns
from accounts.web.exchange.import_form import ImportForm, Known
from accounts.web.exchange.upload import Table

SHOWN = 100


@dataclass
class Line:
    """A row of the file. `errors`: (head of the column or "", sentence)."""

    number: int
    label: str
    form: ImportForm | None = None
    errors: list[tuple[str, str]] = field(default_factory=list)

    @property
    def is_new(self) -> bool:
        return self.form is not None and self.form.instance.pk is None

    @property
    def changes(self) -> list[str]:
        """Return the heads of what the line changes."""
        return [str(columns.HEADS[name]) for name in self.form.changed_data] if self.form else []

    @property
    def is_written(self) -> bool:
        return not self.errors and (self.is_new or bool(self.changes))


class Import:
    """What a table would do. `mapping`: for each of its columns a field, "" for one that is not read."""

    def __init__(self, user, table: Table, mapping: list[str]):
        self.user, self.mapping = user, mapping
        self.problem = _problem(mapping)
        self.lines: list[Line] = [] if self.problem else list(self._lines(table))

    @property
    def wrong(self) -> list[Line]:
        return [line for line in self.lines if line.errors]

    @property
    def is_possible(self) -> bool:
        return not self.problem and not self.wrong and any(line.is_written for line in self.lines)

    @property
    def counts(self) -> dict[str, int]:
        """Return how many accounts are added, changed and left as they are."""
        names = ("added", "changed", "same", "wrong")
        return dict.fromkeys(names, 0) | Counter(
            "wrong" if line.errors else "added" if line.is_new else "changed" if line.changes else "same"
            for line in self.lines
        )

    @property
    def shown(self) -> list[Line]:
        """Return the first lines that say something: those with errors before the others."""
        return [*self.wrong, *(line for line in self.lines if line.is_written)][:SHOWN]

    def save(self) -> bool:
        """Save all lines, or none. Return False if an account was added with one of the wcIds meanwhile."""
        written = [line.form for line in self.lines if line.is_written]
        try:
            with transaction.atomic(), gathered():
                for form in written:
                    form.save()
        except IntegrityError:
            return False
        if permissions.may_adopt(self.user):
            entered = {form.instance.wc_id for form in written if "wc_id" in form.changed_data}
            for listed in UnmanagedAccount.objects.all():
                if listed.wc_id in entered:
                    reconcile.adopt(listed, by=self.user)
        return True

    def _lines(self, table: Table) -> Iterator[Line]:
        cells = {number: self._cells(row) for number, row in table.rows.items()}
        every = cells.values()
        known = Known(
            self.user,
            {row["wc_id"] for row in every if "wc_id" in row},
            {form for row in every if "label" in row for form in _forms(row["label"])},
        )
        seen: dict[object, int] = {}
        for number, row in cells.items():
            line = Line(number, row.get("label") or row.get("wc_id", ""))
            try:
                account = _account_of(row, known)
                self._check_once(line, account, row, seen)
            except ValidationError as error:
                line.errors += [("", message) for message in error.messages]
            else:
                _fill(line, row, account, known)
            yield line

    def _cells(self, row: list[str]) -> dict[str, str]:
        """Return {field: cell}, without the empty cells: what they stand for stays as it is."""
        cells = {name: cell for name, cell in zip(self.mapping, row, strict=True) if name and cell}
        if "wc_id" in cells:
            cells["wc_id"] = typed_text.code(cells["wc_id"])
        return cells

    def _check_once(self, line: Line, account: Account | None, row: dict, seen: dict[object, int]) -> None:
        """Raise ValidationError if an earlier line is about the same account."""
        keys = [("wc_id", row["wc_id"])] if row.get("wc_id") else [("label", row.get("label"))]
        keys += [("account", account.pk)] if account else []
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


def _fill(line: Line, row: dict[str, str], account: Account | None, known: Known) -> None:
    """Give the line its form, and the errors that the form finds."""
    data: dict[str, object] = {}
    for name, cell in row.items():
        if account and cell == columns.VALUES[name](account):
            continue  # what an export wrote changes nothing, even if the form would not take it
        try:
            data[name] = columns.typed(name, cell, account and account.proxy)
        except ValidationError as error:
            line.errors += [(str(columns.HEADS[name]), message) for message in error.messages]
    line.form = ImportForm(data, known, account)
    for name, messages in line.form.errors.items():
        if name not in row or name in data:  # otherwise its cell has an error already
            line.errors += [(str(columns.HEADS.get(name, "")), message) for message in messages]
