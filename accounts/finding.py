"""Which accounts answer a question, and by which way a database comes to them without reading all accounts.

Rows that few pass a filter are found by the filter's index and taken by their ids; where many pass it, some are
among the first ones in the list's order. Which of the two it is, is looked at, never guessed.
"""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

from django.db.models import F, OuterRef, QuerySet

from accounts import permissions, search
from accounts.lib.keyset_pagination import (
    COUNT_LIMIT,
    FAR,
    FEW,
    NOT_FAR,
    Order,
    Page,
    Part,
    count_up_to,
    counts_up_to,
    for_each,
    nearest,
    page_of,
    plaited,
    without_index,
)
from accounts.models import Account, LoginAttempt, Tag
from accounts.states import AccountState

WAITING = "waiting"  # beside the states: with an open attempt
EVERY = ""
FEW_TEAMS = 10
BY_LABEL = Order("label", fold=True)
TAGS_SHOWN = 50


@dataclass(frozen=True)
class Seen:
    """The accounts that a user sees, without those that were joined with another."""

    user: object

    @property
    def accounts(self) -> QuerySet:
        accounts = Account.objects.visible_to(self.user).kept()
        if self.few is not None:
            return accounts.filter(pk__in=self.few)
        # Their ids beside their names: so the database can tell how many accounts these teams have.
        return accounts.filter(team__in=self.teams) if self.teams else accounts

    @property
    def among_found(self) -> QuerySet:
        """The same accounts, where it is not their team that they are found by: a team may have most accounts."""
        if not self.teams:
            return self.accounts
        kept = Account.objects.kept().alias(its_team=without_index(F("team")))
        return kept.filter(its_team__in=self.teams)

    @property
    def are_all(self) -> bool:
        return self.user.has_perm("accounts.view_every_account")

    @cached_property
    def few(self) -> list[int] | None:
        """The ids of all, if somebody does not see all that there are, but few."""
        if self.are_all:
            return None
        ids = list(Account.objects.visible_to(self.user).kept().values_list("pk", flat=True)[: FEW + 1])
        return ids if len(ids) <= FEW else None

    @cached_property
    def teams(self) -> list[int]:
        """The ids of the teams that they are of, where these say what is seen."""
        if self.are_all or self.few is not None:
            return []
        return list(permissions.teams_of(self.user).values_list("pk", flat=True))

    @property
    def strands(self) -> list[QuerySet]:
        """Accounts that indexes have in every order, all of these among them: those of each team, or all."""
        kept = Account.objects.kept()
        few = 0 < len(self.teams) <= FEW_TEAMS
        return [kept.filter(team=team) for team in self.teams] if few else [kept]

    def tags(self) -> QuerySet:
        """The first of the tags that they have."""
        uses = Account.tags.through.objects.filter(tag=OuterRef("pk"))
        if self.few is not None:
            uses = uses.filter(account__in=self.few)
        else:
            uses = uses.filter(for_each(self.accounts.filter(pk=OuterRef("account"))))
        return Tag.objects.filter(for_each(uses))[:TAGS_SHOWN]


@dataclass(frozen=True)
class First:
    """The states of accounts by their ids: of all that were asked for, or of the first ones."""

    states: dict[int, str]
    are_all: bool

    @classmethod
    def of(cls, accounts: QuerySet) -> "First":
        found = list(accounts.values_list("pk", "state")[: FEW + 1])
        return cls(dict(found[:FEW]), len(found) <= FEW)


