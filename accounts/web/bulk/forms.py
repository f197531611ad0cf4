"""What a bulk action needs to be told: tags, a team, a proxy, a place, a policy, a reason or a time."""

from django import forms
from django.utils.translation import gettext_lazy as _

from accounts.models import RecoveryPolicy, Team
from accounts.models.account import PLACE_LENGTH
from accounts.models.operators.bulk_run import BulkAction
from accounts.web.attention.forms import PauseForm
from accounts.web.fields import LineField, MomentField, future
from accounts.web.forms import ProxyField, ask_for_proxy, offer_teams, typed_tags


class ValueForm(forms.Form):
    """A form whose `value()` is what the run keeps; without fields for an action that needs none."""

    def __init__(self, *args, user, **kwargs):
        super().__init__(*args, **kwargs)
        self.user = user

    def value(self) -> dict:
        return {}


class TagsForm(ValueForm):
    tags = forms.CharField(label=_("Tags"), max_length=1000, help_text=_("Separate tags with commas."))

    def clean_tags(self) -> list[str]:
        names = typed_tags(self.cleaned_data["tags"])
        if not names:
            raise forms.ValidationError(_("Enter at least one tag."))
        return names

    def value(self) -> dict:
        return {"tags": self.cleaned_data["tags"]}


class TeamForm(ValueForm):
    team = forms.ModelChoiceField(Team.objects.none(), label=_("Team"))

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        offer_teams(self, self.user)

    def value(self) -> dict:
        team = self.cleaned_data["team"]
        return {"team": team and team.pk}


class ProxyForm(ValueForm):
    proxy = ProxyField()

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        ask_for_proxy(self)

    def clean_proxy(self) -> int | None:
        if self.data.get("proxy", "") == "":
            raise forms.ValidationError(self.fields["proxy"].error_messages["unchosen"])
        return self.cleaned_data["proxy"]

    def value(self) -> dict:
        return {"proxy": self.cleaned_data["proxy"]}


class PlaceForm(ValueForm):
    place = LineField(
        label=_("Place"),
        max_length=PLACE_LENGTH,
        required=False,
        help_text=_("All of them get the same place, for example With its owner. Leave empty for none."),
    )

    def value(self) -> dict:
        return {"place": self.cleaned_data["place"]}


class PolicyForm(ValueForm):
    policy = forms.ModelChoiceField(
        RecoveryPolicy.objects.all(),
        label=_("Recovery policy"),
        required=False,
        empty_label=_("Default policy"),
    )

    def value(self) -> dict:
        policy = self.cleaned_data["policy"]
        return {"policy": policy and policy.pk}


class ReasonForm(PauseForm, ValueForm):
    def value(self) -> dict:
        return {"reason": self.cleaned_data["reason"]}


class DueForm(ValueForm):
    at = MomentField(
        label=_("Re-login at"), required=False, help_text=_("Leave empty to cancel the scheduled re-login.")
    )

    def clean_at(self):
        at = self.cleaned_data["at"]
        return at and future(at)

    def value(self) -> dict:
        at = self.cleaned_data["at"]
        return {"at": at.isoformat() if at else ""}


FORMS: dict[str, type[ValueForm]] = {
    BulkAction.TAG: TagsForm,
    BulkAction.UNTAG: TagsForm,
    BulkAction.TEAM: TeamForm,
    BulkAction.PROXY: ProxyForm,
    BulkAction.PLACE: PlaceForm,
    BulkAction.POLICY: PolicyForm,
    BulkAction.PAUSE: ReasonForm,
    BulkAction.DUE: DueForm,
}


def form_for(action: str, user, data=None) -> ValueForm:
    return FORMS.get(action, ValueForm)(data, user=user)
