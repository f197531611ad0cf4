"""What a row of an import makes of an account, by the fields and the rules of the account form."""

from dataclasses import dataclass, field
from functools import cache

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from accounts.lib.time_windows import is_half
from accounts.models import Account
from accounts.web.exchange import columns
from accounts.web.exchange.known import Known
from accounts.web.forms import HALF_HOURS, AccountForm, check_wc_id, typed_tags

HOURS = ("hours_from", "hours_until")


@dataclass
class Line:
    """A row of the file. `account`: None for a new one. `errors`: (head of the column or "", sentence)."""

    number: int
    label: str
    account: Account | None = None
    values: dict[str, object] = field(default_factory=dict)
    errors: list[tuple[str, str]] = field(default_factory=list)

    @property
    def is_new(self) -> bool:
        return self.account is None

    @property
    def changes(self) -> list[str]:
        """Return the heads of what the line changes."""
        return [str(columns.HEADS[name]) for name in self.values]

    @property
    def is_written(self) -> bool:
        return not self.errors and (self.is_new or bool(self.values))

    def wrong(self, name: str, error: ValidationError) -> None:
        head = str(columns.HEADS.get(name, ""))
        self.errors += [(head, message) for message in error.messages]


class LineRules:
    """The form's fields are built once, and a cell that many rows have is read once."""

    def __init__(self, known: Known):
        self.known = known
        self.fields = AccountForm(user=known.user).fields
        self.required = [name for name, field in self.fields.items() if field.required]
        self.read = cache(self._read)

    def fill(self, line: Line, row: dict[str, str]) -> None:
        """Give the line what its cells say: of an account that exists, only what they change."""
        for name, cell in row.items():
            account = line.account
            if account and _same_text(cell, columns.VALUES[name](account)):
                continue  # what an export wrote changes nothing, even if the form would not take it
            try:
                value = self.read(name, cell, account.proxy if account and name == "proxy" else None)
                if name == "wc_id":
                    check_wc_id(value, self.known.others.__contains__)
            except ValidationError as error:
                line.wrong(name, error)
            else:
                if account is None or value != _value(account, name):
                    line.values[name] = value
        if line.account is None:
            self._check_new(line, row)
        if not row.keys().isdisjoint(HOURS):
            self._check_hours(line, row)

    def _read(self, name: str, cell: str, own: int | None) -> object:
        if name == "keep_online":
            return columns.yes_or_no(cell)
        if name == "proxy":
            return columns.proxy(cell, own)
        if name in ("team", "policy"):
            return self._named(name, cell)
        value = self.fields[name].clean(cell)
        if name == "tag_names":
            return typed_tags(value)
        return Account._meta.get_field(name).clean(value, None)

    def _named(self, name: str, cell: str) -> object:
        rows = self.known.teams if name == "team" else self.known.policies
        if cell in rows:
            return rows[cell]
        if not self.fields[name].required and cell == str(self.fields[name].empty_label):
            return None
        raise ValidationError(_("“%(name)s” isn’t one of your choices here."), params={"name": cell})

    def _check_new(self, line: Line, row: dict[str, str]) -> None:
        """What the form asks for must be in the row. Who has one team need not name it."""
        if "team" in self.required and "team" not in row and len(self.known.teams) == 1:
            (line.values["team"],) = self.known.teams.values()
        for name in self.required:
            if name not in row and name not in line.values:
                line.wrong(name, ValidationError(self.fields[name].error_messages["required"]))
        if "proxy" not in row:
            line.wrong("proxy", ValidationError(self.fields["proxy"].error_messages["unchosen"]))

    def _check_hours(self, line: Line, row: dict[str, str]) -> None:
        hours = [line.values.get(name, line.account and getattr(line.account, name)) for name in HOURS]
        unread = any(name in row and name not in line.values for name in HOURS)
        if is_half(*hours) and not (unread and line.errors):
            line.wrong("hours_until", ValidationError(HALF_HOURS))


def _value(account: Account, name: str) -> object:
    return account.tag_names.split(", ") if name == "tag_names" else getattr(account, name)


def _same_text(one: str, other: str) -> bool:
    """Return whether they are the same but for line ends, which spreadsheets change."""
    return one == other or one.splitlines() == other.splitlines()
