"""The second step of a sign-in: an authenticator app, and recovery codes for the day on which it is lost."""

import base64
import secrets
from datetime import timedelta
from hashlib import sha256

from django.conf import settings
from django.db import models
from django.utils import timezone
from django_otp.models import Device, ThrottlingMixin
from django_otp.oath import TOTP

from accounts.lib.encrypted_fields import EncryptedTextField
from accounts.lib.typed_text import digits

KEY_BYTES, RECOVERY_BYTES = 20, 10
RECOVERY_CODES = 10
# Codes of the step before and the next one are accepted too: clocks differ, and typing takes time.
TOLERANCE = 1
# After so many wrong codes in a row, the pause no longer doubles: it is 2 ** 8 s. Who knows the password could otherwise
# keep its owner out for ever.
MOST_FAILURES = 9
SHOWN_FOR = timedelta(hours=1)
# Key in a session that took the step. Sessions that did not are ended where a person sets one up.
TAKEN = "second_step"


class SecondFactor(ThrottlingMixin, Device):
    """A person's authenticator app. It counts from the moment on at which it is `confirmed` by a code.

    The devices of django-otp itself keep their secrets in plain text. `key`: the app's, in base32. `last_step`: of the
    newest code that was accepted; none up to it works again. `recovery_codes`: the SHA-256 of each that was not used
    yet; they have 80 random bits, so that nobody finds them by trying.
    """

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="second_factor"
    )
    name = None
    confirmed = models.BooleanField(default=False)
    key = EncryptedTextField()
    key_made_at = models.DateTimeField()
    last_step = models.BigIntegerField(default=-1)
    recovery_codes = models.JSONField(default=list)

    def __str__(self) -> str:
        return f"second factor of {self.user_id}"

    @classmethod
    def to_confirm(cls, user) -> "SecondFactor":
        """Return what this person can set up now. A key that was shown long ago may have been seen by others."""
        fresh = {"key": _new_key(), "key_made_at": timezone.now()}
        factor, _is_new = cls.objects.get_or_create(user=user, defaults=fresh)
        is_stale = not factor.key or factor.key_made_at < timezone.now() - SHOWN_FOR
        if is_stale and not factor.confirmed:
            cls.objects.filter(pk=factor.pk, confirmed=False).update(**fresh)
            factor.refresh_from_db()
        return factor

    def get_throttle_factor(self) -> int:
        return 1

    def verify_token(self, token: str) -> bool:
        """Return whether this is a code of the app, or a recovery code. Each works once.

        Lock the row before: otherwise two requests could use one code.
        """
        if not self.verify_is_allowed()[0]:
            return False
        typed = digits(token[:100]).lower()
        right = self._accept_of_app(typed) or self._accept_recovery(typed)
        if right:
            self.throttle_reset(commit=False)
        else:
            self.throttle_increment(commit=False)
            self.throttling_failure_count = min(self.throttling_failure_count, MOST_FAILURES)
        # Not the key: one that cannot be decrypted reads as empty.
        self.save(
            update_fields=[
                "last_step",
                "recovery_codes",
                "throttling_failure_timestamp",
                "throttling_failure_count",
            ]
        )
        return right

    def _accept_of_app(self, typed: str) -> bool:
        if not (self.key and len(typed) == 6 and typed.isascii() and typed.isdecimal()):
            return False
        totp = TOTP(base64.b32decode(self.key))
        totp.time = timezone.now().timestamp()
        if not totp.verify(int(typed), TOLERANCE, self.last_step + 1):
            return False
        self.last_step = totp.t()
        return True

    def _accept_recovery(self, typed: str) -> bool:
        used = _hash(typed)
        if not self.confirmed or used not in self.recovery_codes:
            return False
        self.recovery_codes = [kept for kept in self.recovery_codes if kept != used]
        return True

    def renew_recovery_codes(self) -> list[str]:
        """Replace them, and return the new ones in groups of four, to be shown once. The row is not saved."""
        codes = [_base32(secrets.token_bytes(RECOVERY_BYTES)).lower() for _number in range(RECOVERY_CODES)]
        self.recovery_codes = [_hash(code) for code in codes]
        return ["-".join(code[at : at + 4] for at in range(0, len(code), 4)) for code in codes]


def _new_key() -> str:
    return _base32(secrets.token_bytes(KEY_BYTES))


def _base32(data: bytes) -> str:
    return base64.b32encode(data).decode()


def _hash(code: str) -> str:
    return sha256(code.encode()).hexdigest()
