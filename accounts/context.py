"""What every page shows beside its own subject. Each is asked for only where it is shown."""

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db.models import Count, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce
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
    """What waits for a person: `waiting`, with the counts `to_scan`, `incidents` and `discovered` (None for who may not
    adopt); and `broken_channels`, by which nobody is told any more (for admins).
    """
    user = request.user
    return {
        "waiting": SimpleLazyObject(lambda: _waiting(user)),
        "broken_channels": SimpleLazyObject(lambda: list(Channel.objects.broken()) if user.is_staff else []),
    }


def _waiting(user) -> dict[str, int | None]:
    """All counts by one query: every page shows them."""
    accounts = Account.objects.visible_to(user)
    dropped = Drop.objects.filter(account__in=accounts, incident__isnull=False)
    counts = {
        "to_scan": _number_of(accounts.to_scan()),
        "incidents": _number_of(Incident.objects.filter(ended_at=None, pk__in=dropped.values("incident"))),
        "discovered": _number_of(Discovered.objects.filter(ignored=False)),
    }
    found = get_user_model().objects.filter(pk=user.pk).values(**counts).first() or dict.fromkeys(counts, 0)
    return found if access.may_adopt(user) else {**found, "discovered": None}


def _number_of(rows: QuerySet) -> Coalesce:
    counted = rows.order_by().annotate(one=Value(1)).values("one").annotate(n=Count("pk")).values("n")
    return Coalesce(Subquery(counted), 0)
