"""What an account's page shows below the panel: the last 30 days, and the history with its filters."""

from urllib.parse import urlencode

from django import forms
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.lib.lists.keyset_pagination import Order, Page, page_of
from accounts.models import Account, LoginAttempt
from accounts.reports.account_days import Month, month_of
from accounts.states import FINAL_STATES, AttemptState, Method, Trigger
from accounts.web.account_rows import together

HISTORY_SIZE = 20
DROPS_SHOWN, DROPS_LISTED = 5, 50  # the others are in the table of days, as numbers


class HistoryFilter(forms.Form):
    """Filters of the history. A value that is not a choice filters nothing and is never shown again."""

    outcome = forms.ChoiceField(label=_("Outcome"), required=False)
    method = forms.ChoiceField(label=_("Method"), required=False)
    who = forms.ChoiceField(label=_("Started by"), required=False)

    def __init__(self, data, account: Account):
        super().__init__(data)
        outcomes = [(state.value, state.label) for state in AttemptState if state in FINAL_STATES]
        people = account.attempts.exclude(asked_by_name="").order_by("asked_by_name")
        names = people.values_list("asked_by_name", flat=True).distinct()
        triggers = [(f":{t.value}", t.label) for t in Trigger if t != Trigger.OPERATOR]
        self.fields["outcome"].choices = [("", _("All outcomes")), *outcomes]
        self.fields["method"].choices = [("", _("All methods")), *Method.choices]
        self.fields["who"].choices = [("", _("Anyone")), *((name, name) for name in names), *triggers]
        self.is_valid()
        self.chosen = {name: value for name, value in self.cleaned_data.items() if value}

    def narrow(self, attempts):
        conditions = {"outcome": "state", "method": "method"}
        wanted = {conditions[name]: value for name, value in self.chosen.items() if name in conditions}
        who = self.chosen.get("who", "")
        if who.startswith(":"):
            wanted["trigger"] = who[1:]
        elif who:
            wanted["asked_by_name"] = who
        return attempts.filter(**wanted)


def history_of(account: Account, chosen: HistoryFilter, cursor: str) -> Page:
    attempts = (
        LoginAttempt.objects.filter(account=account).light().select_related("asked_by", "other_account")
    )
    return page_of(
        chosen.narrow(attempts), Order("id", descending=True), cursor, HISTORY_SIZE, anchors=attempts
    )


def history_query(chosen: HistoryFilter, cursor: str = "") -> str:
    """Return the query string of a page of the history with these filters, "" for its first page without any."""
    parts = chosen.chosen | ({"page": cursor} if cursor else {})
    return f"?{urlencode(parts)}" if parts else ""


def month_shown(request: HttpRequest, account: Account) -> Month | None:
    """Return the last 30 days; each drop has `others`, how many accounts the reader sees dropped with it."""
    month = month_of(account, timezone.now(), timezone.get_current_timezone())
    if month is not None:
        shared = {drop.incident_id for drop in month.drops} - {None}
        numbers = together(shared, request.user) if shared else {}
        for drop in month.drops:
            drop.others = numbers.get(drop.incident_id, 1) - 1
    return month
