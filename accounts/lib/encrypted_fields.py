"""Secrets at rest: columns that are encrypted in the database.

The first key encrypts, all of them decrypt: those of FIELD_KEYS, then one derived from SECRET_KEY and from each of
SECRET_KEY_FALLBACKS.
"""

import base64
import logging
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.db import models

log = logging.getLogger(__name__)
PNG = b"\x89PNG\r\n\x1a\n"


@lru_cache(maxsize=4)
def _fernets(keys: tuple[str, ...], secret_keys: tuple[str, ...]) -> tuple[Fernet, MultiFernet]:
    every = [*keys, *map(_derived, secret_keys)]
    return Fernet(every[0]), MultiFernet([Fernet(key) for key in every])


def _derived(secret_key: str) -> str:
    derived = HKDF(SHA256(), 32, salt=None, info=b"wkportal fields").derive(secret_key.encode())
    return base64.urlsafe_b64encode(derived).decode()


def _current() -> tuple[Fernet, MultiFernet]:
    """Return the key that encrypts, and all keys."""
    secret_keys = (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
    return _fernets(tuple(settings.FIELD_KEYS), secret_keys)


def fernet() -> MultiFernet:
    return _current()[1]


def reencrypted(sealed: bytes) -> bytes | None:
    """Return a stored value encrypted by the first key, None if it is. Raises InvalidToken if no key decrypts it."""
    first, every = _current()
    if sealed.startswith(PNG):
        return every.encrypt(sealed)
    try:
        first.decrypt(sealed)
    except InvalidToken:
        return every.rotate(sealed)
    return None


@lru_cache
def report_lost_key(column: str) -> None:
    """Log, once in a process, that a column has a value that no key decrypts."""
    log.error(
        "a value of %s cannot be decrypted and reads as empty: FIELD_KEYS (or SECRET_KEY, if it is empty) lacks the "
        "key that encrypted it",
        column,
    )


def decrypted(sealed: bytes, column: str) -> bytes | None:
    """Return what was encrypted, None if no key decrypts it, which is logged."""
    try:
        return fernet().decrypt(sealed)
    except InvalidToken:
        report_lost_key(column)
        return None


class EncryptedTextField(models.TextField):
    """A text field that is encrypted in the database. A value that no key decrypts is logged and reads as empty."""

    def get_prep_value(self, value: str | None) -> str | None:
        value = super().get_prep_value(value)
        return fernet().encrypt(value.encode()).decode() if value else value

    def from_db_value(self, value: str | None, expression, connection) -> str | None:
        if not value:
            return value
        return (decrypted(value.encode(), str(self)) or b"").decode()


class EncryptedPngField(models.BinaryField):
    """A PNG that is encrypted in the database. One that an earlier version stored as it is reads as it is."""

    def get_db_prep_value(self, value: bytes | None, connection, prepared: bool = False):
        sealed = fernet().encrypt(bytes(value)) if value else value
        return super().get_db_prep_value(sealed, connection, prepared)

    def from_db_value(self, value: bytes | memoryview | None, expression, connection) -> bytes | None:
        if not value or bytes(value).startswith(PNG):
            return value and bytes(value)
        return decrypted(bytes(value), str(self))
