"""Search in history: by account, by person, by reason, and by words in quotes.

Words find what an account is called, as everywhere else. A word may also stand in the name of a person, or begin a word
of a reason in any language; the other words then name the account. Words in quotes are found as they are written, also in
what WKTeam said.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, reduce
from operator import and_, or_

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db.models import OuterRef, Q, QuerySet, Subquery, Value
from django.db.models.functions import Lower
from django.utils import translation
from django.utils.translation import gettext

from accounts.models import Account
from accounts.reasons import Reason
from accounts.web.visible_accounts import VisibleAccounts

FOUND_LIMIT = 200  # accounts
NEWEST = 1_000  # rows
READ = 100_000  # of the newest rows the texts are read for words in quotes
PEOPLE = 50
QUOTED = re.compile(r'"([^"]*)"?|“([^”]*)”?|「([^」]*)」?|『([^』]*)』?')
SHORTEST = 3  # letters of a word that may mean a reason


@dataclass(frozen=True)
class Columns:
    """Where a table of history has what is searched for; "" for what it does not have."""

    text: str
    person: str = ""
    person_name: str = ""
    reason: str = ""


@dataclass
class Search:
    """`notes`: sentences about what was not searched."""

    user: object
    rows: QuerySet
    columns: Columns
    notes: list[str] = field(default_factory=list)

    def ids(self, text: str) -> list[int]:
        """Return the IDs of the newest rows that match, at most NEWEST and one more if there are more."""
        found = (next(filter(None, groups), "").strip() for groups in QUOTED.findall(text))
        words, phrases = QUOTED.sub(" ", text).split(), list(filter(None, found))
        of_accounts = newest_of(self.rows, self._accounts(words, phrases))
        return sorted({*of_accounts, *self._otherwise(words, phrases)}, reverse=True)[: NEWEST + 1]

    def _accounts(self, words: list[str], phrases: list[str]) -> list[int]:
        matching = VisibleAccounts(self.user).rows_without_index.matching(" ".join(words))
        for phrase in phrases:
            matching = matching.filter(search_text__contains=Lower(Value(phrase)))
        found = list(matching.values_list("pk", flat=True)[: FOUND_LIMIT + 1])
        if len(found) > FOUND_LIMIT:
            note = gettext("More than %(limit)s accounts match. Showing the history of %(limit)s of them.")
            self.notes.append(note % {"limit": FOUND_LIMIT})
        return found[:FOUND_LIMIT]

    def _otherwise(self, words: list[str], phrases: list[str]) -> list[int]:
        """Return the rows that match because a word names no account."""
        meant = {word: list(self._meanings(word)) for word in words}
        conditions = [reduce(or_, ways) for ways in meant.values() if ways]
        conditions += [reduce(or_, self._ways_of_phrase(phrase)) for phrase in phrases]
        if not conditions:
            return []
        rows = self.rows.filter(reduce(and_, conditions))
        if names := [word for word, ways in meant.items() if not ways]:
            rows = rows.filter(account__in=self._accounts(names, []))
        if phrases:
            rows = rows.filter(pk__gte=self._read_from())
        return list(rows.order_by("-pk").values_list("pk", flat=True)[: NEWEST + 1])

    def _meanings(self, word: str) -> Iterator[Q]:
        if self.columns.reason and (codes := reasons(word)):
            yield Q(**{f"{self.columns.reason}__in": codes})
        if self.columns.person:
            people = get_user_model().objects.filter(username__icontains=word)
            if keys := list(people.values_list("pk", flat=True)[:PEOPLE]):
                yield Q(**{f"{self.columns.person}__in": keys})

    def _ways_of_phrase(self, phrase: str) -> Iterator[Q]:
        yield Q(**{f"{self.columns.text}__icontains": phrase})
        yield Q(account__in=self._accounts([], [phrase]))
        if self.columns.reason and (codes := reasons(phrase, whole=True)):
            yield Q(**{f"{self.columns.reason}__in": codes})
        if self.columns.person_name:
            yield Q(**{f"{self.columns.person_name}__iexact": phrase})

    def _read_from(self) -> int:
        beyond = self.rows.order_by("-pk").values_list("pk", flat=True)[READ : READ + 1]
        if oldest := next(iter(beyond), 0):
            note = gettext("Only the newest %(count)s rows were searched for the words in quotes.")
            self.notes.append(note % {"count": READ})
        return oldest


def newest_of(rows: QuerySet, accounts: list[int]) -> list[int]:
    """Return the IDs of the newest rows of these accounts, at most `NEWEST` plus one if there are more.

    If one account alone has that many, they bound the search, so that no history is read whole.
    """
    of_one = rows.filter(account=OuterRef("pk")).order_by("-pk").values("pk")[NEWEST : NEWEST + 1]
    oldest = Account.objects.filter(pk__in=accounts).values_list(Subquery(of_one), flat=True)
    since = max((pk for pk in oldest if pk is not None), default=0)
    newest = rows.filter(account__in=accounts, pk__gte=since).order_by("-pk")
    return list(newest.values_list("pk", flat=True)[: NEWEST + 1])


def reasons(text: str, whole: bool = False) -> list[str]:
    """Return the codes of the reasons that have a word that begins so, or, if it is not ASCII or `whole`, that contain it."""
    sought = text.casefold()
    if not whole and sought.isascii() and len(sought) < SHORTEST:
        return []
    anywhere = whole or not sought.isascii()
    begins = re.compile(("" if anywhere else r"(?<![^\W_])") + re.escape(sought))
    return [code for code, texts in _texts_of_reasons().items() if any(map(begins.search, texts))]


@cache
def _texts_of_reasons() -> dict[str, list[str]]:
    texts = {reason.value: [reason.value] for reason in Reason}
    for language, _name in settings.LANGUAGES:
        with translation.override(language):
            for reason in Reason:
                texts[reason.value].append(str(reason.label).casefold())
    return texts
