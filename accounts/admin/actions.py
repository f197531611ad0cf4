"""Bulk actions of the admin. Accounts go through the same steps as on their pages, one after another."""

from collections.abc import Callable

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ActionForm
from django.db import transaction
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.functional import Promise
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from accounts import permissions
from accounts.attention import pausing
from accounts.logins import control
from accounts.logins import start as logins_start
from accounts.models import Account, LoginAttempt
from accounts.relogin import plan_runs
from accounts.states import AccountState, Trigger
from accounts.tasks import put_into_queue, wait_for_phone
from accounts.web.attention.forms import NOTE_LENGTH, PauseForm
from accounts.web.fields import MomentField, future

AT_ONCE = 1000
CANCELLED_AT_ONCE = 50
NAMED = 20


class CancelAction:
    actions = ("cancel_login",)

    def has_log_in_permission(self, request: HttpRequest) -> bool:
        return permissions.may_log_in(request.user)

    @admin.action(description=_("Cancel logins in progress"), permissions=["log_in"])
    def cancel_login(self, request: HttpRequest, queryset: QuerySet) -> None:
        """Cancel the logins in progress of the chosen accounts, or the chosen attempts."""
        chosen = queryset.order_by().values("pk")
        attempts = LoginAttempt.objects.open().filter(
            **{"pk__in" if queryset.model is LoginAttempt else "account__in": chosen}
        )
        cancel(self, request, attempts)


class SwitchActions:
    """Enables and disables rows by their column `active`, all or none of the chosen ones.

    `enabled` and `disabled` say how many rows are so now: lazy, with a `count`.
    """

    enabled: Promise
    disabled: Promise
    actions = ("enable", "disable")

    @admin.action(description=_("Enable"), permissions=["change"])
    def enable(self, request: HttpRequest, queryset: QuerySet) -> None:
        self._switch_all(request, queryset.filter(active=False), True)

    @admin.action(description=_("Disable"), permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet) -> None:
        self._switch_all(request, queryset.filter(active=True), False)

    def switch(self, row: Model, active: bool) -> None:
        """Save the row, with what follows from the change."""
        row.active = active
        row.save()

    def _switch_all(self, request: HttpRequest, queryset: QuerySet, active: bool) -> None:
        with transaction.atomic():
            rows = list(queryset)
            for row in rows:
                self.switch(row, active)
                self.log_change(request, row, [{"changed": {"fields": ["enabled"]}}])
        said = (self.enabled if active else self.disabled) % {"count": len(rows)}
        self.message_user(request, said, messages.SUCCESS if rows else messages.WARNING)


class AccountActionForm(ActionForm):
    """The action to run; for “Schedule re-login” the time in the portal's time zone, for “Pause” the reason."""

    # Validated only by the action that uses it: a wrong one must not block the other actions.
    reason = forms.CharField(label=_("Reason (to pause):"), required=False, max_length=NOTE_LENGTH)
    due_at = forms.CharField(label=_("Re-login at:"), required=False, widget=MomentField.widget)


class LoginActions(CancelAction):
    actions = ("log_in", "cancel_login", "pause", "resume", "make_due", "clear_due")
    action_form = AccountActionForm

    @admin.action(description=_("Pause"), permissions=["log_in"])
    def pause(self, request: HttpRequest, queryset: QuerySet) -> None:
        form = PauseForm(request.POST)
        if not form.is_valid():
            message = gettext("“Pause”: %(why)s Nothing was changed.")
            self.message_user(request, message % {"why": " ".join(form.errors["reason"])}, messages.ERROR)
            return
        number = pausing.pause(of_nobody_else(queryset), form.cleaned_data["reason"], by=request.user)
        message = ngettext("%(count)s account paused.", "%(count)s accounts paused.", number)
        self.message_user(request, message % {"count": number}, messages.SUCCESS)

    @admin.action(description=_("Resume"), permissions=["log_in"])
    def resume(self, request: HttpRequest, queryset: QuerySet) -> None:
        number = pausing.resume(of_nobody_else(queryset), by=request.user)
        message = ngettext("%(count)s account resumed.", "%(count)s accounts resumed.", number)
        self.message_user(request, message % {"count": number}, messages.SUCCESS)

    def has_make_due_permission(self, request: HttpRequest) -> bool:
        return permissions.may_log_in(request.user) and permissions.may_edit(request.user)

    @admin.action(description=_("Schedule re-login"), permissions=["make_due"])
    def make_due(self, request: HttpRequest, queryset: QuerySet) -> None:
        try:
            at = future(MomentField().clean(request.POST.get("due_at")))
        except forms.ValidationError as error:
            message = gettext("“Re-login at”: %(why)s Nothing was changed.")
            self.message_user(request, message % {"why": " ".join(error.messages)}, messages.ERROR)
            return
        number = plan_runs.make_due(of_nobody_else(queryset), at, request.user)
        message = ngettext(
            "Re-login scheduled for %(count)s account at %(time)s.",
            "Re-login scheduled for %(count)s accounts at %(time)s.",
            number,
        )
        when = date_format(timezone.localtime(at), "SHORT_DATETIME_FORMAT")
        self.message_user(request, message % {"count": number, "time": when}, messages.SUCCESS)

    @admin.action(description=_("Cancel scheduled re-login"), permissions=["make_due"])
    def clear_due(self, request: HttpRequest, queryset: QuerySet) -> None:
        number = plan_runs.make_due(of_nobody_else(queryset).exclude(relogin_at=None), None, request.user)
        message = ngettext(
            "Scheduled re-login cancelled for %(count)s account.",
            "Scheduled re-login cancelled for %(count)s accounts.",
            number,
        )
        self.message_user(request, message % {"count": number}, messages.SUCCESS)

    @admin.action(description=_("Log in (get QR codes)"), permissions=["log_in"])
    def log_in(self, request: HttpRequest, queryset: QuerySet) -> None:
        accounts = list(queryset.order_by("label_key", "id")[: AT_ONCE + 1])
        if len(accounts) > AT_ONCE:
            message = gettext("You can log in at most %(limit)s accounts at a time. Nothing was started.")
            self.message_user(request, message % {"limit": AT_ONCE}, messages.ERROR)
            return
        outcomes: dict[str, list[Account]] = {}
        for account in accounts:
            outcomes.setdefault(start(account, request.user), []).append(account)
        for outcome, those in outcomes.items():
            level, sentence = OUTCOMES[outcome]
            message = format_html("{} {}", sentence(len(those)), links(those))
            self.message_user(request, message, level)


