"""The accounts that a user may see, in forms from which a database plans well."""

from dataclasses import dataclass
from functools import cached_property

from django.db.models import QuerySet

from accounts import permissions
from accounts.lib.lists.keyset_pagination import FEW, ids_if_few
from accounts.models import Account
from accounts.models.account_queries import of_accounts


@dataclass(frozen=True)
class VisibleAccounts:
    """`team`: only those of this team, which the user sees."""

    user: object
    team: int | None = None

    @property
    def are_all(self) -> bool:
        return self.team is None and permissions.sees_all(self.user)

    @cached_property
    def few(self) -> list[int] | None:
        """Return their IDs if they are few. None for a user who sees every account."""
        if self.are_all:
            return None
        visible = Account.objects.visible_to(self.user)
        return ids_if_few(visible if self.team is None else visible.filter(team=self.team), FEW)

    @cached_property
    def teams(self) -> list[int]:
        """Return the IDs of the user's teams if `rows` names teams: the database has statistics about IDs."""
        if self.are_all or self.few is not None:
            return []
        if self.team is not None:
            return [self.team]
        return list(permissions.teams_of(self.user).values_list("pk", flat=True))

    @property
    def rows(self) -> QuerySet:
        if self.are_all:
            return Account.objects.all()
        if self.few is not None:
            return Account.objects.filter(pk__in=self.few)
        return Account.objects.filter(team__in=self.teams)

    def of(self, rows: QuerySet) -> QuerySet:
        """Return those of the rows that are about an account that the user may see."""
        return rows if self.are_all else of_accounts(rows, self.rows)

    @property
    def rows_without_index(self) -> QuerySet:
        """Return the same accounts, for queries that another index serves better than the teams'."""
        if self.are_all or self.few is not None:
            return self.rows
        return Account.objects.tested_for_teams(self.teams)
