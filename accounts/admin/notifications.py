"""Admin of channels with their rules.

A channel's address is entered here and never shown again, not even to the person who entered it.
"""

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import OuterRef, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.loader import render_to_string
from django.urls import path, reverse
from django.utils.translation import gettext, ngettext_lazy
from django.utils.translation import gettext_lazy as _

from accounts import permissions
from accounts.admin.actions import SwitchActions
from accounts.admin.base import EveryTeams, LongTableAdmin, PlainTimes, TypedInput
from accounts.admin.display import NOTHING, link_to_list
from accounts.admin.review.filters import FieldChoices
from accounts.lib.lists.keyset_pagination import Number
from accounts.lib.time_windows import is_half
from accounts.models import Channel, Rule
from accounts.models.audit import log as audit
from accounts.models.audit.entry import AuditKind
from accounts.models.notification import UNUSABLE
from accounts.notifications import addresses, dispatch
from accounts.states import RULE_KINDS


class ChannelForm(forms.ModelForm):
    address = forms.CharField(
        label=_("Address"),
        required=False,
        strip=True,
        max_length=2000,
        widget=forms.PasswordInput(attrs={"autocomplete": "off", "size": 80}),
        help_text=_(
            "The webhook URL shown by the chat service, or an apprise URL such as mailtos://… or jsons://…. "
            "WeCom: group settings → Message push → Add → copy the webhook URL. DingTalk: group settings → Bots → "
            "Add robot → Custom → Webhook. Feishu and Lark: group settings → Bots → Add bot → Custom bot → "
            "Webhook URL. Stored encrypted and never shown again. Leave empty to keep the current one."
        ),
    )
    secret = forms.CharField(
        label=_("Signature secret"),
        required=False,
        strip=True,
        max_length=200,
        widget=forms.PasswordInput(attrs={"autocomplete": "off", "size": 80}),
        help_text=_(
            "Only for robots with a signature check. DingTalk: Security settings → Sign, the text that begins with "
            "SEC. Feishu and Lark: Security settings → Set signature verification. WeCom has none. Stored encrypted "
            "with the address. Leave empty to keep the current one; a new address has none."
        ),
    )

    class Meta:
        model = Channel
        fields = ("name", "language", "active")

    def clean_address(self) -> str:
        if not self.cleaned_data["address"] and not self.instance.url:
            raise forms.ValidationError(_("Enter the channel’s address."))
        return self.cleaned_data["address"]

    def clean(self) -> dict:
        """Combine address and secret into the address that is stored."""
        cleaned = super().clean()
        address, secret = cleaned.get("address", ""), cleaned.get("secret", "")
        if not address and not (secret and self.instance.url):
            return cleaned
        try:
            cleaned["address"] = addresses.checked(
                address or self.instance.url, secret, private=settings.WK_PRIVATE_TARGETS
            )
        except addresses.UnusableAddress as error:
            complaint = _("This address can’t be used. %(why)s")
            why = {"why": UNUSABLE[error.code]}
            self.add_error(
                "secret" if error.code == "secret" else "address",
                forms.ValidationError(complaint, params=why),
            )
        return cleaned

    def save(self, commit: bool = True) -> Channel:
        if self.cleaned_data["address"]:
            self.instance.url = self.cleaned_data["address"]
        if self.instance.active:
            dispatch.switch_on(self.instance)
        return super().save(commit)


class RuleForm(forms.ModelForm):
    kinds = forms.MultipleChoiceField(
        label=_("Notify about"), choices=RULE_KINDS, widget=forms.CheckboxSelectMultiple
    )

    class Meta:
        model = Rule
        fields = (
            *("kinds", "teams", "debounce_seconds", "digest_minutes"),
            *("hours_from", "hours_until", "time_zone", "incidents_at_once"),
        )

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if "kinds" in self.fields and not self.instance.pk:
            self.fields["kinds"].initial = [kind for kind, _label in RULE_KINDS]

    def has_changed(self) -> bool:
        """Return True for a new rule even if its proposed values are unchanged."""
        return self.instance.pk is None or super().has_changed()

    def clean(self) -> dict:
        cleaned = super().clean()
        if is_half(cleaned.get("hours_from"), cleaned.get("hours_until")):
            raise forms.ValidationError(_("Enter both a start and an end for quiet hours."))
        return cleaned


