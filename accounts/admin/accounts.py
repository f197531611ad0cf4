"""Admin of accounts and tags."""

from datetime import datetime

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import display_for_value, unquote
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.db.models import QuerySet
from django.http import HttpRequest
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from accounts.admin import base, display
from accounts.admin.actions import LoginActions
from accounts.admin.base import (
    AccountList,
    EveryTeams,
    LongTableAdmin,
    TypedInput,
    changed_fields,
    of_visible_accounts,
)
from accounts.admin.display import LATEST, NOTHING, link_to
from accounts.admin.review.filters import DayFilter, FieldChoices, OwnProxyFilter, TagFilter, TeamFilter
from accounts.lib.lists.keyset_pagination import FEW
from accounts.logins import expire
from accounts.maintenance import personal_data
from accounts.models import Account, AccountEvent, LoginAttempt, Tag
from accounts.models.audit import log as audit
from accounts.models.audit.entry import AuditKind
from accounts.presence import sweep
from accounts.web.account_list import VisibleAccounts
from accounts.web.fields import MomentField, future
from accounts.web.forms import AccountForm

EDITABLE = ("label", "wc_id", "proxy", "team", "tag_names", "keep_online", "relogin_at", "note")
RECOVERY = ("policy", "hours_from", "hours_until", "time_zone")


class AdminAccountForm(AccountForm):
    user = None  # set per request, on a subclass

    class Meta(AccountForm.Meta):
        fields = [*AccountForm.Meta.fields, "relogin_at"]
        field_classes = AccountForm.Meta.field_classes | {"relogin_at": MomentField}
        widgets = AccountForm.Meta.widgets | {"relogin_at": MomentField.widget}

    def __init__(self, *args, **kwargs):
        super().__init__(*args, user=self.user, **kwargs)

    def clean_relogin_at(self) -> datetime | None:
        at = self.cleaned_data["relogin_at"]
        return at if at is None or "relogin_at" not in self.changed_data else future(at)


