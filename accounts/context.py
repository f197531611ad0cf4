"""What every page shows beside its own subject."""

from django.conf import settings
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from accounts.models import UpstreamAccess


def upstream_alarm(request: HttpRequest) -> dict:
    """`upstream_alarm`: the row that says the upstream does not let us in, or None. Asked only where it is shown."""
    return {"upstream_alarm": SimpleLazyObject(alarm)}


def alarm() -> UpstreamAccess | None:
    """The row that says the upstream does not let us in, where one does."""
    rows = UpstreamAccess.objects.filter(base_url=settings.WK_BASE_URL, account=settings.WK_ACCOUNT)
    return rows.exclude(refused_at=None).first()
