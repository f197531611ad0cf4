"""Roles, and what each may do. A role has its row in `models.Role`; every group without one is a team."""

from collections.abc import Container

from django.db import models
from django.utils.translation import gettext_lazy as _


class RoleCode(models.TextChoices):
    """From the fewest rights to the most. Only an auditor's are not among those of the next."""

    VIEWER = "viewer", _("Viewer")
    AUDITOR = "auditor", _("Auditor")
    OPERATOR = "operator", _("Operator")
    LEAD = "lead", _("Team lead")
    ADMIN = "admin", _("Admin")


def highest(codes: Container[str]) -> str:
    """Return the role with the most rights of these, "" for none."""
    return next((code for code in reversed(RoleCode.values) if code in codes), "")


# How the group of a role is called when it is made. Processes of a version before know the first three by these names.
GROUP_NAMES = {
    RoleCode.OPERATOR: "Operators",
    RoleCode.VIEWER: "Viewers",
    RoleCode.ADMIN: "Admins",
    RoleCode.LEAD: "Team leads",
    RoleCode.AUDITOR: "Auditors",
}
# Django admin has the history, of the accounts that each of these sees.
USES_DJANGO_ADMIN = {RoleCode.LEAD, RoleCode.AUDITOR, RoleCode.ADMIN}
# The models whose rows admins may add, change and delete.
EDITED = ("tag", "recoverypolicy", "plan", "channel", "rule")
_SEE = ("view_account", "view_loginattempt")
_VIEW = (*_SEE, "check_account")
_OPERATE = (*_VIEW, "add_account", "change_account", "log_in_account")
_HISTORY = (
    "view_accountevent", "view_drop", "view_incident", "view_planrun", "view_planresult", "view_notification",
    "view_delivery", "view_signin", "view_auditentry",
)  # fmt: skip
PERMISSIONS: dict[RoleCode, tuple[str, ...]] = {
    RoleCode.VIEWER: _VIEW,
    RoleCode.AUDITOR: (*_SEE, "view_every_account", *_HISTORY),
    RoleCode.OPERATOR: _OPERATE,
    RoleCode.LEAD: (*_OPERATE, "view_accountevent", "view_drop", "manage_members"),
    RoleCode.ADMIN: (
        *_OPERATE, "delete_account", "view_every_account", "manage_people", "manage_members", "view_upstreamaccess",
        *_HISTORY, *(f"{action}_{model}" for model in EDITED for action in ("view", "add", "change", "delete")),
    ),
}  # fmt: skip
