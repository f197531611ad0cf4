"""Roles: the groups that grant permissions. Every other group is a team and selects accounts."""

# The models whose rows admins may add, change and delete.
EDITED = ("tag", "recoverypolicy", "plan", "channel", "rule")
ADMINS = "Admins"
ROLES: dict[str, tuple[str, ...]] = {
    "Operators": ("view_account", "add_account", "change_account", "log_in_account", "view_loginattempt"),
    "Viewers": ("view_account", "view_loginattempt"),
    ADMINS: (
        "view_account", "add_account", "change_account", "delete_account", "log_in_account", "view_every_account",
        "manage_people",
        "view_loginattempt", "view_accountevent", "view_upstreamaccess", "view_auditentry",
        "view_drop", "view_incident", "view_planrun", "view_planresult", "view_notification", "view_delivery",
        *(f"{action}_{model}" for model in EDITED for action in ("view", "add", "change", "delete")),
    ),
}  # fmt: skip
