"""Admin of plans: their settings, the next run, and the record of every run."""

from collections import Counter
from datetime import datetime
from zoneinfo import ZoneInfo

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.widgets import AutocompleteSelectMultiple
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext, ngettext_lazy
from django.utils.translation import gettext_lazy as _

from accounts import permissions
from accounts.admin.actions import SwitchActions
from accounts.admin.base import (
    EveryTeams,
    HistoryAdmin,
    LongList,
    LongTableAdmin,
    ReadOnly,
)
from accounts.admin.display import NOTHING, duration, link_to, moment_in
from accounts.admin.review import search
from accounts.admin.review.filters import DayFilter, FieldChoices
from accounts.lib import db_clock
from accounts.lib.typed_text import is_key
from accounts.models import Plan, PlanResult, PlanRun, Team
from accounts.models.plan import WEEKDAYS, LeftOut, Outcome
from accounts.relogin import plan_choice, plan_runs

SHOWN, NAMED = 100, 20


def in_zone(moment: datetime | None, zone: ZoneInfo) -> str:
    return moment_in(moment, zone) if moment else NOTHING


def left_out(numbers: dict[str, int] | None) -> str:
    """Return the numbers in the order of LeftOut: PostgreSQL keeps none of its own."""
    numbers = numbers or {}
    return ", ".join(f"{why.label}: {numbers[why]}" for why in LeftOut if why in numbers)


def zone_of(run: PlanRun) -> ZoneInfo:
    return run.plan.zone if run.plan else timezone.get_default_timezone()


class TagChoice(AutocompleteSelectMultiple):
    def optgroups(self, name: str, value: list[str], attrs: dict | None = None) -> list:
        """Return the chosen tags. What is no ID is left out here: the field has refused it."""
        return super().optgroups(name, [key for key in value if is_key(key)], attrs)


class PlanForm(forms.ModelForm):
    weekdays = forms.MultipleChoiceField(
        label=_("Days of the week"),
        choices=WEEKDAYS,
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text=_("Use with a time of day, instead of a cron expression."),
    )

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.instance.weekdays:
            self.initial["weekdays"] = self.instance.weekdays.split(",")

    def clean_weekdays(self) -> str:
        return ",".join(sorted(self.cleaned_data["weekdays"]))


