"""What can be done with the accounts selected in the list: the buttons of the bar, and the accounts a request means."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from django.db.models import QuerySet
from django.http import QueryDict
from django.urls import reverse
from django.utils.functional import Promise

from accounts.models import Account
from accounts.web.account_list import AccountList
from accounts.web.fields import is_key


@dataclass(frozen=True)
class SelectionAction:
    """A button of the selection bar. It posts `account` (IDs), or `all` and the list's query string as `filter`."""

    url_name: str
    title: str | Promise
    key: str = ""
    primary: bool = False
    allowed: Callable = lambda user: True


ACTIONS: tuple[SelectionAction, ...] = ()


def actions_of(user) -> list[dict]:
    """Return the buttons that this person may press, each with its address."""
    allowed = [action for action in ACTIONS if action.allowed(user)]
    return [{"action": action, "url": reverse(action.url_name)} for action in allowed]


def chosen(user, posted: QueryDict | Mapping) -> QuerySet:
    """Return the accounts that a post of the selection bar means, of those that the user may see."""
    if posted.get("all"):
        return AccountList.of(user, QueryDict(posted.get("filter", "").removeprefix("?"))).selection()
    ids = [int(pk) for pk in posted.getlist("account") if is_key(pk)]
    return Account.objects.visible_to(user).kept().filter(pk__in=ids)
