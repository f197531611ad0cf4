"""The WKTeam connection, read only."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from accounts.admin.base import ReadOnly
from accounts.models import UpstreamAccess


@admin.register(UpstreamAccess)
class UpstreamAccessAdmin(ReadOnly, admin.ModelAdmin):
    """Whether WKTeam accepts the Authorization, which is never shown."""

    list_display = ("account", "base_url", "renewed_at", "refused_at", "refused_why", "seats", "ends_at")
    fields = (
        *("account", "base_url", "renewed_at", "refused_at", "refused_why", "refused_text"),
        *("seats", "ends_at", "read_at"),
    )
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return super().get_queryset(request).defer("authorization")

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        return False
