"""Forms of the decisions about an account or an incident."""

from django import forms
from django.utils.translation import gettext_lazy as _

from accounts.web.fields import LineField

NOTE_LENGTH, INCIDENT_NOTE_LENGTH = 200, 500


class NoteForm(forms.Form):
    """An optional note: what is too long is cut, because taking something over must not wait for a form."""

    note = LineField(label=_("Note"), required=False)

    def text(self) -> str:
        return self.cleaned_data.get("note", "")[:NOTE_LENGTH] if self.is_valid() else ""


class IncidentNoteForm(forms.Form):
    text = forms.CharField(
        label=_("Note"), max_length=INCIDENT_NOTE_LENGTH, widget=forms.Textarea(attrs={"rows": 2})
    )


class PauseForm(forms.Form):
    reason = LineField(
        label=_("Reason"),
        max_length=NOTE_LENGTH,
        widget=forms.TextInput(attrs={"autofocus": True}),
        error_messages={"required": _("Say why, so that others know when to resume it.")},
    )


class SilenceForm(forms.Form):
    hours = forms.TypedChoiceField(
        label=_("No notifications for"),
        coerce=int,
        choices=[
            (1, _("1 hour")),
            (4, _("4 hours")),
            (12, _("12 hours")),
            (24, _("1 day")),
            (72, _("3 days")),
            (168, _("1 week")),
            (0, _("Notify again now")),
        ],
    )
