"""Forms of a person's own settings, of people and of teams."""

from django import forms
from django.conf import settings
from django.contrib.auth import forms as auth_forms
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.contrib.auth.password_validation import password_validators_help_texts
from django.contrib.auth.validators import UnicodeUsernameValidator
from django.utils import translation
from django.utils.translation import gettext_lazy as _

from accounts import permissions
from accounts.models import Preferences, Team
from accounts.models.operators.preferences import Theme
from accounts.roles import GROUP_NAMES, RoleCode
from accounts.web.fields import LineField, RowsField

NAME_LENGTH = 150
GIVEN_BY_LEADS = ("", RoleCode.VIEWER, RoleCode.OPERATOR)
# Also where another request takes the name between the check and the save.
USERNAME_TAKEN, TEAM_TAKEN = (
    _("Somebody has this username already."),
    _("A team with this name exists already."),
)
MORE_RIGHTS = _(
    "With this role and these teams, the person would have more rights than you. Nothing was saved."
)


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

    def save(self, commit: bool = True):
        """Save the password alone: the row may have changed since it was read, by a lock for one."""
        super().save(commit=False)
        self.user.save(update_fields=["password"])
        return self.user


class NewPasswordForm(auth_forms.SetPasswordForm):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.fields["new_password1"].help_text = " ".join(password_validators_help_texts())
        self.fields["new_password1"].widget.attrs["autofocus"] = True


class PersonForm(forms.Form):
    """Role and teams of a person, as far as `user` may give them. `role`: the one that the person has."""

    role = forms.ChoiceField(
        label=_("Role"),
        required=False,
        choices=[("", _("No role")), *RoleCode.choices],
        help_text=_(
            "Viewers see the accounts of their teams, operators also log them in and edit them, and team leads also "
            "manage the people of their teams and read the history in Admin. Auditors read everything of all teams and "
            "change nothing. Admins may do all of it for all teams. Without a role, a person sees nothing."
        ),
    )
    teams = RowsField(
        Team.objects.none(), label=_("Teams"), required=False, widget=forms.CheckboxSelectMultiple
    )

    def __init__(self, *args, user, role: str = "", **kwargs):
        super().__init__(*args, **kwargs)
        self.fields["teams"].queryset = permissions.managed_teams(user).order_by("name")
        if not permissions.may_manage_people(user):
            given = (*GIVEN_BY_LEADS, role)
            self.fields["role"].choices = [each for each in self.fields["role"].choices if each[0] in given]
            # Without one, nobody but an admin would find the person again.
            self.fields["teams"].required = True

    def refuse_more_rights(self) -> None:
        self.add_error("role", MORE_RIGHTS)


class UsernameField(LineField):
    """A username as it is saved and as a sign-in reads it: length and characters are checked after normalizing."""

    def to_python(self, value: object) -> str:
        return get_user_model().normalize_username(super().to_python(value))


class NewPersonForm(PersonForm):
    username = UsernameField(
        label=_("Username"),
        max_length=NAME_LENGTH,
        validators=[UnicodeUsernameValidator()],
        widget=forms.TextInput(
            attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}
        ),
    )
    field_order = ("username",)

    def clean_username(self) -> str:
        name = self.cleaned_data["username"]
        if get_user_model().objects.filter(username__iexact=name).exists():
            raise forms.ValidationError(USERNAME_TAKEN)
        return name


class MemberForm(forms.Form):
    """Adds a person to a team: one that the user manages and that is not in it."""

    person = forms.ModelChoiceField(
        get_user_model().objects.none(), label=_("Add a member"), empty_label=_("Choose a person")
    )

    def __init__(self, *args, team: Team, user, **kwargs):
        super().__init__(*args, **kwargs)
        self.user = user
        others = permissions.managed_people(user).filter(is_active=True).exclude(groups=team)
        self.fields["person"].queryset = permissions.with_no_more_rights(others, user).order_by("username")

    def clean_person(self):
        person = self.cleaned_data["person"]
        if not permissions.may_manage(self.user, person):
            raise forms.ValidationError(_("You can’t change this person."))
        return person


class TeamForm(forms.Form):
    name = LineField(label=_("Name"), max_length=NAME_LENGTH)

    def __init__(self, *args, team: Team | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        self.team = team

    def clean_name(self) -> str:
        name = self.cleaned_data["name"]
        if name.casefold() in _names_of_roles():
            raise forms.ValidationError(_("This is the name of a role."))
        others = Group.objects.exclude(pk=self.team.pk) if self.team else Group.objects.all()
        if others.filter(name__iexact=name).exists():
            raise forms.ValidationError(TEAM_TAKEN)
        return name


def _names_of_roles() -> set[str]:
    """Return the names that a team would be mistaken for a role by, in any language and case."""
    names = {*GROUP_NAMES.values(), *RoleCode.values}
    for language, _name in settings.LANGUAGES:
        with translation.override(language):
            names |= {str(role.label) for role in RoleCode}
    return {name.casefold() for name in names}
