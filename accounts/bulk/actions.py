"""What each bulk action needs and writes: the right for it, what its value names, and the change of the accounts."""

from collections.abc import Callable
from datetime import datetime

from django.conf import settings
from django.db.models import QuerySet

from accounts import permissions
from accounts.attention import archive, pausing
from accounts.attention.changes import change
from accounts.models import Account, RecoveryPolicy, Tag
from accounts.models.account import sort_keys
from accounts.models.operators.bulk_run import BulkAction
from accounts.relogin import plan_runs
from accounts.states import EventType

A = BulkAction
# What phones notice. They are shown before they start, in any case.
NOTICED = (A.LOG_IN, A.PROMPT)


def may(user, action: str) -> bool:
    """Return whether the person may do this to the accounts that they see, as with a single account."""
    if user is None or not user.is_active:
        return False
    if action == A.CHECK:
        return permissions.may_check(user)
    logs_in = action in (*NOTICED, A.PAUSE, A.RESUME, A.DUE)
    return permissions.may_log_in(user) if logs_in else permissions.may_edit(user)


def is_possible(user, action: str, value: dict) -> bool:
    """Return whether what the value names still exists, and is for the person to choose."""
    if action == A.TEAM:
        team = value["team"]
        return (
            permissions.sees_all(user)
            if team is None
            else permissions.teams_of(user).filter(pk=team).exists()
        )
    if action == A.PROXY:
        return value["proxy"] is None or value["proxy"] in settings.WK_PROXIES
    if action == A.POLICY:
        return value["policy"] is None or RecoveryPolicy.objects.filter(pk=value["policy"]).exists()
    return True


def moment(value: dict) -> datetime | None:
    return datetime.fromisoformat(value["at"]) if value["at"] else None


# --- the changes ------------------------------------------------------------------------------------------


def write(action: str, value: dict, accounts: QuerySet[Account], by) -> None:
    """Write what the action does to these accounts, each with its event."""
    _WRITES[action](accounts, value, by)


def _update(column: str, name: str) -> Callable:
    def write_column(accounts: QuerySet[Account], value: dict, by) -> None:
        new = {column: value[name]}
        change(accounts, EventType.CHANGED, lambda rows: rows.update(**new), by=by, detail=name)

    return write_column


def _add_tags(accounts: QuerySet[Account], value: dict, by) -> None:
    tags = [Tag.objects.get_or_create(name=name)[0].pk for name in value["tags"]]
    uses = Account.tags.through

    def add(rows: QuerySet[Account]) -> None:
        ids = rows.values_list("pk", flat=True)
        new = [uses(account_id=pk, tag_id=tag) for pk in ids for tag in tags]
        uses.objects.bulk_create(new, ignore_conflicts=True)

    change(accounts, EventType.CHANGED, add, by=by, detail="tag_names")


def _remove_tags(accounts: QuerySet[Account], value: dict, by) -> None:
    uses = Account.tags.through.objects.filter(tag__name__in=value["tags"])
    remove = lambda rows: uses.filter(account__in=rows.values("pk")).delete()  # noqa: E731
    change(accounts, EventType.CHANGED, remove, by=by, detail="tag_names")


def _set_place(accounts: QuerySet[Account], value: dict, by) -> None:
    keys = sort_keys("", value["place"])
    new = {"place": value["place"], "rack": keys["rack"], "place_key": keys["place_key"]}
    change(accounts, EventType.CHANGED, lambda rows: rows.update(**new), by=by, detail="place")


_WRITES: dict[str, Callable] = {
    A.TAG: _add_tags,
    A.UNTAG: _remove_tags,
    A.TEAM: _update("team_id", "team"),
    A.PROXY: _update("proxy", "proxy"),
    A.PLACE: _set_place,
    A.POLICY: _update("policy_id", "policy"),
    A.PAUSE: lambda accounts, value, by: pausing.pause(accounts, value["reason"], by=by),
    A.RESUME: lambda accounts, value, by: pausing.resume(accounts, by=by),
    A.ARCHIVE: lambda accounts, value, by: archive.archive(accounts, by=by),
    A.DUE: lambda accounts, value, by: plan_runs.make_due(accounts, moment(value), by=by),
}
