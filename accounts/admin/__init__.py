"""Django admin: the pages where admins review and configure everything."""

from accounts.admin import accounts, deliveries, history, notifications, plans, recovery, upstream_access  # noqa: F401
