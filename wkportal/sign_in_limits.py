"""The limit of failed sign-ins from one address, beside the one of django-axes for a name at an address."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby

from axes.handlers.database import AxesDatabaseHandler
from axes.models import AccessAttempt, AccessFailureLog
from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import transaction
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.crypto import salted_hmac

from accounts.models import SignInUnlock
from accounts.models.audit import log as audit
from accounts.models.audit.entry import AuditKind

FAILURES_OF_ADDRESS, PERIOD = 20, timedelta(hours=1)


class Handler(AxesDatabaseHandler):
    """Also refuse an address with FAILURES_OF_ADDRESS failures in PERIOD, whatever names it tried.

    No limit counts a name alone: that would let anybody keep its owner out.
    """

    def is_locked(self, request: HttpRequest, credentials: dict | None = None) -> bool:
        if super().is_locked(request, credentials):
            return True
        if _counted(request.axes_ip_address).count() < FAILURES_OF_ADDRESS:
            return False
        request.axes_locked_out = True  # axes sets it for its own limit only
        request.address_locked_out = True  # what the page says
        return True


def _counted(address: str) -> QuerySet:
    """Return the failures of an address that count: those in PERIOD, and after an admin unlocked it."""
    unlocks = SignInUnlock.objects.filter(username="", ip_address=address).order_by("-at")
    unlocked_at = unlocks.values_list("at", flat=True).first()
    since = timezone.now() - PERIOD
    return _guesses().filter(
        ip_address=address, attempt_time__gt=max(since, unlocked_at) if unlocked_at else since
    )


def _guesses() -> QuerySet:
    """Return the failures at pages on which something is typed: nobody guesses at the sign-in provider's."""
    return AccessFailureLog.objects.exclude(path_info=reverse("provider_callback"))


@dataclass(frozen=True, slots=True)
class Lockout:
    """`username`: "" if every name is refused from this address."""

    username: str
    address: str
    failures: int
    until: datetime

    @property
    def key(self) -> str:
        """Names it in a page: what was typed as a username may be a password."""
        return salted_hmac("wkportal.sign_in_limits", f"{self.username}\n{self.address}").hexdigest()


def lockouts() -> list[Lockout]:
    """Return who is locked out now, those first whose lockout lasts longest."""
    return sorted([*_of_names(), *_of_addresses()], key=lambda lockout: lockout.until, reverse=True)


def _of_names() -> list[Lockout]:
    cool_off = timedelta(hours=settings.AXES_COOLOFF_TIME)
    recent = AccessAttempt.objects.filter(attempt_time__gte=timezone.now() - cool_off)
    rows = recent.order_by("username", "ip_address", "-attempt_time")
    found = []
    for (username, address), attempts in groupby(rows, lambda row: (row.username, row.ip_address)):
        failures, until = 0, None
        for attempt in attempts:  # one for each browser
            failures += attempt.failures_since_start
            # Without this one and those before it, too few are left.
            if until is None and failures >= settings.AXES_FAILURE_LIMIT:
                until = attempt.attempt_time + cool_off
        if until:
            found.append(Lockout(username or "", address, failures, until))
    return found


def _of_addresses() -> list[Lockout]:
    recent = _guesses().filter(attempt_time__gt=timezone.now() - PERIOD)
    many = (
        recent.values("ip_address").annotate(failures=Count("pk")).filter(failures__gte=FAILURES_OF_ADDRESS)
    )
    found = []
    for address in many.order_by().values_list("ip_address", flat=True):
        times = list(_counted(address).order_by("-attempt_time").values_list("attempt_time", flat=True))
        if len(times) >= FAILURES_OF_ADDRESS:
            found.append(Lockout("", address, len(times), times[FAILURES_OF_ADDRESS - 1] + PERIOD))
    return found


def unlock(key: str, *, by) -> bool:
    """Let sign-ins be tried again, and record who did it. Return False if nobody is locked out under this key."""
    lockout = next((lockout for lockout in lockouts() if lockout.key == key), None)
    if lockout is None:
        return False
    username, address = lockout.username, lockout.address
    with transaction.atomic():
        SignInUnlock.objects.create(
            at=timezone.now(), by=by, by_name=by.get_username(), username=username, ip_address=address
        )
        # Of what was typed as a username, the audit log has only names of people: it may be a password.
        person = get_user_model().objects.filter(username=username).first() if username else None
        audit.record(AuditKind.LOCKOUT_ENDED, about=person, by=by, detail=address or "")
        if username:
            AccessAttempt.objects.filter(username=username, ip_address=address).delete()
    return True
