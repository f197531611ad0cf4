"""The groups that say what somebody may do. Every other group is a team, and says for which accounts."""

ROLES: dict[str, tuple[str, ...]] = {
    "Operators": ("view_account", "add_account", "change_account", "log_in_account", "view_loginattempt"),
    "Viewers": ("view_account", "view_loginattempt"),
    "Admins": (
        "view_account", "add_account", "change_account", "delete_account", "log_in_account", "view_every_account",
        "view_loginattempt", "view_accountevent", "view_upstreamaccess", "view_tag", "add_tag", "change_tag", "delete_tag",
    ),
}  # fmt: skip
