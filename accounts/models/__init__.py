"""Every table of the app."""

from accounts.models.account import Account, Avatar, Tag, UpstreamAccess
from accounts.models.drop import Drop, Incident
from accounts.models.event import AccountEvent
from accounts.models.login_attempt import LoginAttempt, WaitsWorker
from accounts.models.notification import Channel, Delivery, Notice, Reading, Rule
from accounts.models.plan import Plan, PlanEntry, PlanRun
from accounts.models.presence import Discovered, Presence
from accounts.models.recovery_policy import RecoveryPolicy

__all__ = [
    "Account",
    "AccountEvent",
    "Avatar",
    "Channel",
    "Delivery",
    "Discovered",
    "Drop",
    "Incident",
    "LoginAttempt",
    "Notice",
    "Plan",
    "PlanEntry",
    "PlanRun",
    "Presence",
    "Reading",
    "RecoveryPolicy",
    "Rule",
    "Tag",
    "UpstreamAccess",
    "WaitsWorker",
]
