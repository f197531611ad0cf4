"""What an account was called does not outlive its deletion, in no table."""

from django.contrib.admin.models import CHANGE, LogEntry
from django.db import connection, transaction

from accounts.logins.success import record_of_both
from accounts.models import Account, AccountEvent, Avatar, Drop, LoginAttempt, Notification, ScanLink
from accounts.models.event import record
from accounts.reasons import Reason
from accounts.states import AccountState, AttemptState, EventType
from tests.support.factories import make_attempt

SECRETS = ("canary-label", "canary-nick", "wxid_canary", "canary-weixin", "13812345678", "canary-signature")


def everything() -> str:
    """All that the database holds, as text."""
    found = []
    with connection.cursor() as cursor:
        for table in connection.introspection.django_table_names(only_existing=True):
            cursor.execute(f'SELECT * FROM "{table}"')
            found += [
                repr([bytes(v) if isinstance(v, memoryview) else v for v in row]) for row in cursor.fetchall()
            ]
    return "\n".join(found)


def test_nothing_that_identifies_it_is_left_and_the_history_of_others_stays(people):
    label, nickname, wc_id, wechat_id, mobile, signature = SECRETS
    gone = people.account(
        label=label, nickname=nickname, wc_id=wc_id, wechat_id=wechat_id, mobile=mobile, signature=signature,
        state=AccountState.OFFLINE,
    )  # fmt: skip
    Avatar.objects.create(account=gone, png=b"canary-label", source_url="canary-nick")
    Drop.objects.create(account=gone, w_id="w")
    Notification.objects.create(key="k", kind="offline", account=gone, facts={"of": nickname})
    ScanLink.objects.create(account=gone, token_digest="d", expires_at=gone.created_at, created_by_name="a")
    other, merged = people.account(label="Other"), people.account(label="Merged")
    name = f"{nickname} ({wc_id})"
    wrong = {"reason": Reason.WRONG_ACCOUNT, "other_name": name}
    by_its_phone = make_attempt(other, AttemptState.FAILED, other_account=gone, **wrong)
    earlier = make_attempt(other, AttemptState.FAILED, **wrong)
    record(other, EventType.LATE_SUCCESS, attempt=by_its_phone, detail=name)
    record(gone, EventType.OTHER_ACCOUNT, attempt=by_its_phone, detail="Other")
    login = make_attempt(gone, AttemptState.SUCCEEDED)
    with transaction.atomic():
        record_of_both(EventType.MERGED, merged, gone, attempt=login)
        record_of_both(EventType.UNMERGED, merged, gone, by=people.admin)
    untouched = record(other, EventType.LATE_SUCCESS, attempt=earlier, detail="another account")
    LogEntry.objects.log_actions(people.admin.pk, [gone], CHANGE, "x", single_object=True)
    list(
        people.admin.client.get(
            "/accounts/export.csv", {"q": f"{label} {wc_id}", "group": "offline"}
        ).streaming_content
    )
    assert [secret for secret in SECRETS if secret not in everything()] == []

    people.admin.client.post(f"/admin/accounts/account/{gone.pk}/delete/", {"post": "yes"})
    assert not Account.objects.filter(pk=gone.pk).exists()
    assert [secret for secret in SECRETS if secret in everything()] == []
    # That it happened, and who did it, stays: logins, events, and what admins did.
    assert LoginAttempt.objects.filter(account=other, reason=Reason.WRONG_ACCOUNT).count() == 2
    details = AccountEvent.objects.order_by("pk").values_list("happened", "detail")
    assert list(details) == [
        (EventType.LATE_SUCCESS, ""), (EventType.MERGED, ""), (EventType.UNMERGED, ""), (untouched.happened, "another account"),
    ]  # fmt: skip
    assert set(LogEntry.objects.values_list("object_repr", "user")) == {(f"#{gone.pk}", people.admin.pk)}
    assert LogEntry.objects.count() == 2


def test_another_account_whose_id_contains_its_id_keeps_its_name(people):
    gone, other = people.account(wc_id="wxid_1", state=AccountState.OFFLINE), people.account()
    names = ("Li (wxid_1)", "Li (wxid_1abc)", "Li (WXID_1)", "wxid_1", "wxid_12")
    for name in names:
        make_attempt(other, AttemptState.FAILED, reason=Reason.WRONG_ACCOUNT, other_name=name)
    people.admin.client.post(f"/admin/accounts/account/{gone.pk}/delete/", {"post": "yes"})
    kept = LoginAttempt.objects.order_by("pk").values_list("other_name", flat=True)
    assert list(kept) == ["", "Li (wxid_1abc)", "Li (WXID_1)", "", "wxid_12"]
