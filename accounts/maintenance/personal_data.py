"""What is erased beside its own rows when an account is deleted: its names in rows of other accounts and in the logs."""

from urllib.parse import quote_plus

from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db.models import Q

from accounts.models import Account, AccountEvent, AuditEntry, LoginAttempt
from accounts.models.audit.entry import OF_ACCOUNTS, AuditKind
from accounts.models.audit.origin import Way
from accounts.reasons import Reason
from accounts.states import EventType

# Each is written for two accounts, with the name of the other one as its detail.
OF_TWO = (EventType.MERGED, EventType.UNMERGED, EventType.OTHER_ACCOUNT, EventType.LATE_SUCCESS)


def erase(account: Account) -> None:
    """Erase the account's names where they would outlive it. Call it in the transaction that deletes the account.

    That something happened, when, and who did it stays.
    """
    LoginAttempt.objects.filter(other_account=account).update(other_name="")
    if account.wc_id:
        scanned = LoginAttempt.objects.filter(reason=Reason.WRONG_ACCOUNT, other_name__contains=account.wc_id)
        # "nickname (wcId)", or the wcId alone. SQLite's search ignores case.
        ends = (account.wc_id, f"({account.wc_id})")
        named = [
            pk
            for pk, name in scanned.values_list("pk", "other_name")
            if name == ends[0] or name.endswith(ends[1])
        ]
        LoginAttempt.objects.filter(pk__in=named).update(other_name="")
    of_two = AccountEvent.objects.filter(happened__in=OF_TWO)
    shared = of_two.filter(account=account, attempt__isnull=False).values("attempt")
    names = {account.label, account.nickname, account.wc_id, account.display_name} - {"", None}
    named = Q(happened=EventType.UNMERGED, detail__in=names)  # the one without an attempt
    of_two.filter(Q(attempt__in=shared) | named).exclude(account=account).update(detail="")
    entries = LogEntry.objects.filter(content_type=ContentType.objects.get_for_model(Account))
    entries.filter(object_id=str(account.pk)).update(object_repr=f"#{account.pk}")
    _erase_from_audit(account)


def _erase_from_audit(account: Account) -> None:
    """Keep who did what, from where, when, to which number. The names of changed fields say nothing about the account."""
    exports = AuditEntry.objects.filter(kind=AuditKind.EXPORTED)
    for name in {account.label, account.nickname, account.wc_id, account.wechat_id} - {"", None}:
        exports.filter(detail__contains=quote_plus(name)).update(detail="q=…")  # somebody searched for it
    entries = AuditEntry.objects.filter(account_id=account.pk)
    if account.wc_id:  # from the time before it had a record
        ignored = AuditEntry.objects.filter(kind=AuditKind.IGNORED, subject_name=account.wc_id)
        ignored.update(subject_name="")
    entries.update(account_name=f"#{account.pk}")
    entries.filter(subject=OF_ACCOUNTS).update(subject_name=f"#{account.pk}")
    entries.exclude(kind=AuditKind.CHANGED).update(detail="")
    # That of a phone's owner; those of the people here stay.
    entries.filter(way=Way.LINK).update(address=None)
