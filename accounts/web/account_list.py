"""The accounts page as one query: what was asked (search, state, tag, order, page), and the address of each variation."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import urlencode

from django.db.models import OuterRef, QuerySet
from django.utils.translation import gettext_lazy as _

from accounts import permissions
from accounts.lib.lists.keyset_pagination import (
    COUNT_LIMIT,
    FEW,
    Order,
    Page,
    WithoutIndex,
    count_up_to,
    counts_up_to,
    for_each,
    ids_if_few,
    page_of,
)
from accounts.lib.typed_text import line
from accounts.models import Account, LoginAttempt, Tag
from accounts.models.account_queries import SEARCH_LENGTH, SEARCH_WORDS
from accounts.states import LISTED_STATES, AccountState

LISTED = tuple(dict(LISTED_STATES))
EVERY, WAITING = "", "waiting"  # tabs beside the states: all of them, and those with a login in progress
ORDERS = {
    "label": Order("label_key"),
    "-label": Order("label_key", descending=True),
    "state": Order("state"),
    "-state": Order("state", descending=True),
    "since": Order("state_since", descending=True),
    "-since": Order("state_since"),
}
DEFAULT_ORDER = "label"
TABS = (
    (EVERY, _("All")),
    (AccountState.ONLINE.value, _("Online")),
    (WAITING, _("Waiting")),
    (AccountState.OFFLINE.value, _("Offline")),
    (AccountState.NEW.value, _("New")),
)
SEARCH_CUT = _("Only the first %(length)s characters and %(words)s words are searched for.")
TAGS_SHOWN = 50
FEW_TEAMS = 10


def search_text(typed: str) -> tuple[str, str]:
    """Return what a search looks for, and a sentence if that is less than what was typed, otherwise ""."""
    text = line(typed[: 10 * SEARCH_LENGTH])
    words = text[:SEARCH_LENGTH].split()[:SEARCH_WORDS]
    whole = " ".join(words)
    cut = SEARCH_CUT % {"length": SEARCH_LENGTH, "words": SEARCH_WORDS}
    return whole, "" if whole == text else cut


@dataclass(frozen=True)
class VisibleAccounts:
    """The accounts that a user may see, in forms from which a database plans well."""

    user: object

    @property
    def are_all(self) -> bool:
        return permissions.sees_all(self.user)

    @cached_property
    def few(self) -> list[int] | None:
        """Return their IDs if they are few. None for a user who sees every account."""
        return None if self.are_all else ids_if_few(Account.objects.visible_to(self.user), FEW)

    @cached_property
    def teams(self) -> list[int]:
        """Return the IDs of the user's teams if `rows` names teams: the database has statistics about IDs."""
        if self.are_all or self.few is not None:
            return []
        return list(permissions.teams_of(self.user).values_list("pk", flat=True))

    @property
    def rows(self) -> QuerySet:
        if self.are_all:
            return Account.objects.all()
        if self.few is not None:
            return Account.objects.filter(pk__in=self.few)
        return Account.objects.filter(team__in=self.teams)

    @property
    def rows_without_index(self) -> QuerySet:
        """Return the same accounts, for queries that another index serves better than the teams'."""
        if self.are_all or self.few is not None:
            return self.rows
        return Account.objects.alias(its_team=WithoutIndex("team")).filter(its_team__in=self.teams)