@admin.register(Account)
class AccountAdmin(LoginActions, LongTableAdmin):
    saves_with_events = True
    form = AdminAccountForm
    list_display = (
        "name", "wc_id", "state_chip", "state_since", "outcome", "proxy_name", "team", "tag_names", "keep_online",
        "last_login_at",
    )  # fmt: skip
    list_display_links = ("name",)
    list_select_related = ("team",)
    list_filter = (
        ("state", FieldChoices), OwnProxyFilter, TeamFilter, TagFilter, ("keep_online", FieldChoices),
        ("last_login_at", DayFilter), ("first_login_at", DayFilter),
    )  # fmt: skip
    lookups = ("team",)
    sortable_by = ("name", "state_chip", "state_since")
    ordering = ("label_key", "id")
    search_fields = ("label", "nickname", "wc_id", "wechat_id")
    search_help_text = _("Search by label, nickname, wcId or WeChat ID.")
    fieldsets = (
        (None, {"fields": EDITABLE}),
        (_("Recovery after a drop"), {"fields": RECOVERY}),
        (_("Current state"), {"fields": ("state_chip", "state_since", "w_id", "proxy_name", "last_checked", "outcome")}),
        (
            _("Logins"),
            {
                "fields": (
                    "first_login_at", "last_login_at", "last_offline_at", "last_offline_reason", "created_at",
                )
            },
        ),
        (
            _("WeChat profile"),
            {"fields": ("nickname", "wechat_id", "region", "signature", "masked_mobile", "avatar_url")},
        ),
    )  # fmt: skip

    # --- columns ---

    @admin.display(description=_("label"), ordering="label_key")
    def name(self, account: Account) -> str:
        return account.display_name

    @admin.display(description=_("state"), ordering="state")
    def state_chip(self, account: Account) -> str:
        if account.merged_into_id:
            # Without its name: it may belong to another team.
            link = link_to("account", account.merged_into_id, f"#{account.merged_into_id}")
            return format_html("{} {}", _("Merged into"), link)
        return format_html(
            '<span data-account="{}" data-state="{}">{}</span>',
            account.pk,
            account.state,
            account.get_state_display(),
        )

    @admin.display(description=_("last checked"))
    def last_checked(self, account: Account) -> str:
        return display_for_value(account.last_checked(sweep.seen()), NOTHING)

    @admin.display(description=_("proxy"))
    def proxy_name(self, account: Account) -> str:
        return account.proxy_name or NOTHING

    @admin.display(description=_("tags"))
    def tag_names(self, account: Account) -> str:
        return ", ".join(tag.name for tag in account.tags.all()) or NOTHING

    @admin.display(description=_("last attempt"))
    def outcome(self, account: Account) -> str:
        if not hasattr(account, "newest_attempt"):
            account.newest_attempt = base.without_secrets(account.attempts).order_by("-id").first()
        attempt = account.newest_attempt
        if attempt is None:
            return NOTHING
        text = attempt.get_reason_display() or attempt.get_state_display()
        return format_html(
            '<a href="{}" data-attempt="{}" data-state="{}">{}</a>',
            reverse("admin:accounts_loginattempt_change", args=[attempt.pk]), attempt.pk, attempt.state, text,
        )  # fmt: skip

    @admin.display(description=_("phone number"))
    def masked_mobile(self, account: Account) -> str:
        return account.masked_mobile or NOTHING

    # --- visibility ---

    def get_changelist(self, request: HttpRequest, **kwargs) -> type[AccountList]:
        return AccountList

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return VisibleAccounts(request.user).rows

    def search(self, request: HttpRequest, queryset: QuerySet, text: str) -> tuple[QuerySet, bool]:
        if not text:
            return queryset, False
        found = list(queryset.matching(text).order_by().values_list("pk", flat=True)[: FEW + 1])
        if len(found) > FEW:
            message = gettext(
                "More than %(count)s accounts match. Showing %(count)s of them; add search terms to "
                "narrow the list."
            )
            self.message_user(request, message % {"count": FEW}, messages.WARNING)
        return queryset.filter(pk__in=found[:FEW]), False

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None):
        """Return the account. A POST locks it, so that a login that succeeds meanwhile is not overwritten."""
        if request.method == "POST":
            pk = Account._meta.pk
            try:
                locked = self.get_queryset(request).select_for_update(of=("self",), no_key=True)
                return locked.filter(pk=pk.to_python(object_id)).first()
            except (forms.ValidationError, ValueError):
                return None
        return super().get_object(request, object_id, from_field)

    def get_fieldsets(self, request: HttpRequest, obj: Account | None = None):
        if obj is None:
            return self.fieldsets[:2]
        if self.has_change_permission(request, obj):
            return self.fieldsets
        return (
            (None, {"fields": ["proxy_name" if name == "proxy" else name for name in EDITABLE]}),
            *self.fieldsets[1:],
        )

    def get_readonly_fields(self, request: HttpRequest, obj: Account | None = None) -> list[str]:
        shown = [name for _title, options in self.get_fieldsets(request, obj) for name in options["fields"]]
        return [name for name in shown if name not in (*EDITABLE, *RECOVERY)]

    def get_form(self, request: HttpRequest, obj: Account | None = None, change: bool = False, **kwargs):
        if change and not self.has_change_permission(request, obj):
            return super().get_form(request, obj, change=change, form=forms.ModelForm, **kwargs)
        form = super().get_form(request, obj, change=change, **kwargs)
        return type(form.__name__, (form,), {"user": request.user})

    def render_change_form(
        self, request: HttpRequest, context: dict, *args, obj: Account | None = None, **kwargs
    ):
        if obj is not None:
            events = of_visible_accounts(AccountEvent.objects.filter(account=obj), request.user)
            context |= {
                "latest_attempts": base.without_secrets(obj.attempts).order_by("-id")[:LATEST],
                "timeline": display.timeline(events.order_by("-id")),
                "merged_records": list(
                    Account.objects.visible_to(request.user).filter(merged_into=obj)[:LATEST]
                ),
                "may_see_events": request.user.has_perm("accounts.view_accountevent"),
                "may_see_attempts": request.user.has_perm("accounts.view_loginattempt"),
            }
        return super().render_change_form(request, context, *args, obj=obj, **kwargs)

    def history_view(self, request: HttpRequest, object_id: str, extra_context=None):
        """Lead to the account's own history: what is changed here stands there, beside all else."""
        account = self.get_object(request, unquote(object_id))
        if account is None:
            return super().history_view(request, object_id, extra_context)
        return redirect(f"{reverse('account', args=[account.pk])}#account-history")

    def change_view(self, request: HttpRequest, object_id: str, form_url: str = "", extra_context=None):
        account = self.get_object(request, unquote(object_id)) if request.method == "GET" else None
        if account is not None:
            expire.expire_on_read(account)
        return super().change_view(request, object_id, form_url, extra_context)

    # --- saving: the form saves and records who changed what ---

    def save_form(self, request: HttpRequest, form: forms.ModelForm, change: bool) -> Account:
        return form.instance

    def save_model(self, request: HttpRequest, obj: Account, form: forms.ModelForm, change: bool) -> None:
        form.save()

    def save_related(self, request: HttpRequest, form: forms.ModelForm, formsets, change: bool) -> None:
        """Save nothing: the form has saved the tags."""

    def delete_model(self, request: HttpRequest, obj: Account) -> None:
        personal_data.erase(obj)
        super().delete_model(request, obj)

    def get_actions(self, request: HttpRequest) -> dict:
        """Return the actions without bulk deletion, because deleting an account deletes its history."""
        return {
            name: action for name, action in super().get_actions(request).items() if name != "delete_selected"
        }

    def get_deleted_objects(self, objs, request: HttpRequest):
        """Return what a deletion removes. The history is shown as counts, because it may be long.

        A login attempt in progress blocks the deletion until it ends.
        """
        attempts = LoginAttempt.objects.filter(account__in=objs)
        events = AccountEvent.objects.filter(account__in=objs)
        numbers = {Account: len(objs), LoginAttempt: attempts.count(), AccountEvent: events.count()}
        counts = {model._meta.verbose_name_plural: number for model, number in numbers.items()}
        lacking = set() if self.has_delete_permission(request) else {Account._meta.verbose_name}
        return (
            [str(account) for account in objs],
            counts,
            lacking,
            [str(attempt) for attempt in attempts.open()],
        )


