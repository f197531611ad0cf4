"""Forms of a person's own settings."""

from django import forms
from django.conf import settings
from django.contrib.auth import forms as auth_forms
from django.contrib.auth.password_validation import password_validators_help_texts
from django.utils.translation import gettext_lazy as _

from accounts.models import Preferences
from accounts.models.operators.preferences import Theme


class PreferencesForm(forms.Form):
    language = forms.ChoiceField(
        label=_("Language"),
        required=False,
        choices=[("", _("Same as the browser")), *settings.LANGUAGES],
        help_text=_("In other browsers it changes when you sign in there."),
    )
    theme = forms.ChoiceField(
        label=_("Theme"), required=False, choices=[("", _("Same as the device")), *Theme.choices]
    )
    notifications = forms.BooleanField(
        label=_("Browser notifications"),
        required=False,
        help_text=_(
            "When an account needs attention and when your run is done, while you look at something else."
        ),
    )
    sound = forms.BooleanField(
        label=_("Sound"),
        required=False,
        help_text=_("A short tone at the same moments, also while you look."),
    )

    def save(self, user) -> Preferences:
        return Preferences.objects.update_or_create(user=user, defaults=self.cleaned_data)[0]


class OwnPasswordForm(auth_forms.PasswordChangeForm):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        del self.fields["old_password"].widget.attrs["autofocus"]  # it is not the first field of the page
        self.fields["new_password1"].help_text = " ".join(password_validators_help_texts())
