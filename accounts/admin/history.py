"""Login attempts and events, read-only."""

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.text import Truncator
from django.utils.translation import gettext_lazy as _

from accounts.admin import base, display
from accounts.admin.actions import CancelAction
from accounts.admin.base import AttemptList, HistoryAdmin, of_visible_accounts
from accounts.admin.display import LATEST, NOTHING, duration, link_to
from accounts.admin.review import search
from accounts.admin.review.filters import ActorFilter, AskedByFilter, DayFilter, FieldChoices, ProxyFilter
from accounts.lib import typed_text
from accounts.logins import expire
from accounts.models import AccountEvent, Drop, LoginAttempt, PlanResult
from accounts.reasons import advice
from accounts.states import Trigger
from accounts.web.exchange.history_columns import Columns, attempt_columns, event_columns


@admin.register(LoginAttempt)
class LoginAttemptAdmin(CancelAction, HistoryAdmin):
    ordering = ("-created_at", "-id")
    list_display = (
        "created_at",
        "account_link",
        "state_chip",
        "reason",
        "started_by",
        "proxy_name",
        "took",
        "words",
    )
    list_display_links = ("created_at",)
    list_select_related = ("account",)
    list_filter = (
        ("created_at", DayFilter), ("state", FieldChoices), ("reason", FieldChoices), ProxyFilter, AskedByFilter,
        ("trigger", FieldChoices), ("method", FieldChoices),
    )  # fmt: skip
    lookups = ("account__id__exact",)
    totals = ("state", "reason", "proxy", "asked_by")
    time_column = "created_at"
    file_name = "attempts"
    search_fields = ("account__label", "account__wc_id", "w_id")
    searched = search.Columns(
        "upstream_text", person="asked_by", person_name="asked_by_name", reason="reason"
    )
    search_help_text = _(
        "Search by account (label, nickname, wcId or WeChat ID), person, reason in any language, or a full wId. "
        "Words in quotes are found as they are written, also in the WKTeam message."
    )
    fieldsets = (
        (None, {"fields": ("account_link", "state_chip", "reason", "what_to_do", "upstream_code", "upstream_text", "other")}),
        (_("Start details"), {"fields": ("trigger", "who", "plan_run", "drop", "method", "proxy_name", "w_id")}),
        (
            _("When"),
            {"fields": ("created_at", "sent_at", "qr_shown_at", "wait_started_at", "ended_at", "took", "deadline_at")},
        ),
    )  # fmt: skip

    def get_changelist(self, request: HttpRequest, **kwargs) -> type[AttemptList]:
        return AttemptList

    def csv_columns(self, request: HttpRequest) -> Columns:
        return attempt_columns(request.user)

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return base.without_secrets(super().get_queryset(request))

    def ids_matching(self, request: HttpRequest, queryset: QuerySet, text: str) -> list[int]:
        instances = (
            queryset.filter(w_id=typed_text.code(text)).order_by("-pk").values_list("pk", flat=True)[:LATEST]
        )
        return [*instances, *super().ids_matching(request, queryset, text)]

    def get_readonly_fields(self, request: HttpRequest, obj=None) -> list[str]:
        return [name for _title, options in self.fieldsets for name in options["fields"]]

    def change_view(self, request: HttpRequest, object_id: str, form_url: str = "", extra_context=None):
        attempt = self.get_object(request, unquote(object_id))
        if attempt is not None:
            expire.expire_on_read(attempt.account)
        return super().change_view(request, object_id, form_url, extra_context)

    def render_change_form(self, request: HttpRequest, context: dict, *args, obj=None, **kwargs):
        events = of_visible_accounts(AccountEvent.objects.filter(attempt=obj), request.user)
        context |= {
            "timeline": display.timeline(events.order_by("id")),
            "may_see_events": request.user.has_perm("accounts.view_accountevent"),
        }
        return super().render_change_form(request, context, *args, obj=obj, **kwargs)

    # --- columns ---

    @admin.display(description=_("state"))
    def state_chip(self, attempt: LoginAttempt) -> str:
        return format_html(
            '<span data-attempt="{}" data-state="{}" data-reason="{}">{}</span>',
            attempt.pk, attempt.state, attempt.reason, attempt.get_state_display(),
        )  # fmt: skip

    @admin.display(description=_("how to fix"))
    def what_to_do(self, attempt: LoginAttempt) -> str:
        return advice(attempt.reason) or NOTHING

    @admin.display(description=_("operator"))
    def who(self, attempt: LoginAttempt) -> str:
        return attempt.asked_by_name or NOTHING

    @admin.display(description=_("plan run"))
    def plan_run(self, attempt: LoginAttempt) -> str:
        result = PlanResult.objects.filter(attempt=attempt).select_related("run").first()
        return link_to("planrun", result.run_id, result.run) if result else NOTHING

    @admin.display(description=_("drop"))
    def drop(self, attempt: LoginAttempt) -> str:
        """Return the drop during which the login began."""
        before = (
            Drop.objects.filter(account=attempt.account_id, at__lte=attempt.created_at)
            .order_by("-pk")
            .first()
        )
        if before is None or (before.ended_at is not None and before.ended_at < attempt.created_at):
            return NOTHING
        return link_to("drop", before.pk, before)

    @admin.display(description=_("started by"))
    def started_by(self, attempt: LoginAttempt) -> str:
        """Return the person; also what started it, unless that is the person alone."""
        trigger = "" if attempt.trigger == Trigger.OPERATOR else attempt.get_trigger_display()
        return " · ".join(filter(None, (attempt.asked_by_name, trigger))) or NOTHING

    @admin.display(description=_("proxy"))
    def proxy_name(self, attempt: LoginAttempt) -> str:
        return attempt.proxy_name or NOTHING

    @admin.display(description=_("duration"))
    def took(self, attempt: LoginAttempt) -> str:
        return duration(attempt.created_at, attempt.ended_at)

    @admin.display(description=_("WKTeam message"))
    def words(self, attempt: LoginAttempt) -> str:
        return Truncator(f"{attempt.upstream_code} {attempt.upstream_text}".strip()).chars(80) or NOTHING

    @admin.display(description=_("scanned by"))
    def other(self, attempt: LoginAttempt) -> str:
        return attempt.other_name or NOTHING


