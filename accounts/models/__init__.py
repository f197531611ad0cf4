"""All models of the app."""

from accounts.models.account import Account, Avatar, Tag
from accounts.models.audit.entry import AuditEntry
from accounts.models.drop import Drop, Incident, IncidentNote
from accounts.models.event import AccountEvent
from accounts.models.login_attempt import LoginAttempt, WaitsWorker
from accounts.models.notification import Channel, Delivery, Notification, OutboxCursor, Rule
from accounts.models.operators.bulk_run import BulkItem, BulkRun
from accounts.models.operators.last_visit import LastVisit
from accounts.models.operators.password_link import PasswordLink
from accounts.models.operators.preferences import Preferences
from accounts.models.operators.role import Role, Team
from accounts.models.operators.saved_view import SavedView
from accounts.models.operators.scan_link import ScanLink, ScanLinkOpening
from accounts.models.operators.scan_run import ScanRun, ScanRunItem
from accounts.models.operators.sign_in import SignIn, SignInUnlock
from accounts.models.plan import Plan, PlanResult, PlanRun
from accounts.models.presence import Presence, UnmanagedAccount
from accounts.models.recovery_policy import RecoveryPolicy
from accounts.models.signing_in.identity import Identity
from accounts.models.signing_in.second_factor import SecondFactor
from accounts.models.system.job_run import JobRun
from accounts.models.system.report_day import ReportDay
from accounts.models.upstream_access import UpstreamAccess

__all__ = [
    "Account",
    "AccountEvent",
    "AuditEntry",
    "Avatar",
    "BulkItem",
    "BulkRun",
    "Channel",
    "Delivery",
    "UnmanagedAccount",
    "Drop",
    "Identity",
    "Incident",
    "IncidentNote",
    "JobRun",
    "LastVisit",
    "LoginAttempt",
    "Notification",
    "PasswordLink",
    "Plan",
    "PlanResult",
    "PlanRun",
    "Preferences",
    "Presence",
    "OutboxCursor",
    "RecoveryPolicy",
    "ReportDay",
    "Role",
    "Rule",
    "SavedView",
    "ScanLink",
    "ScanLinkOpening",
    "ScanRun",
    "ScanRunItem",
    "SecondFactor",
    "SignIn",
    "SignInUnlock",
    "Tag",
    "Team",
    "UpstreamAccess",
    "WaitsWorker",
]