@admin.register(Plan)
class PlanAdmin(SwitchActions, EveryTeams, LongTableAdmin):
    form = PlanForm
    list_display = ("name", "active", "whom", "when", "next_run", "method", "last_run")
    list_filter = (("active", FieldChoices), ("method", FieldChoices))
    list_select_related = ("team",)
    search_fields = ("name",)
    autocomplete_fields = ("tags",)
    readonly_fields = ("next_run", "runs", "takes_now", "leaves_out")
    actions = ("run_now", *SwitchActions.actions)
    enabled = ngettext_lazy("%(count)s plan enabled.", "%(count)s plans enabled.", "count")
    disabled = ngettext_lazy("%(count)s plan disabled.", "%(count)s plans disabled.", "count")
    fieldsets = (
        (None, {"fields": ("name", "active", "next_run", "runs", "takes_now", "leaves_out")}),
        (
            _("Accounts to include"),
            {
                "fields": ("tags", "team", "state", "only_due"),
                "description": _(
                    "An account must match all of these. Paused accounts and merged records are "
                    "never included."
                ),
            },
        ),
        (
            _("When"),
            {
                "fields": ("weekdays", "at", "crontab", "time_zone"),
                "description": _(
                    "Each scheduled time runs once. After downtime, only the latest missed run is started."
                ),
            },
        ),
        (_("How to run"), {"fields": ("method", "most_a_run", "most_a_minute")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return super().get_queryset(request).prefetch_related("tags")

    def formfield_for_foreignkey(self, db_field, request: HttpRequest, **kwargs):
        if db_field.name == "team":
            kwargs["queryset"] = Team.objects.order_by("name")
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def formfield_for_manytomany(self, db_field, request: HttpRequest, **kwargs):
        if db_field.name == "tags":
            kwargs["widget"] = TagChoice(db_field, self.admin_site)
        return super().formfield_for_manytomany(db_field, request, **kwargs)

    def save_related(self, request: HttpRequest, form: forms.ModelForm, formsets, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        plan = form.instance
        if plan.next_at:
            message = gettext("Next run: %(time)s.") % {"time": in_zone(plan.next_at, plan.zone)}
            self.message_user(request, message)

    def has_run_permission(self, request: HttpRequest) -> bool:
        return self.has_change_permission(request) and permissions.may_log_in(request.user)

    @admin.action(description=_("Run now"), permissions=["run"])
    def run_now(self, request: HttpRequest, queryset: QuerySet) -> None:
        for plan in queryset:
            run = plan_runs.run_now(plan, request.user)
            if run is None or run.skipped:
                message, level = gettext("%(plan)s: the previous run is still in progress."), messages.WARNING
            elif not run.due:
                message, level = gettext("%(plan)s: no accounts to log in right now."), messages.WARNING
            else:
                message, level = (
                    gettext("%(plan)s: run started. Accounts to log in: %(number)s."),
                    messages.SUCCESS,
                )
            values = {"plan": plan.name, "number": min(run.due, plan.most_a_run) if run else 0}
            link = format_html(" {}", link_to("planrun", run.pk, run)) if run else ""
            self.message_user(request, format_html("{}{}", message % values, link), level)

    # --- columns ---

    @admin.display(description=_("would take now"))
    def takes_now(self, plan: Plan) -> str:
        """Return the accounts for which a run would start something now, as the plan is saved."""
        if not plan.pk:
            return NOTHING
        accounts, _skipped = self._dry_run(plan)
        links = ((link_to("account", account.pk, account.display_name),) for account in accounts[:NAMED])
        named = format_html_join(", ", "{}", links)
        more = ", …" if len(accounts) > NAMED else ""
        return format_html("{}{}{}{}", len(accounts), ": " if accounts else "", named, more)

    @admin.display(description=_("would leave out"))
    def leaves_out(self, plan: Plan) -> str:
        if not plan.pk:
            return NOTHING
        _accounts, skipped = self._dry_run(plan)
        choice, titles = plan.dry_run[0], dict(Outcome.choices)
        parts = [
            left_out(choice.left_out),
            *(f"{titles[result]}: {number}" for result, number in skipped.items()),
        ]
        if choice.later:
            parts.append(f"{Outcome.LEFT.label}: {len(choice.later)}")
        return ", ".join(filter(None, parts)) or NOTHING

    def _dry_run(self, plan: Plan) -> tuple[list, Counter]:
        """Return what `plan_choice.dry_run` does, once for both fields of a page."""
        if not hasattr(plan, "dry_run"):
            choice = plan_choice.choose(plan, db_clock.now())
            plan.dry_run = choice, plan_choice.dry_run(plan, choice)
        return plan.dry_run[1]

    @admin.display(description=_("next run"))
    def next_run(self, plan: Plan) -> str:
        return in_zone(plan.next_at, plan.zone) if plan.pk else NOTHING

    @admin.display(description=_("accounts"))
    def whom(self, plan: Plan) -> str:
        words = [plan.get_state_display() if plan.state else "", plan.team.name if plan.team else ""]
        words += [
            " | ".join(tag.name for tag in plan.tags.all()),
            _("due accounts only") if plan.only_due else "",
        ]
        return ", ".join(str(word) for word in words if word) or gettext("all")

    @admin.display(description=_("when"))
    def when(self, plan: Plan) -> str:
        if plan.crontab:
            return plan.crontab
        days = dict(WEEKDAYS)
        named = ", ".join(str(days[day]) for day in plan.weekdays.split(",") if day in days)
        return f"{named} {plan.at:%H:%M}"

    @admin.display(description=_("last run"))
    def last_run(self, plan: Plan) -> str:
        run = plan.runs.order_by("-pk").first()
        if run is None:
            return NOTHING
        return link_to("planrun", run.pk, in_zone(run.began_at, plan.zone))

    @admin.display(description=_("plan runs"))
    def runs(self, plan: Plan) -> str:
        if not plan.pk:
            return NOTHING
        link = reverse("admin:accounts_planrun_changelist")
        return format_html('<a href="{}?plan__id__exact={}">{}</a>', link, plan.pk, _("View runs"))


class RunList(LongList):
    """Plan runs with `numbers`: accounts by result."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        rows = PlanResult.objects.filter(run__in=[run.pk for run in self.result_list]).order_by()
        numbers: dict[int, Counter] = {run.pk: Counter() for run in self.result_list}
        for run_id, outcome, number in rows.values_list("run", "outcome").annotate(n=Count("pk")):
            numbers[run_id][outcome] = number
        for run in self.result_list:
            run.numbers = numbers[run.pk]


@admin.register(PlanRun)
class PlanRunAdmin(EveryTeams, ReadOnly, LongTableAdmin):
    """A plan run: the accounts that were due, the result of each, and what is left."""

    ordering = ("-began_at", "-id")
    list_display = ("title", "began", "took", "due", "summary", "not_chosen", "asked_by_name")
    list_display_links = ("title",)
    list_select_related = ("plan",)
    list_filter = (("began_at", DayFilter), ("method", FieldChoices))
    lookups = ("plan__id__exact",)
    fields = (
        "title",
        "scheduled",
        "began",
        "ended",
        "method",
        "asked_by_name",
        "due",
        "not_chosen",
        "skipped",
        "summary",
        "accounts",
    )
    readonly_fields = fields

    def get_changelist(self, request: HttpRequest, **kwargs) -> type[RunList]:
        return RunList

    @admin.display(description=_("plan"))
    def title(self, run: PlanRun) -> str:
        return run.plan_name or gettext("Due accounts")

    @admin.display(description=_("scheduled"))
    def scheduled(self, run: PlanRun) -> str:
        return in_zone(run.scheduled_at, zone_of(run))

    @admin.display(description=_("started"))
    def began(self, run: PlanRun) -> str:
        return in_zone(run.began_at, zone_of(run))

    @admin.display(description=_("ended"))
    def ended(self, run: PlanRun) -> str:
        return in_zone(run.ended_at, zone_of(run))

    @admin.display(description=_("duration"))
    def took(self, run: PlanRun) -> str:
        return duration(run.began_at, run.ended_at)

    @admin.display(description=_("left out"))
    def not_chosen(self, run: PlanRun) -> str:
        return left_out(run.left_out) or NOTHING

    @admin.display(description=_("results"))
    def summary(self, run: PlanRun) -> str:
        if run.skipped:
            return gettext("Skipped: the previous run was still in progress.")
        numbers = getattr(run, "numbers", None) or plan_runs.outcomes(run)
        link = reverse("admin:accounts_planresult_changelist")
        parts = [
            (link, run.pk, outcome.value, outcome.label, numbers[outcome])
            for outcome in Outcome
            if numbers.get(outcome)
        ]
        made = format_html_join(
            ", ", '<a href="{}?run__id__exact={}&amp;outcome__exact={}">{}: {}</a>', parts
        )
        return made or NOTHING

    @admin.display(description=_("accounts"))
    def accounts(self, run: PlanRun) -> str:
        rows = list(run.entries.select_related("account").order_by("pk")[: SHOWN + 1])
        if not rows:
            return NOTHING
        link = reverse("admin:accounts_planresult_changelist")
        more = (
            format_html('<li><a href="{}?run__id__exact={}">…</a></li>', link, run.pk)
            if len(rows) > SHOWN
            else ""
        )
        items = format_html_join(
            "",
            '<li data-account="{}" data-outcome="{}">{}: {} {}</li>',
            (
                (
                    row.account_id,
                    row.outcome,
                    link_to("account", row.account_id, row.account.display_name),
                    row.get_outcome_display(),
                    link_to("loginattempt", row.attempt_id, f"#{row.attempt_id}") if row.attempt_id else "",
                )
                for row in rows[:SHOWN]
            ),
        )
        return format_html("<ul>{}{}</ul>", items, more)


@admin.register(PlanResult)
class PlanResultAdmin(EveryTeams, HistoryAdmin):
    ordering = ("-id",)
    list_display = ("id", "run_link", "account_link", "outcome", "taken_at", "ended_at", "attempt_link")
    list_select_related = ("account", "run")
    list_filter = (("outcome", FieldChoices),)
    lookups = ("run__id__exact", "account__id__exact")
    search_fields = ("account__label", "account__wc_id")
    searched = search.Columns("account__search_text")
    search_help_text = _("Search by the account’s label, nickname, wcId or WeChat ID.")
    fields = (
        "run_link",
        "account_link",
        "due_at",
        "outcome",
        "taken_at",
        "next_at",
        "ended_at",
        "attempt_link",
    )
    readonly_fields = fields

    @admin.display(description=_("plan run"))
    def run_link(self, entry: PlanResult) -> str:
        return link_to("planrun", entry.run_id, entry.run)

    @admin.display(description=_("login attempt"))
    def attempt_link(self, entry: PlanResult) -> str:
        return link_to("loginattempt", entry.attempt_id, f"#{entry.attempt_id}")