@admin.register(AccountEvent)
class AccountEventAdmin(HistoryAdmin):
    ordering = ("-at", "-id")
    list_display = ("at", "account_link", "happened", "move", "reason", "who", "attempt_link", "details")
    list_display_links = ("at",)
    list_select_related = ("account",)
    list_filter = (("at", DayFilter), ("happened", FieldChoices), ("reason", FieldChoices), ActorFilter)
    lookups = ("account__id__exact", "attempt__id__exact")
    totals = ("happened", "reason", "actor")
    time_column = "at"
    file_name = "events"
    search_fields = ("account__label", "account__wc_id")
    searched = search.Columns("detail", person="actor", person_name="actor_name", reason="reason")
    search_help_text = _(
        "Search by account (label, nickname, wcId or WeChat ID), person, or reason in any language. "
        "Words in quotes are found as they are written, also in the details."
    )
    fields = ("at", "account_link", "attempt_link", "happened", "move", "reason", "details", "who")
    readonly_fields = fields

    def csv_columns(self, request: HttpRequest) -> Columns:
        return event_columns()

    @admin.display(description=_("login attempt"))
    def attempt_link(self, event: AccountEvent) -> str:
        return link_to("loginattempt", event.attempt_id, f"#{event.attempt_id}")

    @admin.display(description=_("state change"))
    def move(self, event: AccountEvent) -> str:
        return display.state_change(event) or NOTHING

    @admin.display(description=_("details"))
    def details(self, event: AccountEvent) -> str:
        return event.words or NOTHING

    @admin.display(description=_("by"))
    def who(self, event: AccountEvent) -> str:
        return event.actor_name or NOTHING
