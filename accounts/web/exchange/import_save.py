"""What an import writes: all of its lines in one transaction, or none; in batches, not row by row."""

from collections import defaultdict
from itertools import chain

from django.contrib.auth import get_user_model
from django.db import IntegrityError, transaction

from accounts.lib import db_clock
from accounts.lib.rows import in_batches
from accounts.models import Account, Tag
from accounts.models.account_queries import keep_online_columns
from accounts.models.audit import log as audit
from accounts.models.audit.entry import AuditKind
from accounts.models.event import gathered, record
from accounts.states import EventType
from accounts.web.exchange.import_run import Import
from accounts.web.exchange.line_rules import Line

WRITTEN_AT_ONCE = 500
# So many events are published one by one. Open pages read more of them from the rows, or reload.
PUBLISHED_MOST = 100
# What a line was checked against: with another value here, it may be about another account.
CHECKED = ("label", "wc_id", "team_id", "merged_into_id", "is_archived", "is_confirmed")
# What else is written with a column, as `bulk_create` derives it.
FOLLOWS = {"label": ["label_key"], "place": ["rack", "place_key"]}


class _Changed(Exception):
    """Raised if accounts are no longer what the lines were checked against."""


def save(found: Import) -> bool:
    """Save all lines, or none. Return False if accounts were added or changed meanwhile."""
    added = [line for line in found.written if line.is_new]
    changed = [line for line in found.written if not line.is_new]
    try:
        with transaction.atomic(), gathered(PUBLISHED_MOST):
            _check(found.user, added, changed)
            _add(added)
            teams = {line.account.pk: line.account.team_id for line in changed}
            _change(changed)
            _set_tags(found.written)
            _record(added, EventType.ADDED, found.user)
            _record(changed, EventType.CHANGED, found.user, teams)
            audit.record(AuditKind.IMPORTED, by=found.user, number=len(added) + len(changed))
    except (IntegrityError, _Changed):
        return False
    return True


def _check(user, added: list[Line], changed: list[Line]) -> None:
    """Lock what is changed. Raises _Changed if that, or what the added lines are not, is there otherwise now."""
    # One import of a person at a time: a second click on "Import" adds nothing twice.
    get_user_model().objects.select_for_update(no_key=True).get(pk=user.pk)
    accounts = {line.account.pk: line.account for line in changed}
    for some in in_batches(sorted(accounts), WRITTEN_AT_ONCE):
        rows = Account.objects.filter(pk__in=some).order_by("pk").select_for_update(of=("self",), no_key=True)
        now = {row.pk: _checked(row) for row in rows.only("label", "wc_id", "team", "merged_into", "state")}
        if now != {key: _checked(accounts[key]) for key in some}:
            raise _Changed
    new = {line.values["label"] for line in added if "wc_id" not in line.values}
    for some in in_batches(new, WRITTEN_AT_ONCE):
        if Account.objects.visible_to(user).kept().filter(label__in=some).exists():
            raise _Changed


def _checked(account: Account) -> list[object]:
    return [getattr(account, name) for name in CHECKED]


def _add(lines: list[Line]) -> None:
    for line in lines:
        line.account = Account(**_columns(line))
    Account.objects.bulk_create([line.account for line in lines], batch_size=WRITTEN_AT_ONCE)


def _change(lines: list[Line]) -> None:
    """Write the accounts with one statement for each set of columns.

    As an INSERT of rows that are there, and locked: an UPDATE would name each value with its condition, which takes
    Django ten times as long.
    """
    alike: defaultdict[tuple[str, ...], list[Account]] = defaultdict(list)
    for line in lines:
        values = _columns(line)
        if "keep_online" in values:
            values |= keep_online_columns(values["keep_online"])
        for name, value in values.items():
            setattr(line.account, name, value)
        alike[tuple(values)].append(line.account)
    for names, accounts in alike.items():
        written = list(chain(names, *(FOLLOWS.get(name, ()) for name in names)))
        if written:
            Account.objects.bulk_create(
                accounts,
                batch_size=WRITTEN_AT_ONCE,
                update_conflicts=True,
                unique_fields=["id"],
                update_fields=written,
            )


def _columns(line: Line) -> dict[str, object]:
    return {name: value for name, value in line.values.items() if name != "tag_names"}


def _set_tags(lines: list[Line]) -> None:
    tagged = {line.account.pk: line.values["tag_names"] for line in lines if "tag_names" in line.values}
    names = set(chain.from_iterable(tagged.values()))
    Tag.objects.bulk_create([Tag(name=name) for name in sorted(names)], ignore_conflicts=True)
    tags = {name: key for some in in_batches(names, WRITTEN_AT_ONCE) for name, key in _tags(some)}
    uses = Account.tags.through
    for some in in_batches(tagged, WRITTEN_AT_ONCE):
        uses.objects.filter(account__in=some).delete()
    rows = [uses(account_id=key, tag_id=tags[name]) for key, names in tagged.items() for name in names]
    uses.objects.bulk_create(rows, batch_size=10 * WRITTEN_AT_ONCE)


def _tags(names: list[str]):
    return Tag.objects.filter(name__in=names).values_list("name", "pk")


def _record(lines: list[Line], happened: EventType, by, teams: dict[int, int | None] | None = None) -> None:
    """`teams`: of the accounts before the import."""
    now = db_clock.now()
    for line in lines:
        detail = ", ".join(line.values) if happened == EventType.CHANGED else ""
        before = (teams or {}).get(line.account.pk)
        record(line.account, happened, detail=detail, by=by, at=now, team_before=before)
