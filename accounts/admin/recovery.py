"""Admin of recovery: policies, and every drop of every account."""

from django.contrib import admin
from django.db.models import Count, OuterRef, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from accounts.admin.base import EveryTeams, HistoryAdmin, LongTableAdmin, ReadOnly, TypedInput
from accounts.admin.display import LATEST, NOTHING, duration, in_common, link_to, link_to_list
from accounts.admin.review import search
from accounts.admin.review.filters import DayFilter, FieldChoices, ProxyFilter
from accounts.lib.lists.keyset_pagination import Number
from accounts.models import Drop, Incident, LoginAttempt, RecoveryPolicy
from accounts.proxies import proxy_name
from accounts.web.exchange.history_columns import Columns, drop_columns


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


@admin.register(Incident)
class IncidentAdmin(EveryTeams, ReadOnly, LongTableAdmin):
    """Incidents with how many accounts dropped, and how many of them are not back."""

    ordering = ("-id",)
    list_display = ("started", "in_common", "drop_count", "open_count", "ended_at", "assignee", "open_page")
    list_display_links = ("started",)
    list_select_related = ("assignee",)
    list_filter = (("at", DayFilter),)
    fields = (
        *("at", "last_drop_at", "ended_at", "in_common", "drop_count", "open_count"),
        *("assignee", "assignment_note", "deliveries", "open_page"),
    )
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        drops = Drop.objects.filter(incident=OuterRef("pk"))
        return (
            super().get_queryset(request).annotate(drops_seen=Number(drops), open_seen=Number(drops.open()))
        )

    @admin.display(description=_("started"))
    def started(self, incident: Incident):
        return incident.at

    @admin.display(description=_("in common"))
    def in_common(self, incident: Incident) -> str:
        return in_common(incident) or NOTHING

    @admin.display(description=_("drops"))
    def drop_count(self, incident: Incident) -> str:
        return link_to_list("drop", incident.drops_seen, incident__exact=incident.pk)

    @admin.display(description=_("still offline"))
    def open_count(self, incident: Incident) -> int:
        return incident.open_seen

    @admin.display(description=_("deliveries"))
    def deliveries(self, incident: Incident) -> str:
        return link_to_list("delivery", _("View all deliveries"), notification__incident__exact=incident.pk)

    @admin.display(description=_("page"))
    def open_page(self, incident: Incident) -> str:
        return format_html('<a href="{}">{}</a>', reverse("incident", args=[incident.pk]), _("Open page"))


@admin.register(Drop)
class DropAdmin(HistoryAdmin):
    ordering = ("-at", "-id")
    list_display = (
        "at", "account_link", "kind", "detected_by", "proxy_name", "recovery", "prompts_sent", "offline_for", "words",
    )  # fmt: skip
    list_display_links = ("at",)
    list_select_related = ("account",)
    list_filter = (
        ("at", DayFilter), ("kind", FieldChoices), ProxyFilter, ("detected_by", FieldChoices),
        ("next_step", FieldChoices), ("ended_by", FieldChoices),
    )  # fmt: skip
    lookups = ("incident__exact", "account__id__exact")
    totals = ("kind", "proxy", "next_step", "ended_by")
    time_column = "at"
    file_name = "drops"
    searched = search.Columns("reason_text")
    search_help_text = _(
        "Search by account (label, nickname, wcId or WeChat ID). "
        "Words in quotes are found as they are written, also in the WKTeam message."
    )
    search_fields = ("account__label", "account__wc_id")
    fields = (
        *(
            "at",
            "account_link",
            "incident_link",
            "kind",
            "detected_by",
            "online_since",
            "proxy_name",
            "region",
            "words",
        ),
        *(
            "recovery",
            "next_at",
            "prompts_sent",
            "ended_at",
            "offline_for",
            "logins",
            "deliveries",
        ),
    )
    readonly_fields = fields

    def csv_columns(self, request: HttpRequest) -> Columns:
        return drop_columns()

    @admin.display(description=_("incident"))
    def incident_link(self, drop: Drop) -> str:
        return link_to("incident", drop.incident_id, f"#{drop.incident_id}")

    @admin.display(description=_("logins meanwhile"))
    def logins(self, drop: Drop) -> str:
        """Return the logins that began from the drop to its end, as links."""
        attempts = LoginAttempt.objects.filter(account=drop.account_id, created_at__gte=drop.at)
        if drop.ended_at is not None:
            attempts = attempts.filter(created_at__lte=drop.ended_at)
        found = attempts.order_by("-pk").only("state")[:LATEST]
        return (
            format_html_join(", ", "{}", ((link_to("loginattempt", one.pk, one),) for one in found))
            or NOTHING
        )

    @admin.display(description=_("deliveries"))
    def deliveries(self, drop: Drop) -> str:
        return link_to_list("delivery", _("View all deliveries"), notification__drop__exact=drop.pk)

    @admin.display(description=_("recovery"))
    def recovery(self, drop: Drop) -> str:
        if drop.ended_at is None:
            return drop.get_next_step_display()
        return drop.get_ended_by_display() or gettext("Back without the portal")

    @admin.display(description=_("offline for"))
    def offline_for(self, drop: Drop) -> str:
        return duration(drop.at, drop.ended_at)

    @admin.display(description=_("proxy"))
    def proxy_name(self, drop: Drop) -> str:
        return proxy_name(drop.proxy) or NOTHING

    @admin.display(description=_("WKTeam message"))
    def words(self, drop: Drop) -> str:
        return drop.reason_text or NOTHING
