"""Admin of recovery: policies, and every drop of every account."""

from django.contrib import admin
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from accounts.admin.base import EveryTeams, HistoryAdmin, TypedInput
from accounts.admin.display import NOTHING
from accounts.admin.filters import DayFilter
from accounts.models import Drop, RecoveryPolicy
from accounts.proxies import proxy_name


@admin.register(RecoveryPolicy)
class RecoveryPolicyAdmin(EveryTeams, TypedInput, admin.ModelAdmin):
    list_display = (
        "__str__",
        "is_default",
        "popup",
        "prompts_a_day",
        "prompts_a_minute",
        "hours",
        "scan",
        "used_by",
    )
    fieldsets = (
        (None, {"fields": ("name", "is_default")}),
        (
            _("Phone prompts"),
            {"fields": ("popup", "prompts_a_day", "prompts_a_minute", "pause_minutes")},
        ),
        (
            _("Prompt hours"),
            {
                "fields": ("hours_from", "hours_until", "time_zone"),
                "description": _("Leave empty for any time. Each account’s own prompt hours also apply."),
            },
        ),
        (_("If prompts fail"), {"fields": ("scan",)}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return super().get_queryset(request).annotate(accounts_count=Count("accounts"))

    @admin.display(description=_("hours"))
    def hours(self, policy: RecoveryPolicy) -> str:
        if not policy.has_hours:
            return NOTHING
        return f"{policy.hours_from:%H:%M}–{policy.hours_until:%H:%M} {policy.zone.key}"

    @admin.display(description=_("accounts using it"))
    def used_by(self, policy: RecoveryPolicy) -> int:
        return policy.accounts_count


@admin.register(Drop)
class DropAdmin(HistoryAdmin):
    ordering = ("-at", "-id")
    list_display = (
        "at",
        "account_link",
        "kind",
        "detected_by",
        "next_step",
        "prompts_sent",
        "ended_at",
        "ended_by",
        "words",
    )
    list_display_links = ("at",)
    list_select_related = ("account",)
    list_filter = ("kind", ("at", DayFilter))
    lookups = ("kind__exact", "incident__exact", "account__id__exact")
    search_fields = ("account__label", "account__wc_id")
    fields = (
        *(
            "at",
            "account_link",
            "incident",
            "kind",
            "detected_by",
            "online_since",
            "proxy_name",
            "region",
            "words",
        ),
        *("next_step", "next_at", "prompts_sent", "ended_at", "ended_by"),
    )
    readonly_fields = fields

    @admin.display(description=_("proxy"))
    def proxy_name(self, drop: Drop) -> str:
        return proxy_name(drop.proxy) or NOTHING

    @admin.display(description=_("WKTeam message"))
    def words(self, drop: Drop) -> str:
        return drop.reason_text or NOTHING
