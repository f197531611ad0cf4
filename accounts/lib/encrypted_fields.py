"""Secrets at rest: columns that are encrypted in the database.

The keys are FIELD_KEYS: the first one encrypts, all of them decrypt. If it is empty, one is derived from
SECRET_KEY.
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
def _fernet(keys: tuple[str, ...], secret_key: str) -> MultiFernet:
    if not keys:
        derived = HKDF(SHA256(), 32, salt=None, info=b"wkportal fields").derive(secret_key.encode())
        keys = (base64.urlsafe_b64encode(derived).decode(),)
    return MultiFernet([Fernet(key) for key in keys])


def fernet() -> MultiFernet:
    return _fernet(tuple(settings.FIELD_KEYS), settings.SECRET_KEY)


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


def check_keys(*models: type[models.Model]) -> None:
    """Read the newest encrypted values of these tables: the log then says if a key is missing."""
    for model in models:
        for field in model._meta.concrete_fields:
            if isinstance(field, EncryptedTextField):
                rows = model._base_manager.filter(**{f"{field.name}__gt": ""}).order_by("-pk")
                rows.values_list(field.name, flat=True).first()


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
