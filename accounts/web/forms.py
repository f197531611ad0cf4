"""Forms: accounts, the start of a login, verification codes."""

import re
from collections.abc import Callable

from django import forms
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.forms import BaseForm
from django.utils.translation import gettext_lazy as _

from accounts import permissions, proxies
from accounts.lib import db_clock, typed_text
from accounts.lib.time_windows import is_half
from accounts.logins import control
from accounts.models import Account, LoginAttempt, Tag, Team, UnmanagedAccount
from accounts.models.account_queries import keep_online_columns
from accounts.models.event import record
from accounts.proxies import proxy_choices
from accounts.states import AccountState, AttemptState, EventType
from accounts.web.fields import CodeField, DigitsField, LineField, MomentField, ZoneSelect

WC_ID = re.compile(r"[A-Za-z0-9_@.\-]{3,100}")
TAG_LIMIT = 20
HALF_HOURS = _("Enter both times or neither.")
TAG_SEPARATORS = re.compile("[,，、;；]")


def typed_tags(text: str) -> list[str]:
    """Return the tags that somebody typed, in order. Raises ValidationError."""
    names = {typed_text.line(name) for name in TAG_SEPARATORS.split(text)} - {""}
    if any(len(name) > 40 for name in names) or len(names) > TAG_LIMIT:
        raise forms.ValidationError(_("Enter at most 20 tags of up to 40 characters each."))
    return sorted(names)


def check_wc_id(wc_id: str, is_of_others: Callable[[str], bool]) -> None:
    """Raise ValidationError for a wcId that this person can't enter."""
    if not WC_ID.fullmatch(wc_id):
        raise forms.ValidationError(
            _("A wcId has 3 to 100 letters, digits, “_”, “-”, “.” or “@”, for example wxid_wl9qchkanp9u22.")
        )
    if is_of_others(wc_id):
        raise forms.ValidationError(
            _(
                "You can’t enter this wcId. Leave the field empty and log in with the account’s phone, "
                "or contact an admin."
            )
        )


class ProxyField(forms.TypedChoiceField):
    """A proxy, shown by its name. `none`: the value for no proxy; None if nothing was chosen."""

    default_error_messages = {"unchosen": _("Choose a proxy in the phone’s own region, or “None”.")}

    def __init__(self, none: int | None = None, **kwargs):
        self.none = none
        how = {"choices": proxy_choices, "empty_value": None, "required": False, "label": _("Proxy")}
        super().__init__(coerce=self._code, **how, **kwargs)

    def _code(self, value: str) -> int | None:
        return self.none if value == proxies.NONE else int(value)

    def prepare_value(self, value: object) -> object:
        return proxies.NONE if value is None else value


def ask_for_proxy(form: BaseForm) -> None:
    """Begin without a proxy: what a page shows first would be saved without anybody's choice."""
    form.initial["proxy"] = ""
    form.fields["proxy"].choices = [("", _("Choose a proxy")), *proxy_choices()]


def offer_teams(form: BaseForm, user) -> QuerySet[Team]:
    """Offer the teams that this user may give an account to. Who sees every account need not choose one."""
    field, sees_all = form.fields["team"], permissions.sees_all(user)
    field.queryset = permissions.teams_of(user)
    field.required = not sees_all
    field.empty_label = _("Admins only") if sees_all else _("Choose a team")
    return field.queryset


