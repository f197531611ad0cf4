"""What the rows of an import name: accounts, teams, policies and tags, read once for all of them."""

from collections.abc import Iterable
from functools import cached_property

from accounts import permissions
from accounts.lib.rows import in_batches
from accounts.models import Account, RecoveryPolicy, UnmanagedAccount
from accounts.web.exchange import columns

IDS_AT_ONCE = 500


class Known:
    """As far as the person may know them."""

    def __init__(self, user, wc_ids: Iterable[str], labels: Iterable[str]):
        self.user = user
        self.sees_all = permissions.sees_all(user)
        self.teams = {team.name: team for team in permissions.teams_of(user)}
        self.policies = {policy.name: policy for policy in RecoveryPolicy.objects.all()}
        self.by_wc_id: dict[str, Account] = {}
        self.by_label: dict[str, list[Account]] = {}
        self._read_accounts(set(wc_ids), set(labels))
        self.others = self._others(set(wc_ids) - self.by_wc_id.keys())

    def _read_accounts(self, wc_ids: set[str], labels: set[str]) -> None:
        found: dict[int, Account] = {}
        for column, values in (("wc_id", wc_ids), ("label", labels)):
            for some in in_batches(values, IDS_AT_ONCE):
                rows = self.accounts.filter(**{f"{column}__in": some})
                found |= {account.pk: account for account in rows.select_related("team", "policy")}
        columns.read_tag_names(found.values())
        for account in found.values():
            if account.wc_id in wc_ids:
                self.by_wc_id[account.wc_id] = account
            if account.label in labels:
                self.by_label.setdefault(account.label, []).append(account)

    def _others(self, wc_ids: set[str]) -> set[str]:
        """Return the wcIds that the person must not enter, as `AccountForm` says for one."""
        others: set[str] = set()
        for some in in_batches(wc_ids, IDS_AT_ONCE):
            others |= set(Account.objects.filter(wc_id__in=some).values_list("wc_id", flat=True))
            if not permissions.may_adopt(self.user):
                listed = UnmanagedAccount.objects.filter(wc_id__in=some)
                others |= set(listed.values_list("wc_id", flat=True))
        return others

    @property
    def accounts(self):
        return Account.objects.visible_to(self.user).filter(merged_into=None).defer("search_text")

    @cached_property
    def may_add(self) -> bool:
        return permissions.may_add(self.user)

    @cached_property
    def may_edit(self) -> bool:
        return permissions.may_edit(self.user)
