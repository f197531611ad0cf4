"""What every page shows beside its own subject. Each is asked for only where it is shown."""

from django.contrib.auth import get_user_model
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from accounts import permissions
from accounts.lib.keyset_pagination import Number
from accounts.models import Account, Channel, Incident, UnmanagedAccount
from accounts.upstream import token_store


def upstream_alarm(request: HttpRequest) -> dict:
    """`upstream_alarm`: the row that says the upstream does not let us in, or None."""
    return {"upstream_alarm": SimpleLazyObject(token_store.refused)}


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
    counts = {
        "to_scan": Number(accounts.to_scan()),
        "incidents": Number(Incident.objects.filter(ended_at=None).of(accounts)),
        "discovered": Number(UnmanagedAccount.objects.filter(ignored=False)),
    }
    found = get_user_model().objects.filter(pk=user.pk).values(**counts).first() or dict.fromkeys(counts, 0)
    return found if permissions.may_adopt(user) else {**found, "discovered": None}