class AccountForm(forms.ModelForm):
    proxy = ProxyField(help_text=_("Choose a proxy in the phone’s own region and keep it."))
    tag_names = LineField(
        label=_("Tags"), required=False, max_length=400, help_text=_("Separate tags with commas.")
    )

    class Meta:
        model = Account
        fields = [
            *("label", "place", "wc_id", "proxy", "tag_names", "team", "keep_online", "note"),
            *("policy", "hours_from", "hours_until", "time_zone"),
        ]
        field_classes = {"label": LineField, "place": LineField, "wc_id": CodeField, "time_zone": CodeField}
        widgets = {
            "note": forms.Textarea(attrs={"rows": 3}),
            "hours_from": forms.TimeInput(attrs={"type": "time"}, format="%H:%M"),
            "hours_until": forms.TimeInput(attrs={"type": "time"}, format="%H:%M"),
            "time_zone": ZoneSelect,
        }
        labels = {
            "hours_from": _("Prompt hours from"),
            "hours_until": _("until"),
            "time_zone": _("time zone"),
        }
        help_texts = {
            "wc_id": _(
                "Only if the account was logged in before and you know its wcId. Otherwise leave it empty."
            ),
            "place": _(
                "Where the phone is, for example Rack 3 · Slot 10. The part before the “·” is the rack."
            ),
            "time_zone": "",
            "team": _("Members of this team can see this account and log it in."),
            "hours_until": _(
                "Phone prompts are sent automatically only during these hours. Leave empty for any time."
            ),
        }
        error_messages = {
            "label": {"required": _("Enter a label so that people can recognize the account.")},
            "team": {"required": _("Choose the team that the account belongs to.")},
        }

    def __init__(self, *args, user, **kwargs):
        super().__init__(*args, **kwargs)
        self.user = user
        teams = offer_teams(self, user)
        if "policy" in self.fields:
            self.fields["policy"].empty_label = _("Default policy")
        if self.instance.pk is None:
            ask_for_proxy(self)
            if self.fields["team"].required and len(teams) == 1:
                self.initial.setdefault("team", teams[0])
        else:
            self.initial["tag_names"] = ", ".join(tag.name for tag in self.instance.tags.all())
            self.fields["proxy"].choices = proxy_choices(self.instance.proxy)
        if self.instance.wc_id and self.instance.is_confirmed:
            self.fields["wc_id"].disabled = True
            self.fields["wc_id"].help_text = _("Set at the first login. It never changes.")
        elif self.instance.wc_id:
            self.fields["wc_id"].help_text = _("No login has confirmed it yet, so it can still be corrected.")

    def clean_wc_id(self) -> str | None:
        wc_id = self.cleaned_data["wc_id"] or None
        if wc_id is None or self.fields["wc_id"].disabled or wc_id == self.initial.get("wc_id"):
            return wc_id
        check_wc_id(wc_id, self._is_of_others)
        return wc_id

    def _is_of_others(self, wc_id: str) -> bool:
        """Return whether the wcId is another team's, or one that only an admin may adopt. One sentence says both."""
        known = Account.objects.filter(wc_id=wc_id).exclude(pk=self.instance.pk)
        if known.exists():
            return not known.visible_to(self.user).exists()
        return not permissions.may_adopt(self.user) and UnmanagedAccount.objects.filter(wc_id=wc_id).exists()

    def clean_proxy(self) -> int | None:
        """Nobody saves a proxy that nobody chose: what the page shows first is no proxy."""
        if self.instance.pk is None and self.data.get("proxy") == "":
            raise forms.ValidationError(self.fields["proxy"].error_messages["unchosen"])
        return self.cleaned_data["proxy"]

    def clean_tag_names(self) -> list[str]:
        return typed_tags(self.cleaned_data["tag_names"])

    def clean(self) -> dict:
        cleaned = super().clean()
        both = ("hours_from", "hours_until")
        if is_half(*map(cleaned.get, both)) and self.errors.keys().isdisjoint(both):
            self.add_error("hours_until", HALF_HOURS)
        return cleaned

    @property
    def has_recovery(self) -> bool:
        """Return whether a recovery setting, which is rarely needed, has a value or an error."""
        names = ("policy", "hours_from", "hours_until", "time_zone")
        return any(self[name].value() or self[name].errors for name in names)

    def changed_columns(self) -> list[str]:
        columns = {field.name for field in Account._meta.concrete_fields}
        return [name for name in self.changed_data if name in columns]

    def _what_follows(self) -> dict[str, object]:
        """Return the columns that change with keep online. What is entered in this form stays as entered."""
        if "keep_online" not in self.changed_data:
            return {}
        follows = keep_online_columns(self.cleaned_data["keep_online"])
        return {name: value for name, value in follows.items() if name not in self.changed_data}

    def save_if_free(self) -> Account | None:
        """Save. None, and an error of the field, if another request has saved an account with this wcId meanwhile."""
        try:
            return self.save()
        except IntegrityError:
            self.full_clean()
            if self.is_valid():
                raise
            return None

    def save(self, commit: bool = True) -> Account:
        """Save the account with its tags, and record who changed which fields (names, no values).

        Saves only changed fields: a login that succeeds meanwhile keeps its wId and its wcId.
        """
        with transaction.atomic():
            account, team_before = self.instance, None
            happened = EventType.CHANGED if account.pk else EventType.ADDED
            if account.pk and "team" in self.changed_data:
                mine = Account.objects.filter(pk=account.pk).select_for_update(no_key=True)
                team_before = mine.values_list("team", flat=True).first()
            follows = self._what_follows()
            for name, value in follows.items():
                setattr(account, name, value)
            if account.pk is None:
                account.save()
            else:
                columns = {name for name in self.changed_columns() if name != "wc_id"}
                account.save(update_fields=columns | follows.keys())
                if "wc_id" in self.changed_columns():
                    unconfirmed = Q(wc_id=None) | Q(state=AccountState.NEW)
                    Account.objects.filter(unconfirmed, pk=account.pk, merged_into=None).update(
                        wc_id=account.wc_id
                    )
            if "tag_names" in self.changed_data:
                account.tags.set(
                    [Tag.objects.get_or_create(name=name)[0] for name in self.cleaned_data["tag_names"]]
                )
            detail = ", ".join(self.changed_data) if happened == EventType.CHANGED else ""
            record(account, happened, detail=detail, by=self.user, team_before=team_before)
        return account


