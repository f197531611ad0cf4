"""What every page shows beside its own subject. Each is asked for only where it is shown."""

from django.conf import settings
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from accounts import access
from accounts.models import Account, Channel, Discovered, Drop, Incident, UpstreamAccess


def upstream_alarm(request: HttpRequest) -> dict:
    """`upstream_alarm`: the row that says the upstream does not let us in, or None."""
    return {"upstream_alarm": SimpleLazyObject(alarm)}


def alarm() -> UpstreamAccess | None:
    """The row that says the upstream does not let us in, where one does."""
    rows = UpstreamAccess.objects.filter(base_url=settings.WK_BASE_URL, account=settings.WK_ACCOUNT)
    return rows.exclude(refused_at=None).first()


def keeping_online(request: HttpRequest) -> dict:
    """What waits for a person: `to_scan_count`, `incidents_open`, `discovered_count` (None for who may not adopt),
    and `broken_channels`, by which nobody is told any more (for admins).
    """
    user = request.user
    return {
        "to_scan_count": SimpleLazyObject(lambda: Account.objects.visible_to(user).to_scan().count()),
        "incidents_open": SimpleLazyObject(lambda: _incidents_open(user)),
        "discovered_count": SimpleLazyObject(lambda: _discovered(user)),
        "broken_channels": SimpleLazyObject(lambda: list(Channel.objects.broken()) if user.is_staff else []),
    }


def _incidents_open(user) -> int:
    seen = Drop.objects.filter(account__in=Account.objects.visible_to(user), incident__isnull=False)
    return Incident.objects.filter(ended_at=None, pk__in=seen.values("incident")).count()


def _discovered(user) -> int | None:
    if not access.may_adopt(user):
        return None
    return Discovered.objects.filter(ignored=False).count()
