"""Which accounts: the queries that lists, jobs and permissions share."""

import re
from functools import reduce
from operator import or_
from typing import Self

from django.db import models
from django.db.models import Q, Value
from django.db.models.functions import Lower

from accounts.lib import typed_text
from accounts.lib.lists.keyset_pagination import InOnce, WithoutIndex, for_each
from accounts.models.login_attempt import LoginAttempt
from accounts.models.operators.role import Team
from accounts.states import AccountState

# So much of a search counts.
SEARCH_LENGTH, SEARCH_WORDS = 100, 6


# What PostgreSQL's index of three characters in a row serves.
HAS_TRIGRAM = re.compile(r"[^\W_]{3}")


class WithoutTrigrams(models.Func):
    """The same text, for a word without three characters in a row: PostgreSQL would read the whole index for it."""

    template = "%(expressions)s"
    output_field = models.TextField()

    def as_postgresql(self, compiler, connection, **extra):
        return self.as_sql(compiler, connection, template="(%(expressions)s || '')", **extra)


def keep_online_columns(wanted: bool, reason: str = "") -> dict[str, object]:
    """Return the columns of an account that follow from keep online, for writes that bypass `pause`.

    A paused account has no place in the scan queue and no scheduled re-login. The reason of a pause ends with it.
    """
    ended = {} if wanted else {"queued_for_scan_at": None, "relogin_at": None}
    return {"keep_online": wanted, "pause_reason": reason, **ended}


def of_accounts(rows: models.QuerySet, accounts: models.QuerySet) -> models.QuerySet:
    """Return those of the rows that are about one of these accounts, which is tested row by row."""
    return rows.filter(for_each(accounts.filter(pk=models.OuterRef("account"))))


class AccountQuerySet(models.QuerySet):
    def bulk_create(self, objs, *args, **kwargs) -> list:
        accounts = list(objs)
        for account in accounts:
            account.derive_sort_keys()
        return super().bulk_create(accounts, *args, **kwargs)

    def visible_to(self, user) -> Self:
        """Those of the user's teams; every one for who may see every account. Nothing for anybody else."""
        if not user.is_active or not user.has_perm("accounts.view_account"):
            return self.none()
        if user.has_perm("accounts.view_every_account"):
            return self
        return self.of_teams_of(user.pk)

    def of_teams_of(self, person: object) -> Self:
        """Those of the teams of a person, by the ID or an expression of it."""
        return self.filter(team__in=Team.objects.filter(user=person))

    def tested_for_teams(self, teams: models.QuerySet | list[int]) -> Self:
        """Those of the teams, tested account by account: where another condition leaves fewer than a team has."""
        return self.alias(its_team=WithoutIndex("team")).filter(its_team__in=teams)

    def kept(self) -> Self:
        """Without the records that were merged into another one, and without the archived ones."""
        return self.exclude(state=AccountState.ARCHIVED).filter(merged_into=None)

    def matching(self, text: str) -> Self:
        """Those with every word of `text` (at most SEARCH_WORDS) in the label, nickname, wcId or WeChat ID.

        A word counts as it is typed, and as the ID that it looks like: without quotes, full-width forms as ASCII.
        The database folds the case of the words, as it did that of the column: SQLite folds A to Z, PostgreSQL all
        letters of its locale.
        """
        found = self.alias(short_text=WithoutTrigrams("search_text"))
        for word in text.split()[:SEARCH_WORDS]:
            forms = dict.fromkeys([word, typed_text.code(word) or word])
            column = "search_text" if all(map(HAS_TRIGRAM.search, forms)) else "short_text"
            conditions = (Q((f"{column}__contains", Lower(Value(form)))) for form in forms)
            found = found.filter(reduce(or_, conditions))
        return found

    def to_scan(self) -> Self:
        """The list "To scan": those that wait for a person with the phone, the longest first."""
        waiting = self.kept().filter(queued_for_scan_at__isnull=False, keep_online=True)
        return waiting.order_by("queued_for_scan_at", "pk")

    def pause(self, reason: str = "") -> int:
        """Turn keep online off: no recovery, no scan queue, no scheduled re-login. Return how many it was on for.

        Accounts that are paused already stay as they are, with the reason that they have.
        """
        return self.filter(keep_online=True).update(**keep_online_columns(False, reason))

    def with_open_attempt(self) -> Self:
        """Each with `open_attempts`, a list of none or one."""
        open_ones = LoginAttempt.objects.open().light().select_related("asked_by")
        return self.prefetch_related(models.Prefetch("attempts", open_ones, to_attr="open_attempts"))

    def last_logins(self) -> models.QuerySet[LoginAttempt]:
        """The login in progress of each, or else its last one."""
        its_last = LoginAttempt.objects.last_of(models.OuterRef("pk"), models.OuterRef("login_seq"))
        ids = self.order_by().values(last=models.Subquery(its_last))
        return LoginAttempt.objects.filter(InOnce(models.F("pk"), ids))
