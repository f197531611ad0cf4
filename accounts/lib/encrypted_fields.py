"""Secrets at rest: a text column that is encrypted in the database.

The keys are FIELD_KEYS: the first one encrypts, all of them decrypt. If it is empty, one is derived from
SECRET_KEY.
"""

import base64
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.db import models


@lru_cache(maxsize=4)
def _fernet(keys: tuple[str, ...], secret_key: str) -> MultiFernet:
    if not keys:
        derived = HKDF(SHA256(), 32, salt=None, info=b"wkportal fields").derive(secret_key.encode())
        keys = (base64.urlsafe_b64encode(derived).decode(),)
    return MultiFernet([Fernet(key) for key in keys])


def fernet() -> MultiFernet:
    return _fernet(tuple(settings.FIELD_KEYS), settings.SECRET_KEY)


class EncryptedTextField(models.TextField):
    """A text field that is encrypted in the database. A value that no key decrypts reads as empty."""

    def get_prep_value(self, value: str | None) -> str | None:
        value = super().get_prep_value(value)
        return fernet().encrypt(value.encode()).decode() if value else value

    def from_db_value(self, value: str | None, expression, connection) -> str | None:
        if not value:
            return value
        try:
            return fernet().decrypt(value.encode()).decode()
        except InvalidToken:
            return ""
