"""What can be done with the accounts selected in the list: the buttons of the bar, and the accounts a request means."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from django.db.models import QuerySet
from django.http import QueryDict
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from accounts.bulk import actions
from accounts.lib.typed_text import is_key
from accounts.models import Account
from accounts.models.operators.bulk_run import BulkAction
from accounts.web.account_list import AccountList


@dataclass(frozen=True)
class SelectionAction:
    """A button of the selection bar. It posts `account` (IDs), or `all` and the list's query string as `filter`."""

    url_name: str
    title: str | Promise
    args: tuple = ()
    key: str = ""
    primary: bool = False
    # Also on a narrow screen, where the bar has room for three.
    always: bool = False
    allowed: Callable = lambda user: True


def _bulk(action: BulkAction, title: Promise, **how) -> SelectionAction:
    allowed = partial(lambda named, user: actions.may(user, named), action)
    return SelectionAction("prepare_bulk", title, (action.value,), allowed=allowed, **how)


ACTIONS: tuple[SelectionAction, ...] = (
    _bulk(BulkAction.LOG_IN, BulkAction.LOG_IN.label, key="s", primary=True, always=True),
    _bulk(BulkAction.PROMPT, BulkAction.PROMPT.label, key="p"),
    _bulk(BulkAction.TAG, _("Tag")),
    _bulk(BulkAction.TEAM, _("Team")),
    _bulk(BulkAction.PROXY, _("Proxy")),
    _bulk(BulkAction.PAUSE, _("Pause")),
    SelectionAction("export_accounts", _("Export"), always=True),
    SelectionAction(
        "choose_bulk",
        _("More…"),
        always=True,
        allowed=lambda user: any(actions.may(user, action) for action in BulkAction),
    ),
)


def actions_of(user) -> list[dict]:
    """Return the buttons that this person may press, each with its address."""
    allowed = [action for action in ACTIONS if action.allowed(user)]
    return [{"action": action, "url": reverse(action.url_name, args=action.args)} for action in allowed]


def chosen(user, posted: QueryDict | Mapping) -> QuerySet:
    """Return the accounts that a post of the selection bar means, of those that the user may see."""
    if posted.get("all"):
        return AccountList.of(user, QueryDict(posted.get("filter", "").removeprefix("?"))).selection()
    ids = [int(pk) for pk in posted.getlist("account") if is_key(pk)]
    return Account.objects.visible_to(user).kept().filter(pk__in=ids)
