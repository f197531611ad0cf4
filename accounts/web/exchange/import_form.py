"""The account form for one line of an import: the same fields and rules, but what they look up is read once for all."""

from collections.abc import Iterable
from functools import cached_property

from django import forms
from django.contrib.auth.models import Group
from django.db.models import Model, QuerySet
from django.forms.models import construct_instance
from django.utils.translation import gettext_lazy as _

from accounts import permissions
from accounts.lib.rows import in_batches
from accounts.models import Account, RecoveryPolicy, Tag, UnmanagedAccount
from accounts.web.forms import AccountForm

IDS_AT_ONCE = 500


class Known:
    """What the lines of an import name: teams, policies, tags and accounts, as far as the person may know them."""

    def __init__(self, user, wc_ids: Iterable[str], labels: Iterable[str]):
        self.user = user
        self.teams = list(permissions.teams_of(user))
        self.sees_all = permissions.sees_all(user)
        self.policies = list(RecoveryPolicy.objects.all())
        self.by_wc_id = self._accounts("wc_id", wc_ids)
        self.by_label: dict[str, list[Account]] = {}
        for account in self._accounts("label", labels, by="pk").values():
            self.by_label.setdefault(account.label, []).append(account)
        self.others = self._others(wc_ids)
        self.tags: dict[str, Tag] = {}

    def _accounts(self, column: str, values: Iterable[str], by: str = "") -> dict:
        visible = Account.objects.visible_to(self.user).filter(merged_into=None)
        found = {}
        for some in in_batches(values, IDS_AT_ONCE):
            rows = visible.filter(**{f"{column}__in": some}).select_related("team", "policy")
            for account in rows.prefetch_related("tags"):
                account.tag_names = ", ".join(tag.name for tag in account.tags.all())
                found[getattr(account, by or column)] = account
        return found

    def _others(self, wc_ids: Iterable[str]) -> set[str]:
        """Return the wcIds that the person must not enter, as `AccountForm` says for one."""
        others: set[str] = set()
        for some in in_batches(set(wc_ids) - self.by_wc_id.keys(), IDS_AT_ONCE):
            others |= set(Account.objects.filter(wc_id__in=some).values_list("wc_id", flat=True))
            if not permissions.may_adopt(self.user):
                listed = UnmanagedAccount.objects.filter(wc_id__in=some)
                others |= set(listed.values_list("wc_id", flat=True))
        return others

    @cached_property
    def may_add(self) -> bool:
        return permissions.may_add(self.user)

    @cached_property
    def may_edit(self) -> bool:
        return permissions.may_edit(self.user)

    def tags_named(self, names: list[str]) -> list[Tag]:
        for name in names:
            if name not in self.tags:
                self.tags[name] = Tag.objects.get_or_create(name=name)[0]
        return [self.tags[name] for name in names]


class NamedRowField(forms.Field):
    """A row by its name, of rows that were read before. "" for none."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.rows: list[Model] = []
        self.empty_label: object = ""
        self.queryset: QuerySet | None = None

    def to_python(self, value: object) -> Model | None:
        if value in self.empty_values or value == str(self.empty_label):
            return None
        for row in self.rows:
            if value in (row, row.pk, str(row)):
                return row
        raise forms.ValidationError(_("“%(name)s” isn’t one of your choices here."), params={"name": value})

    def has_changed(self, initial: int | None, data: object) -> bool:
        try:
            row = self.to_python(data)
        except forms.ValidationError:
            return True
        return (row and row.pk) != getattr(initial, "pk", initial)


class ImportForm(AccountForm):
    team = NamedRowField(
        required=False, error_messages={"required": _("Choose the team that the account belongs to.")}
    )
    policy = NamedRowField(required=False)

    def __init__(self, data: dict, known: Known, account: Account | None):
        self.known = known
        super().__init__({}, instance=account, user=known.user)  # None: as the form for a new account
        self.fields["team"].rows, self.fields["policy"].rows = known.teams, known.policies
        if self.fields["team"].empty_label != _("Admins only"):
            self.fields["team"].empty_label = ""
        self.given = data
        self.data = {**self._kept(), **data}

    def _kept(self) -> dict[str, object]:
        """Return what the form would send unchanged."""
        kept = {name: self.get_initial_for_field(field, name) for name, field in self.fields.items()}
        proxy = self.fields["proxy"].prepare_value(self.instance.proxy) if self.instance.pk else ""
        return kept | {"proxy": proxy}

    @cached_property
    def changed_data(self) -> list[str]:
        """Leave out what the line does not name, even if the form would write it differently today."""
        changed = super().changed_data
        return [name for name in changed if name in self.given] if self.instance.pk else changed

    def _teams(self) -> list[Group]:
        return self.known.teams

    def _is_of_others(self, wc_id: str) -> bool:
        return wc_id in self.known.others

    def _post_clean(self) -> None:
        """Check the fields as the model does, but not its constraints and keys.

        Each would ask the database again for each line. `Known` has the keys; the constraints are about columns that
        the form does not have, and about an empty wcId, which `clean_wc_id` turns into null.
        """
        self.instance = construct_instance(self, self.instance, self._meta.fields)
        exclude = self._get_validation_exclusions() | {"wc_id", "team", "policy"}
        try:
            self.instance.full_clean(exclude=exclude, validate_unique=False, validate_constraints=False)
        except forms.ValidationError as error:
            self._update_errors(error)

    def _tags(self) -> list[Tag]:
        return self.known.tags_named(self.cleaned_data["tag_names"])