def of_nobody_else(queryset: QuerySet) -> QuerySet:
    """Return the chosen accounts without merged records, as rows that can be locked."""
    return Account.objects.kept().filter(pk__in=queryset.order_by().values("pk"))


def start(account: Account, by) -> str:
    """Queue a login: a worker with a free slot requests the QR code. Return a key of OUTCOMES."""
    if account.merged_into_id:
        return "merged"
    if account.state == AccountState.ONLINE:
        return "online"
    attempt, begun = logins_start.start_login(account, by=by, trigger=Trigger.BULK, queued=True)
    if not begun:
        return "open"
    put_into_queue(wait_for_phone, attempt.pk)
    return "started"


def links(accounts: list[Account]) -> str:
    named = format_html_join(
        ", ",
        '<a href="{}">{}</a>',
        ((reverse("account", args=[a.pk]), a.display_name) for a in accounts[:NAMED]),
    )
    return format_html("{}, …", named) if len(accounts) > NAMED else named


OUTCOMES: dict[str, tuple[int, Callable[[int], str]]] = {
    "started": (
        messages.SUCCESS,
        lambda n: (
            ngettext(
                "%(count)s login started. Its QR code appears as soon as a worker is free:",
                "%(count)s logins started. Each QR code appears as soon as a worker is free:",
                n,
            )
            % {"count": n}
        ),
    ),
    "open": (
        messages.INFO,
        lambda n: (
            ngettext(
                "%(count)s account already has a login in progress:",
                "%(count)s accounts already have a login in progress:",
                n,
            )
            % {"count": n}
        ),
    ),
    "online": (
        messages.WARNING,
        lambda n: (
            ngettext(
                "%(count)s account is already online and was skipped:",
                "%(count)s accounts are already online and were skipped:",
                n,
            )
            % {"count": n}
        ),
    ),
    "merged": (
        messages.WARNING,
        lambda n: (
            ngettext(
                "%(count)s account was merged into another record. Log in that record instead:",
                "%(count)s accounts were merged into other records. Log in those records instead:",
                n,
            )
            % {"count": n}
        ),
    ),
}


def cancel(model_admin: admin.ModelAdmin, request: HttpRequest, attempts: QuerySet) -> None:
    found = list(attempts.defer("qr_png").select_related("account")[: CANCELLED_AT_ONCE + 1])
    if len(found) > CANCELLED_AT_ONCE:
        message = gettext("You can cancel at most %(limit)s logins at a time. Nothing was cancelled.")
        model_admin.message_user(request, message % {"limit": CANCELLED_AT_ONCE}, messages.ERROR)
        return
    done = [attempt.account.display_name for attempt in found if control.cancel(attempt, by=request.user)]
    message = ngettext(
        "%(count)s login cancelled: %(names)s", "%(count)s logins cancelled: %(names)s", len(done)
    )
    if done:
        model_admin.message_user(
            request, message % {"count": len(done), "names": ", ".join(done)}, messages.SUCCESS
        )
    else:
        model_admin.message_user(
            request, gettext("No logins in progress in your selection."), messages.WARNING
        )
