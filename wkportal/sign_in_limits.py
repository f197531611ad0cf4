"""The limit of failed sign-ins from one address, beside the one of django-axes for a name at an address."""

from datetime import timedelta

from axes.handlers.database import AxesDatabaseHandler
from axes.models import AccessFailureLog
from django.http import HttpRequest
from django.utils import timezone

FAILURES_OF_ADDRESS, PERIOD = 20, timedelta(hours=1)


class Handler(AxesDatabaseHandler):
    """Also refuse an address with FAILURES_OF_ADDRESS failures in PERIOD, whatever names it tried.

    No limit counts a name alone: that would let anybody keep its owner out.
    """

    def is_locked(self, request: HttpRequest, credentials: dict | None = None) -> bool:
        if super().is_locked(request, credentials):
            return True
        recent = AccessFailureLog.objects.filter(
            ip_address=request.axes_ip_address, attempt_time__gt=timezone.now() - PERIOD
        )
        if recent.count() < FAILURES_OF_ADDRESS:
            return False
        request.axes_locked_out = True  # axes sets it for its own limit only
        return True
