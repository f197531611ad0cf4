"""The accounts page as one query: what was asked (search, group, filters, order, page), and each variation's address."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import urlencode

from django.db.models import F, OuterRef, QuerySet
from django.utils.translation import gettext_lazy as _

from accounts import permissions
from accounts.attention import groups
from accounts.attention.groups import URGENCY, AccountGroup
from accounts.lib.lists.keyset_pagination import (
    COUNT_LIMIT,
    FEW,
    Order,
    Page,
    Section,
    WithoutIndex,
    counts_up_to,
    for_each,
    moment,
    page_of,
    page_of_sections,
)
from accounts.lib.lists.natural_order import natural_key
from accounts.lib.typed_text import is_key, line
from accounts.models import Account, Tag
from accounts.models.account import PLACE_LENGTH
from accounts.models.account_queries import SEARCH_LENGTH, SEARCH_WORDS
from accounts.proxies import proxy_name
from accounts.states import LISTED_STATES
from accounts.web.visible_accounts import VisibleAccounts

LISTED = tuple(dict(LISTED_STATES))
EVERY = ""  # the tab beside the groups: all of them
ORDERS = {
    "label": Order("label_key"),
    "-label": Order("label_key", descending=True),
    "since": Order("state_since", descending=True),
    "-since": Order("state_since"),
}
# Orders in sections: by group, the longest in it first; the accounts with a place, then those without one.
URGENT, BY_PLACE = "urgency", "place"
DEFAULT_ORDER = URGENT
KINDS = {
    "attention": "due",
    "waiting": "waiting",
    "offline": "failed",
    "online": "online",
}  # as chips have them
TABS = ((EVERY, _("All")), *AccountGroup.choices)
SEARCH_CUT = _("Only the first %(length)s characters and %(words)s words are searched for.")
CHOICES_SHOWN = 50
FEW_TEAMS = 10


def search_text(typed: str) -> tuple[str, str]:
    """Return what a search looks for, and a sentence if that is less than what was typed, otherwise ""."""
    text = line(typed[: 10 * SEARCH_LENGTH])
    words = text[:SEARCH_LENGTH].split()[:SEARCH_WORDS]
    whole = " ".join(words)
    cut = SEARCH_CUT % {"length": SEARCH_LENGTH, "words": SEARCH_WORDS}
    return whole, "" if whole == text else cut


@dataclass(frozen=True)
class AccountList:
    """What the accounts page was asked for; `of` ignores what it does not understand."""

    user: object
    text: str = ""
    group: str = ""
    tag: str = ""
    team: int | None = None
    proxy: int | None = None
    rack: str = ""
    order: str = DEFAULT_ORDER
    cursor: str = ""
    cut: str = ""  # a sentence if only a part of what was typed is searched for

    @classmethod
    def of(cls, user, asked) -> "AccountList":
        """Return the list that a query string asks for."""
        group = asked.get("group", "") or asked.get("state", "")  # "state": as older addresses say
        order = asked.get("sort", DEFAULT_ORDER)
        text, cut = search_text(asked.get("q", ""))
        team, proxy = asked.get("team", ""), asked.get("proxy", "")
        return cls(
            user=user,
            text=text,
            cut=cut,
            group=group if group in AccountGroup else "",
            tag=asked.get("tag", "")[:40].replace("\x00", ""),
            team=int(team) if is_key(team) and permissions.teams_of(user).filter(pk=team).exists() else None,
            proxy=int(proxy) if is_key(proxy) and proxy_name(int(proxy)) else None,
            rack=line(asked.get("rack", ""))[:PLACE_LENGTH].replace("\x00", ""),
            order=order if order in ORDERS or order in (URGENT, BY_PLACE) else DEFAULT_ORDER,
            cursor=asked.get("page", ""),
        )

    def page(self) -> Page:
        if self.order == URGENT:
            sections = {group: self._section(group) for group in ([self.group] if self.group else URGENCY)}
            return page_of_sections(
                _shown(Account.objects), sections, Order("state_since"), self.cursor, read=moment
            )
        listed = self._section(self.group)
        if self.order == BY_PLACE:
            sections = {"with": _only(listed, place_key__gt=""), "without": _only(listed, place_key="")}
            return page_of_sections(_shown(Account.objects), sections, Order("place_key"), self.cursor)
        # A cursor may name an account that has left the list, but none that the user must not see.
        anchors = Account.objects.visible_to(self.user)
        return page_of(
            _shown(listed.rows), ORDERS[self.order], self.cursor, anchors=anchors, parts=listed.parts
        )

    def selection(self) -> QuerySet:
        """Return all accounts of the list, whatever their order."""
        accounts = self._matching(self._visible.rows.kept())
        return accounts.filter(groups.in_group(self.group)) if self.group else accounts

    def tabs(self) -> list[dict]:
        """Each tab with its title, its address, and how many accounts it has; with `more`, at least so many."""
        counts = self._counts()
        return [
            {
                "group": group,
                "kind": KINDS.get(group, ""),
                "title": title,
                "query": self.query(group=group),
                "count": counts[group][0],
                "more": counts[group][1],
                "current": group == self.group,
            }
            for group, title in TABS
        ]

    # --- what to choose from ----------------------------------------------------------------------------

    def tags(self) -> QuerySet:
        """The first tags of the accounts that the user sees."""
        uses = Account.tags.through.objects.filter(tag=OuterRef("pk"))
        if self._visible.few is not None:
            uses = uses.filter(account__in=self._visible.few, account__merged_into=None)
        else:
            uses = uses.filter(for_each(self._visible.rows.kept().filter(pk=OuterRef("account"))))
        return Tag.objects.filter(for_each(uses))[:CHOICES_SHOWN]

    def racks(self) -> list[str]:
        """The first racks of the accounts that the user sees, in natural order."""
        racks = (
            self._visible.rows_without_index.kept()
            .filter(rack__gt="")
            .order_by("rack")
            .values_list("rack", flat=True)
        )
        return sorted(racks.distinct()[:CHOICES_SHOWN], key=natural_key)

    def teams(self) -> QuerySet:
        return permissions.teams_of(self.user)[:CHOICES_SHOWN]

    def query(self, **changes) -> str:
        """The query string of this list with something changed; another question begins at its first page."""
        asked = {
            "q": self.text,
            "group": self.group,
            "team": self.team,
            "tag": self.tag,
            "proxy": self.proxy,
            "rack": self.rack,
            "sort": self.order,
            "page": "",
            **changes,
        }
        if asked["sort"] == DEFAULT_ORDER:
            asked["sort"] = ""
        return "?" + urlencode({name: value for name, value in asked.items() if value not in ("", None)})

    def sorted_by(self, column: str) -> str:
        """The query string for a click on a column's head: sort by it, or reverse the order."""
        reverse = f"-{column}"
        return self.query(sort=reverse if self.order == column and reverse in ORDERS else column)

    @property
    def is_narrowed(self) -> bool:
        return bool(self.group or self.is_filtered)

    @property
    def is_filtered(self) -> bool:
        return bool(self.text or self.tag or self.team or self.rack or self.proxy is not None)

    # --- which accounts ---------------------------------------------------------------------------------

    @cached_property
    def _visible(self) -> VisibleAccounts:
        return VisibleAccounts(self.user, self.team)

    @cached_property
    def _tag(self) -> int:
        """Return the ID of the tag, or 0 if it does not exist: the database has statistics about IDs."""
        return Tag.objects.filter(name=self.tag).values_list("pk", flat=True).first() or 0

    def _matching(self, accounts: QuerySet) -> QuerySet:
        """Filter by all that was asked but the group, one account at a time."""
        if self.tag:
            uses = Account.tags.through.objects.filter(tag=self._tag, account=OuterRef("pk"))
            accounts = accounts.filter(for_each(uses))
        if self.proxy is not None:
            accounts = accounts.alias(its_proxy=WithoutIndex("proxy")).filter(its_proxy=self.proxy)
        if self.rack:
            accounts = accounts.alias(its_rack=WithoutIndex("rack")).filter(its_rack=self.rack)
        return accounts.matching(self.text)

    @cached_property
    def _found(self) -> dict[int, str] | None:
        """Return the groups of the first FEW + 1 matches by account ID. None if nothing narrows the list."""
        if self._visible.few is not None:
            found = self._visible.rows.kept()
        elif self.tag:
            found = self._visible.rows.kept().filter(tags=self._tag)
        elif self.rack:
            found = self._visible.rows.kept().filter(rack=self.rack)
        elif self.proxy is not None:
            found = self._visible.rows.kept().filter(proxy=self.proxy)
        elif self.text:
            found = self._visible.rows_without_index.kept()
        else:
            return None
        return groups.groups_of(self._matching(found).order_by()[: FEW + 1])

    @property
    def _are_few(self) -> bool:
        return self._found is not None and len(self._found) <= FEW

    def _section(self, group: str) -> Section:
        """Return the accounts of a group, or all of them, with their parts for `page_of`.

        Few matches are named by their IDs and sorted. More are met soon along the index of the order, where each
        condition is tested row by row; of several teams, along the index of each team.
        """
        if self._are_few:
            return Section(
                Account.objects.filter(pk__in=[pk for pk in self._found if group in (EVERY, self._found[pk])])
            )
        listed = self._matching(self._visible.rows_without_index.kept())
        if group == AccountGroup.ATTENTION:
            return Section(groups.needing_attention(listed))
        if group == AccountGroup.WAITING:
            return Section(groups.waiting(listed))
        teams = self._visible.teams
        if 0 < len(teams) <= FEW_TEAMS:
            along = self._matching(Account.objects.kept())
            if group:
                along = along.alias(its_state=WithoutIndex("state")).filter(
                    groups.unattended(), its_state=group
                )
            return Section(Account.objects.all(), [along.filter(team=team) for team in teams])
        return Section(listed.filter(groups.unattended(), state=group) if group else listed)

    def _counts(self) -> dict[str, tuple[int, bool]]:
        """Return for each tab how many accounts it has, and whether there are more. `EVERY` is their sum."""
        if self._found is None:
            return self._counts_of_all()
        more = not self._are_few
        numbers = Counter(list(self._found.values())[:FEW])
        return {**{group: (numbers[group], more) for group in AccountGroup}, EVERY: (numbers.total(), more)}

    def _counts_of_all(self) -> dict[str, tuple[int, bool]]:
        """Count what is in each state, which an index tells, and take off what a login or a person is at."""
        limit, rows = COUNT_LIMIT, self._visible.rows.kept()
        states = counts_up_to(limit, *(rows.filter(state=state) for state in LISTED))
        attended = groups.count_attended(self._visible.rows_without_index.kept())
        attention, waiting = (sum(numbers) for numbers in zip((0, 0), *attended.values(), strict=True))
        counts = {
            AccountGroup.ATTENTION: (min(attention, limit), attention > limit),
            AccountGroup.WAITING: (min(waiting, limit), waiting > limit),
        }
        for state, number in zip(LISTED, states, strict=True):
            off = sum(attended.get(state, ()))
            counts[state] = (max(0, min(number, limit) - off), number > limit)
        every = sum(min(number, limit) for number in states)
        more = every > limit or max(states) > limit
        return {**counts, EVERY: (min(every, limit), more)}


def _only(section: Section, **conditions) -> Section:
    return Section(section.rows.filter(**conditions), [part.filter(**conditions) for part in section.parts])


def _shown(accounts: QuerySet) -> QuerySet:
    """Return the accounts with what a row of the list shows."""
    rows = accounts.select_related("team", "assignee").defer("search_text")
    rows = rows.annotate(avatar_made=F("avatar__fetched_at"))
    return rows.with_open_attempt().prefetch_related("tags")