@dataclass(frozen=True)
class AccountList:
    """What the accounts page was asked for; `of` ignores what it does not understand."""

    user: object
    text: str = ""
    state: str = ""
    tag: str = ""
    order: str = DEFAULT_ORDER
    cursor: str = ""
    cut: str = ""  # a sentence if only a part of what was typed is searched for

    @classmethod
    def of(cls, request) -> "AccountList":
        asked = request.GET
        state = asked.get("state", "")
        order = asked.get("sort", DEFAULT_ORDER)
        text, cut = search_text(asked.get("q", ""))
        return cls(
            user=request.user,
            text=text,
            cut=cut,
            state=state if state in dict(TABS) else "",
            tag=asked.get("tag", "")[:40].replace("\x00", ""),
            order=order if order in ORDERS else DEFAULT_ORDER,
            cursor=asked.get("page", ""),
        )

    def page(self) -> Page:
        rows, parts = self._listed()
        rows = rows.with_open_attempt().prefetch_related("tags").defer("note", "search_text")
        # A cursor may name an account that has left the list, but none that the user must not see.
        anchors = Account.objects.visible_to(self.user)
        return page_of(rows, ORDERS[self.order], self.cursor, anchors=anchors, parts=parts)

    def tabs(self) -> list[dict]:
        """Each tab with its title, its address, and how many accounts it has; with `more`, at least so many."""
        counts = self._counts()
        return [
            {
                "state": state,
                "title": title,
                "query": self.query(state=state),
                "count": counts[state][0],
                "more": counts[state][1],
                "current": state == self.state,
            }
            for state, title in TABS
        ]

    def tags(self) -> QuerySet:
        """The first tags of the accounts that the user sees."""
        uses = Account.tags.through.objects.filter(tag=OuterRef("pk"))
        if self._visible.few is not None:
            uses = uses.filter(account__in=self._visible.few, account__merged_into=None)
        else:
            uses = uses.filter(for_each(self._visible.rows.kept().filter(pk=OuterRef("account"))))
        return Tag.objects.filter(for_each(uses))[:TAGS_SHOWN]

    def query(self, **changes) -> str:
        """The query string of this list with something changed; another question begins at its first page."""
        asked = {
            "q": self.text,
            "state": self.state,
            "tag": self.tag,
            "sort": self.order,
            "page": "",
            **changes,
        }
        if asked["sort"] == DEFAULT_ORDER:
            asked["sort"] = ""
        return "?" + urlencode({name: value for name, value in asked.items() if value})

    def sorted_by(self, column: str) -> str:
        """The query string for a click on a column's head: sort by it, or reverse the order."""
        return self.query(sort=f"-{column}" if self.order == column else column)

    @property
    def is_narrowed(self) -> bool:
        return bool(self.text or self.state or self.tag)

    # --- which accounts ---------------------------------------------------------------------------------

    @cached_property
    def _visible(self) -> "VisibleAccounts":
        return VisibleAccounts(self.user)

    @cached_property
    def _tag(self) -> int:
        """Return the ID of the tag, or 0 if it does not exist: the database has statistics about IDs."""
        return Tag.objects.filter(name=self.tag).values_list("pk", flat=True).first() or 0

    def _matching(self, accounts: QuerySet) -> QuerySet:
        """Filter by the words and the tag, one account at a time."""
        if self.tag:
            uses = Account.tags.through.objects.filter(tag=self._tag, account=OuterRef("pk"))
            accounts = accounts.filter(for_each(uses))
        return accounts.matching(self.text)

    @cached_property
    def _found(self) -> dict[int, str] | None:
        """Return the states of the first FEW + 1 matches by account ID. None if nothing narrows the list."""
        if self._visible.few is not None:
            found = self._matching(self._visible.rows.kept())
        elif self.tag:
            found = self._visible.rows.kept().filter(tags=self._tag).matching(self.text)
        elif self.text:
            found = self._visible.rows_without_index.kept().matching(self.text)
        else:
            return None
        return dict(found.order_by().values_list("pk", "state")[: FEW + 1])

    @property
    def _are_few(self) -> bool:
        return self._found is not None and len(self._found) <= FEW

    def _listed(self) -> tuple[QuerySet, list[QuerySet]]:
        """Return the accounts of the list and, for `page_of`, their parts.

        Few matches are named by their IDs and sorted. More are met soon along the index of the order, where each
        condition is tested row by row; of several teams, along the index of each team.
        """
        if self.state == WAITING:
            return Account.objects.filter(pk__in=self._waiting.values("account")), []
        if self._are_few:
            ids = [pk for pk, state in self._found.items() if self.state in (EVERY, state)]
            return Account.objects.filter(pk__in=ids), []
        teams = self._visible.teams
        if 0 < len(teams) <= FEW_TEAMS:
            along = self._matching(Account.objects.kept())
            if self.state:
                along = along.alias(its_state=WithoutIndex("state")).filter(its_state=self.state)
            return Account.objects.all(), [along.filter(team=team) for team in teams]
        along = self._matching(self._visible.rows_without_index.kept())
        return along.filter(state=self.state) if self.state else along, []

    @property
    def _waiting(self) -> QuerySet:
        """Return the logins in progress of these accounts: at most one for each account."""
        accounts = self._matching(self._visible.rows.kept()).filter(pk=OuterRef("account"))
        return LoginAttempt.objects.open().filter(for_each(accounts))

    def _counts(self) -> dict[str, tuple[int, bool]]:
        """Return for each tab how many accounts it has, and whether there are more. `EVERY` is the sum of the states."""
        if self._found is None:
            limit, more = COUNT_LIMIT, False
            rows = self._visible.rows.kept()
            in_states = [rows.filter(state=state) for state in LISTED]
            *numbers, waiting = counts_up_to(limit, *in_states, self._waiting)
            states = dict(zip(LISTED, numbers, strict=True))
        else:
            limit, more = FEW, not self._are_few
            states = Counter(list(self._found.values())[:FEW])
            waiting = count_up_to(self._waiting, FEW)
        every = sum(min(states[state], limit) for state in LISTED)
        counts = {state: (min(states[state], limit), more or states[state] > limit) for state in LISTED}
        more = every > limit or any(is_more for _count, is_more in counts.values())
        return {**counts, WAITING: (min(waiting, limit), waiting > limit), EVERY: (min(every, limit), more)}
