"""What an admin can do to many accounts at once: the same steps as their pages take, one after the other."""

import time

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.db.models.functions import Lower
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from accounts import access, login
from accounts.models import Account, LoginAttempt
from accounts.reasons import advice
from accounts.states import AccountState, Trigger
from accounts.tasks import put_into_queue, wait_for_phone

AT_ONCE = 20
CANCELLED_AT_ONCE = 50
# A code costs the upstream about a second, and much more while it is in trouble: people do not wait for ever.
BULK_SECONDS = 30


class CancelAction:
    actions = ("cancel_login",)

    def has_log_in_permission(self, request: HttpRequest) -> bool:
        return access.may_log_in(request.user)

    @admin.action(description=_("Cancel the open login"), permissions=["log_in"])
    def cancel_login(self, request: HttpRequest, queryset: QuerySet) -> None:
        """Of the accounts chosen, or the attempts chosen."""
        chosen = queryset.order_by().values("pk")
        attempts = LoginAttempt.objects.open().filter(
            **{"pk__in" if queryset.model is LoginAttempt else "account__in": chosen}
        )
        cancel(self, request, attempts)


class LoginActions(CancelAction):
    actions = ("log_in", "cancel_login")

    @admin.action(description=_("Log in (fetch a code)"), permissions=["log_in"])
    def log_in(self, request: HttpRequest, queryset: QuerySet) -> None:
        accounts = list(queryset.order_by(Lower("label"), "id")[: AT_ONCE + 1])
        if len(accounts) > AT_ONCE:
            told = gettext("At most %(limit)s accounts can be logged in at once; nothing was started.")
            self.message_user(request, told % {"limit": AT_ONCE}, messages.ERROR)
            return
        until = time.monotonic() + BULK_SECONDS
        for account in accounts:
            level, told, attempt = log_in(account, request.user, time.monotonic() < until)
            where = (
                reverse("attempt", args=[attempt.pk]) if attempt else reverse("account", args=[account.pk])
            )
            self.message_user(
                request, format_html('<a href="{}">{}</a>: {}', where, account.display_name, told), level
            )


def log_in(account: Account, by, in_time: bool) -> tuple[int, str, LoginAttempt | None]:
    """Start a login as the account's page does. Returns how that went: a level, a sentence, the attempt."""
    if account.joined_to_id:
        return messages.WARNING, gettext("Joined with another record; log that one in."), None
    if account.state == AccountState.ONLINE:
        return messages.WARNING, gettext("Is online already, and was left alone."), None
    if not in_time:
        return messages.WARNING, gettext("Not started: the upstream is slow. Select it again."), None
    attempt, begun = login.begin(account, by=by, trigger=Trigger.BULK)
    if not begun:
        return messages.INFO, gettext("A login is open already."), attempt
    if login.fetch_code(attempt):
        put_into_queue(wait_for_phone, attempt.pk)
        return messages.SUCCESS, gettext("The code is ready to be scanned."), attempt
    attempt.refresh_from_db(fields=["state", "reason", "upstream_text"])
    told = [
        attempt.get_reason_display() or attempt.get_state_display(),
        advice(attempt.reason),
        attempt.upstream_text,
    ]
    return messages.ERROR, " · ".join(str(part) for part in told if part), attempt


def cancel(model_admin: admin.ModelAdmin, request: HttpRequest, attempts: QuerySet) -> None:
    found = list(attempts.defer("qr_png").select_related("account")[: CANCELLED_AT_ONCE + 1])
    if len(found) > CANCELLED_AT_ONCE:
        told = gettext("At most %(limit)s logins can be cancelled at once; nothing was cancelled.")
        model_admin.message_user(request, told % {"limit": CANCELLED_AT_ONCE}, messages.ERROR)
        return
    done = [attempt.account.display_name for attempt in found if login.cancel(attempt, by=request.user)]
    told = ngettext(
        "%(count)s login was cancelled: %(names)s", "%(count)s logins were cancelled: %(names)s", len(done)
    )
    if done:
        model_admin.message_user(
            request, told % {"count": len(done), "names": ", ".join(done)}, messages.SUCCESS
        )
    else:
        model_admin.message_user(request, gettext("No login is open there."), messages.WARNING)
