"""The keys of encrypted columns: which values no key decrypts, and the re-encryption of all values by the first key."""

import logging
from collections import Counter
from collections.abc import Iterator

from cryptography.fernet import InvalidToken
from django.apps import apps
from django.db import DatabaseError, InterfaceError
from django.db.models import BinaryField, ExpressionWrapper, F, Field, QuerySet, TextField, Value

from accounts.lib import db_errors
from accounts.lib.encrypted_fields import EncryptedPngField, EncryptedTextField, reencrypted
from accounts.models import Account, Channel, ScanLink, SecondFactor, UpstreamAccess

log = logging.getLogger(__name__)

READ_AT_ONCE = 200
# What becomes of a value.
DONE, ALREADY, CHANGED, LOST = "re-encrypted", "already", "changed meanwhile", "lost"


def columns() -> list[Field]:
    """Return the encrypted columns of all tables."""
    fields = [field for model in apps.get_models() for field in model._meta.concrete_fields]
    return [field for field in fields if isinstance(field, EncryptedTextField | EncryptedPngField)]


def rotate(field: Field) -> Counter[str]:
    """Encrypt each value of a column by the first key. Return how many values became DONE, ALREADY and so on.

    Logins go on meanwhile: a value is replaced only if it is still the one that was read. Whatever is written later is
    encrypted by the first key anyway. An interrupted run can simply be started again: it skips what is done.
    """
    found: Counter[str] = Counter()
    for pk, sealed in _stored(field):
        try:
            new = reencrypted(sealed)
        except InvalidToken:
            found[LOST] += 1
            continue
        if new is None:
            found[ALREADY] += 1
        else:
            found[DONE if _replace(field, pk, sealed, new) else CHANGED] += 1
    return found


def lost() -> dict[str, int]:
    """Return {column: number of values that no key decrypts}, without columns where that is none."""
    found: Counter[str] = Counter()
    for field in columns():
        for _pk, sealed in _stored(field):
            try:
                reencrypted(sealed)
            except InvalidToken:
                found[str(field)] += 1
    return dict(found)


def report_lost() -> None:
    """Log at the start of a process, and not only when a value is needed, that a key is missing.

    Reads the newest value of each column. The columns of logins are left out: their values live for minutes.
    """
    try:
        for model in (Channel, UpstreamAccess, Account, ScanLink, SecondFactor):
            for field in model._meta.concrete_fields:
                if isinstance(field, EncryptedTextField):
                    rows = model._base_manager.filter(**{f"{field.name}__gt": ""}).order_by("-pk")
                    rows.values_list(field.name, flat=True).first()
    except (DatabaseError, InterfaceError):
        log.warning("the database does not answer; whether a key is missing is not known")
    finally:
        db_errors.release_connection()


def _stored(field: Field) -> Iterator[tuple[int, bytes]]:
    """Yield (ID, what the database holds) of each row with a value in this column, in short queries."""
    rows, last = _with_stored(field).exclude(**{field.name: None}), 0
    if isinstance(field, TextField):
        rows = rows.filter(stored__gt="")
    while some := list(rows.filter(pk__gt=last).order_by("pk").values_list("pk", "stored")[:READ_AT_ONCE]):
        for pk, value in some:
            yield pk, value.encode() if isinstance(value, str) else bytes(value)
        last = some[-1][0]


def _replace(field: Field, pk: int, old: bytes, new: bytes) -> bool:
    """Return False if the row no longer holds the old value."""
    is_text = isinstance(field, TextField)
    before, after = (old.decode(), new.decode()) if is_text else (old, new)
    rows = _with_stored(field).filter(pk=pk, stored=before)
    return bool(rows.update(**{field.name: Value(after, output_field=_plain(field))}))


def _with_stored(field: Field) -> QuerySet:
    stored = ExpressionWrapper(F(field.name), output_field=_plain(field))
    return field.model._base_manager.annotate(stored=stored)


def _plain(field: Field) -> Field:
    """Return a field that passes on what the database holds, instead of decrypting it."""
    return TextField() if isinstance(field, TextField) else BinaryField()