class AdoptForm(forms.Form):
    """Details of an unmanaged account that is adopted."""

    label = LineField(label=_("Label"), max_length=100, required=False)
    team = forms.ModelChoiceField(Team.objects.none(), label=_("Team"), required=False)

    def __init__(self, *args, user, **kwargs):
        super().__init__(*args, **kwargs)
        offer_teams(self, user)


class DueForm(forms.ModelForm):
    """The scheduled re-login of an account; empty for none. `sure` confirms a time that has passed."""

    sure = forms.BooleanField(required=False)

    class Meta:
        model = Account
        fields = ["relogin_at"]
        field_classes = {"relogin_at": MomentField}

    @property
    def is_question(self) -> bool:
        """Return whether the time has passed, which nobody has confirmed."""
        at = self.cleaned_data["relogin_at"]
        return at is not None and at <= db_clock.now() and not self.cleaned_data["sure"]


class StartLoginForm(forms.Form):
    """Start of a login. Without a proxy, the account's own is used.

    `sure` confirms a login of an online account.
    """

    proxy = ProxyField(none=proxies.NO_PROXY)
    sure = forms.BooleanField(required=False)
    # A new QR code as a Mac, for phones that require verification on a new device.
    mac = forms.BooleanField(required=False)


class VerificationCodeForm(forms.Form):
    code = DigitsField(
        r"^[0-9]{3,12}\Z",
        label=_("Verification code shown on the phone"),
        error_messages={
            "required": _("Enter the verification code shown on the phone."),
            "invalid": _("The verification code has 3 to 12 digits."),
        },
        widget=forms.TextInput(
            attrs={"autocomplete": "one-time-code", "inputmode": "numeric", "autofocus": True}
        ),
    )


def verify(data, attempt: LoginAttempt, *, by=None) -> tuple[VerificationCodeForm | None, bool]:
    """Send the verification code in `data`, or say that the verification page was passed.

    Returns (a form with errors or None, whether the attempt waits again: then its wait must be queued for a worker).
    """
    if attempt.state == AttemptState.PAGE_REQUIRED:
        return None, control.page_visited(attempt, by=by)
    form = VerificationCodeForm(data)
    if not form.is_valid():
        return form, False
    return None, control.submit_verification_code(attempt, form.cleaned_data["code"], by=by)


def focus(*forms: BaseForm) -> None:
    """Give the focus to the first wrong field of these forms, which one page shows; without one, to the first field."""
    fields = [(form, name) for form in forms for name in form.fields]
    form, name = next((field for field in fields if field[1] in field[0].errors), fields[0])
    form.fields[name].widget.attrs["autofocus"] = True


def form_errors(form: BaseForm) -> str:
    """Return all errors of a form as one line."""
    return " ".join(sum(form.errors.values(), []))