class RuleInline(PlainTimes, EveryTeams, admin.StackedInline):
    model = Rule
    form = RuleForm
    extra = 0
    min_num = 1
    formfield_overrides = TypedInput.formfield_overrides
    fieldsets = (
        (None, {"fields": ("kinds", "teams", ("debounce_seconds", "digest_minutes"))}),
        (
            _("Quiet hours"),
            {"fields": (("hours_from", "hours_until", "time_zone"), "incidents_at_once")},
        ),
    )

    def formfield_for_manytomany(self, db_field, request: HttpRequest, **kwargs):
        """Offer teams, not roles."""
        if db_field.name == "teams":
            kwargs["queryset"] = permissions.teams_of(request.user)
        return super().formfield_for_manytomany(db_field, request, **kwargs)

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return super().get_queryset(request).prefetch_related("teams")


@admin.register(Channel)
class ChannelAdmin(SwitchActions, EveryTeams, LongTableAdmin):
    form = ChannelForm
    inlines = (RuleInline,)
    list_display = ("name", "service", "shown", "language", "active", "trouble", "rule_count")
    list_filter = (("active", FieldChoices), ("language", FieldChoices))
    search_fields = ("name",)
    ordering = ("name",)
    sortable_by = ("name",)
    readonly_fields = ("where", "service", "shown", "trouble", "log")
    enabled = ngettext_lazy("%(count)s channel enabled.", "%(count)s channels enabled.", "count")
    disabled = ngettext_lazy("%(count)s channel disabled.", "%(count)s channels disabled.", "count")

    def get_fieldsets(self, request: HttpRequest, obj: Channel | None = None):
        writes = self.has_change_permission(request, obj) if obj else True
        fields = ["name", *(["address", "secret", "where"] if writes else []), "language", "active"]
        if obj is None:
            return ((None, {"fields": fields}),)
        now = (_("Current state"), {"fields": ("service", "shown", "trouble", "log")})
        return ((None, {"fields": fields}), now)

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        """Defer the address: it is read only to send, and to keep it when the form is saved."""
        rules = Number(Rule.objects.filter(channel=OuterRef("pk")))
        return super().get_queryset(request).annotate(rules_seen=rules).defer("url")

    def save_model(self, request: HttpRequest, obj: Channel, form: ChannelForm, change: bool) -> None:
        """Save only the form's columns: a process may be sending on the channel."""
        address = ("url", "shown") if form.cleaned_data["address"] else ()
        obj.save(
            update_fields=(*ChannelForm.Meta.fields, *dispatch.SWITCHED_ON, *address) if change else None
        )

    def switch(self, row: Channel, active: bool) -> None:
        """Save only what the change writes: a process may be sending on the channel."""
        row.active = active
        if active:
            dispatch.switch_on(row)
        row.save(update_fields=("active", *dispatch.SWITCHED_ON))

    def get_urls(self) -> list:
        test = path(
            "<int:channel_id>/test/", self.admin_site.admin_view(self.test), name="accounts_channel_test"
        )
        return [test, *super().get_urls()]

    def test(self, request: HttpRequest, channel_id: int) -> HttpResponse:
        """Send a test message and show the service's answer."""
        channel = get_object_or_404(Channel, pk=channel_id)
        if request.method != "POST" or not self.has_change_permission(request, channel):
            raise PermissionDenied
        audit.record(AuditKind.TESTED, about=channel)
        answer = dispatch.send_test(channel)
        if answer.ok:
            messages.success(
                request, gettext("The service accepted the test message. Check that it arrived.")
            )
        else:
            words = UNUSABLE.get(answer.words, answer.words)
            message = gettext("Test message not sent: %(words)s") % {"words": words}
            messages.error(request, message)
        return HttpResponseRedirect(reverse("admin:accounts_channel_change", args=[channel.pk]))

    def changelist_view(self, request: HttpRequest, extra_context=None):
        for channel in Channel.objects.broken()[:5]:
            message = gettext("“%(name)s” was disabled and sends no notifications. Reason: %(why)s")
            messages.error(request, message % {"name": channel.name, "why": channel.why_off})
        return super().changelist_view(request, extra_context)

    # --- columns ---

    @admin.display(description=_("where to find them"))
    def where(self, channel: Channel) -> str:
        return render_to_string("admin/accounts/channel/where.html")

    @admin.display(description=_("service"))
    def service(self, channel: Channel) -> str:
        return addresses.SERVICES.get(channel.kind, channel.kind) or NOTHING

    @admin.display(description=_("problem"))
    def trouble(self, channel: Channel) -> str:
        if channel.switched_off_at is not None and not channel.active:
            return gettext("disabled: %(why)s") % {"why": channel.why_off}
        if channel.failures:
            return gettext("consecutive failures: %(count)s") % {"count": channel.failures}
        return NOTHING

    @admin.display(description=_("rules"))
    def rule_count(self, channel: Channel) -> int:
        return channel.rules_seen

    @admin.display(description=_("deliveries"))
    def log(self, channel: Channel) -> str:
        return link_to_list("delivery", _("View all deliveries"), channel=channel.pk)
