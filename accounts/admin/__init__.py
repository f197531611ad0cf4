"""Django admin: what admins review and set up."""

from accounts.admin import accounts, history, notifications, plans, recovery, upstream_access  # noqa: F401
