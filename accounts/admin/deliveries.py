"""Admin of what people were notified of, and of each message on its way to a channel."""

from collections.abc import Iterator

from django.contrib import admin
from django.db.models import OuterRef, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from accounts.admin.base import EveryTeams, LongTableAdmin, ReadOnly
from accounts.admin.display import NOTHING, link_to, link_to_list
from accounts.admin.review.filters import CHOICE_LIMIT, ChoiceFilter, DayFilter, FieldChoices
from accounts.lib.lists.keyset_pagination import Number
from accounts.models import Channel, Delivery, Notification
from accounts.models.notification import UNUSABLE


def about(notification: Notification) -> str:
    """Return a link to the account or the incident, otherwise the name of what it is about."""
    if notification.account is not None:
        return link_to("account", notification.account_id, notification.account.display_name)
    if notification.incident_id:
        return link_to("incident", notification.incident_id, f"#{notification.incident_id}")
    return notification.facts.get("name") or NOTHING


@admin.register(Notification)
class NotificationAdmin(EveryTeams, ReadOnly, LongTableAdmin):
    ordering = ("-at", "-id")
    list_display = ("at", "kind", "about", "ended_at", "delivery_count")
    list_display_links = ("at",)
    list_select_related = ("account",)
    list_filter = (("at", DayFilter), ("kind", FieldChoices))
    lookups = ("account__exact", "drop__exact", "incident__exact")
    fields = ("at", "kind", "about", "drop_link", "incident_link", "ended_at", "ending", "delivery_count")
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        deliveries = Number(Delivery.objects.filter(notification=OuterRef("pk")))
        return super().get_queryset(request).annotate(deliveries_seen=deliveries)

    @admin.display(description=_("about"))
    def about(self, notification: Notification) -> str:
        return about(notification)

    @admin.display(description=_("drop"))
    def drop_link(self, notification: Notification) -> str:
        return link_to("drop", notification.drop_id, f"#{notification.drop_id}")

    @admin.display(description=_("incident"))
    def incident_link(self, notification: Notification) -> str:
        return link_to("incident", notification.incident_id, f"#{notification.incident_id}")

    @admin.display(description=_("reported as ended by"))
    def ending(self, notification: Notification) -> str:
        return link_to("notification", notification.ended_by_id, f"#{notification.ended_by_id}")

    @admin.display(description=_("deliveries"))
    def delivery_count(self, notification: Notification) -> str:
        return link_to_list("delivery", notification.deliveries_seen, notification__exact=notification.pk)


class ChannelFilter(ChoiceFilter):
    title = _("channel")
    parameter_name = "channel"
    column = "channel"

    def options(self, request: HttpRequest) -> Iterator[tuple[int, str]]:
        return Channel.objects.values_list("pk", "name")[:CHOICE_LIMIT]


@admin.register(Delivery)
class DeliveryAdmin(EveryTeams, ReadOnly, LongTableAdmin):
    """Deliveries: what was sent where, and the result."""

    ordering = ("-pk",)
    list_display = (
        "created",
        "channel_link",
        "what",
        "about",
        "state",
        "tries",
        "sent_at",
        "next_at",
        "problem",
    )
    list_display_links = ("created",)
    list_filter = (("created_at", DayFilter), ("state", FieldChoices), ChannelFilter)
    lookups = (
        *("channel", "notification__exact", "notification__account__exact"),
        *("notification__drop__exact", "notification__incident__exact"),
    )
    fields = (
        *("created_at", "channel_link", "notification_link", "about", "began", "state"),
        *("tries", "sent_at", "next_at", "message", "problem"),
    )
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        rows = super().get_queryset(request).select_related("channel", "notification__account")
        return rows.defer("channel__url")

    @admin.display(description=_("created"))
    def created(self, delivery: Delivery):
        return delivery.created_at

    @admin.display(description=_("channel"))
    def channel_link(self, delivery: Delivery) -> str:
        return link_to("channel", delivery.channel_id, delivery.channel.name)

    @admin.display(description=_("notification"))
    def notification_link(self, delivery: Delivery) -> str:
        return link_to("notification", delivery.notification_id, delivery.notification)

    @admin.display(description=_("type"))
    def what(self, delivery: Delivery) -> str:
        return delivery.notification.get_kind_display()

    @admin.display(description=_("last error"))
    def problem(self, delivery: Delivery) -> str:
        return UNUSABLE.get(delivery.error, delivery.error) or NOTHING

    @admin.display(description=_("started"))
    def began(self, delivery: Delivery):
        return delivery.notification.at

    @admin.display(description=_("about"))
    def about(self, delivery: Delivery) -> str:
        return about(delivery.notification)
