"""Context of every page besides its own subject. Each value is queried only if the template uses it."""

from functools import cache

from django.db.models import IntegerField, QuerySet
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from accounts import permissions
from accounts.attention import groups
from accounts.lib.rows import Counts, Given
from accounts.models import Account, Channel, Incident, Team, UnmanagedAccount
from accounts.upstream import developer_account, token_store
from accounts.web import navigation
from accounts.web.people import preferences


def upstream_alarm(request: HttpRequest) -> dict:
    """Provide what every page says about WKTeam.

    `upstream_alarm`: the row that says that WKTeam refuses access, or None. `developer_account`: what is known of
    the developer account, or None.
    """
    row = cache(token_store.access)
    return {
        "upstream_alarm": SimpleLazyObject(lambda: (found := row()) and found.refused_at and found),
        "developer_account": SimpleLazyObject(lambda: (found := row()) and developer_account.known(found)),
    }


def appearance(request: HttpRequest) -> dict:
    """Provide what a person chose for this browser.

    `theme`: "light", "dark", or "" for the one of the device. `notifications`: see `notifications_of`.
    """
    return {"theme": preferences.theme_of(request), "notifications": preferences.notifications_of(request)}


def keeping_online(request: HttpRequest) -> dict:
    """Provide what needs attention on every page, and the navigation that shows it.

    `navigation`: the pages that this person may see.
    `waiting`: the counts `attention`, `to_scan`, `incidents` and `unmanaged` (None for users who may not adopt).
    `broken_channels`: channels disabled after failures, for admins.
    """
    user = request.user
    counts = SimpleLazyObject(lambda: waiting(user))
    return {
        "navigation": SimpleLazyObject(lambda: navigation.entries(request, counts)),
        "waiting": counts,
        "broken_channels": SimpleLazyObject(
            lambda: list(Channel.objects.broken()) if user.has_perm("accounts.view_channel") else []
        ),
    }


@cache
def _counts(every_account: bool) -> Counts:
    """Return the statement of the counts, for who sees every account or for the given person."""

    def accounts(person: Given) -> QuerySet:
        return Account.objects.all() if every_account else Account.objects.of_teams_of(person)

    def tested(person: Given) -> QuerySet:
        teams = Team.objects.filter(user=person)
        return accounts(person) if every_account else Account.objects.tested_for_teams(teams)

    return Counts(
        {
            "attention": lambda person: [groups.needing_attention(tested(person).kept())],
            "to_scan": lambda person: [accounts(person).to_scan()],
            "incidents": lambda person: [Incident.objects.filter(ended_at=None).of(accounts(person))],
            "unmanaged": lambda _person: [UnmanagedAccount.objects.filter(ignored=False)],
        },
        Given(output_field=IntegerField()),
    )


def waiting(user) -> dict[str, int | None]:
    """Return all counts with one query, because every page shows them."""
    counts = _counts(permissions.sees_all(user))
    found = counts(user.pk) if user.has_perm("accounts.view_account") else dict.fromkeys(counts.queries, 0)
    return found if permissions.may_adopt(user) else {**found, "unmanaged": None}