@dataclass(frozen=True)
class Finding:
    """The accounts with all of some words, and with a tag, among those that a user sees."""

    seen: Seen
    text: str = ""
    tag: str = ""

    def found(self, state: str) -> QuerySet:
        """All that are in a state, by the index of what narrows them."""
        if not (self.text or self.tag):
            return _in(state, self.seen.accounts)
        accounts = self.seen.among_found
        if not self.tag:
            return _in(state, accounts.matching(self.text))
        if self._is_rare:
            return _in(state, accounts.filter(pk__in=self._uses.values("account")).read_for(self.text))
        return _in(state, accounts.filter(self._has_tag).matching(self.text))

    def one_by_one(self, state: str) -> QuerySet:
        """The same accounts, as they are best asked for among few."""
        accounts = self.seen.accounts.read_for(self.text)
        return _in(state, accounts.filter(self._has_tag) if self.tag else accounts)

    @cached_property
    def _uses(self) -> QuerySet:
        """Of the tag, by its number: so the database can tell how common it is."""
        tag = Tag.objects.filter(name=self.tag).values_list("pk", flat=True).first()
        return Account.tags.through.objects.filter(tag=tag or 0)

    @cached_property
    def _is_rare(self) -> bool:
        return count_up_to(self._uses) <= COUNT_LIMIT

    @property
    def _has_tag(self):
        return for_each(self._uses.filter(account=OuterRef("pk")))

    @property
    def waiting(self) -> QuerySet:
        """Their open attempts: there are few, and one for each account at most."""
        return LoginAttempt.objects.open().filter(
            for_each(self.one_by_one(EVERY).filter(pk=OuterRef("account")))
        )

    @cached_property
    def first(self) -> First | None:
        """None where an index counts the accounts of a state as they are."""
        if self.seen.few is not None:
            return First.of(self.one_by_one(EVERY))
        if not (self.text or self.tag):
            return None
        ways = [search.first(self.text, FEW + 1)] if self.text else []
        if self.tag:
            ways.append(list(self._uses.values_list("account", flat=True)[: FEW + 1]))
        ids = min((ids for ids in ways if ids is not None), key=len, default=None)
        if ids is not None and len(ids) <= FEW:
            return First.of(self.one_by_one(EVERY).filter(pk__in=ids))
        enough = FEW // 5
        if ids is not None and len(ways) == 1:
            some = First.of(self.seen.accounts.filter(pk__in=ids)).states
            if self.seen.are_all or len(some) >= enough:
                return First(some, are_all=False)
        along = plaited(self.seen.strands, BY_LABEL)
        near, are_all = nearest(along, self.one_by_one(EVERY), FEW + 1, "state", enough=enough)
        if are_all or len(near) >= enough:
            return First(dict(near[:FEW]), are_all)
        return First.of(self.found(EVERY))

    def page(self, state: str, order: Order, cursor: str) -> Page:
        rows, part = Account.objects.all(), None
        if state == WAITING:
            rows = rows.filter(pk__in=self.waiting.values("account"))
        elif self.first and self.first.are_all:
            rows = rows.filter(
                pk__in=[pk for pk, its_own in self.first.states.items() if state in (EVERY, its_own)]
            )
        elif 1 < len(self.seen.teams) <= FEW_TEAMS and not (self.first or state):
            part = Part(self.seen.strands)
        elif self.first or len(self.seen.teams) > 1 or (self.seen.teams and state):
            # An index of their own finds those of a state and of a rare tag; words may be in any number of accounts.
            far = FAR if self.text or (self.tag and not self._is_rare) else NOT_FAR
            part = Part(self.seen.strands, lambda: self.found(state), self.one_by_one(state), far)
        else:
            rows = _in(state, self.seen.accounts)
        rows = rows.with_open_attempt().prefetch_related("tags").defer("note")
        # A cursor may name an account that is no longer among those asked for, but none that was never seen.
        anchors = Account.objects.visible_to(self.seen.user)
        return page_of(rows, order, cursor, anchors=anchors, part=part)

    def counts(self) -> dict[str, tuple[int, bool]]:
        """How many there are in each state, or at least so many. All of them are those of all states."""
        if self.first:
            states = Counter(self.first.states.values())
            counts = {state: (states[state], not self.first.are_all) for state in AccountState.values}
            limit, waiting = FEW, count_up_to(self.waiting, FEW)
        else:
            limit, lists = COUNT_LIMIT, [self.found(state) for state in AccountState.values]
            *found, waiting = counts_up_to(limit, *lists, self.waiting)
            counts = {
                state: _capped(count, limit) for state, count in zip(AccountState.values, found, strict=True)
            }
        every = sum(count for count, _more in counts.values())
        more = every > limit or any(more for _count, more in counts.values())
        return {**counts, WAITING: _capped(waiting, limit), EVERY: (min(every, limit), more)}


def _in(state: str, accounts: QuerySet) -> QuerySet:
    return accounts.filter(state=state) if state else accounts


def _capped(count: int, limit: int) -> tuple[int, bool]:
    return min(count, limit), count > limit