@admin.register(Tag)
class TagAdmin(EveryTeams, LongTableAdmin):
    search_fields = ("name",)


def name_of(group: Group) -> str:
    """Return the name of a team, or of a role in the reader's language."""
    return str(group.role) if hasattr(group, "role") else group.name


class GroupFilter(admin.RelatedFieldListFilter):
    def field_choices(self, field, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple]:
        return [(group.pk, name_of(group)) for group in Group.objects.select_related("role").order_by("name")]


class PersonAdmin(TypedInput, UserAdmin):
    readonly_fields = ("last_login", "date_joined")
    list_filter = ("is_staff", "is_superuser", "is_active", ("groups", GroupFilter))

    def formfield_for_manytomany(self, db_field, request: HttpRequest, **kwargs):
        if db_field.name == "groups":
            kwargs["queryset"] = Group.objects.select_related("role").order_by("name")
        field = super().formfield_for_manytomany(db_field, request, **kwargs)
        if db_field.name == "groups":
            field.label_from_instance = name_of
        return field

    def kind_of_change(self, message: list | str) -> AuditKind:
        """The form of a password changes nothing else."""
        return AuditKind.PASSWORD if changed_fields(message) == "password" else AuditKind.CHANGED

    def log_change(self, request: HttpRequest, obj: User, message: list | str):
        """Roles and teams are groups: what somebody has now is an entry of its own."""
        if "Groups" in changed_fields(message).split(", "):
            names = ", ".join(obj.groups.order_by("name").values_list("name", flat=True))
            audit.record(AuditKind.GROUPS, about=obj, detail=names)
        return super().log_change(request, obj, message)


class TeamAdmin(TypedInput, GroupAdmin):
    """Teams, and roles to look at: these are groups too, and code says what they may.

    Teams are deleted under People, which says first what goes with them, and tells the pages of their accounts.
    """

    list_display = ("shown", "is_role")

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return super().get_queryset(request).select_related("role")

    def get_fields(self, request: HttpRequest, obj: Group | None = None) -> tuple[str, ...]:
        return ("shown" if obj and hasattr(obj, "role") else "name", "permissions")

    def get_readonly_fields(self, request: HttpRequest, obj: Group | None = None) -> tuple[str, ...]:
        return ("shown",)

    def has_change_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return not hasattr(obj, "role") and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return False

    @admin.display(description=_("name"), ordering="name")
    def shown(self, group: Group) -> str:
        return name_of(group)

    @admin.display(description=_("role"), boolean=True)
    def is_role(self, group: Group) -> bool:
        return hasattr(group, "role")


for model, model_admin in ((User, PersonAdmin), (Group, TeamAdmin)):
    admin.site.unregister(model)
    admin.site.register(model, model_admin)
