"""Who gets what, beyond the tables of tests/web/test_access.py: what stays as it was, and what people are told."""

import pytest
from django.contrib.auth.models import Group

from accounts.models import LoginAttempt
from tests.support.factories import make_attempt


def test_a_stranger_changes_nothing(committed, upstream):
    attempt = make_attempt(committed.account())
    before = LoginAttempt.objects.values().get(pk=attempt.pk)
    account = f"/accounts/{attempt.account_id}/"
    for path in (f"{account}login/", f"/attempts/{attempt.pk}/cancel/", f"/attempts/{attempt.pk}/code/"):
        assert committed.stranger.client.post(path, {"code": "123456"}).status_code == 404

    assert LoginAttempt.objects.values().get(pk=attempt.pk) == before
    assert upstream.calls("/iPadLogin") == 0


def test_a_stranger_sees_nothing_of_it_in_the_list(committed):
    committed.account(label="Ours only")
    assert "Ours only" not in committed.stranger.client.get("/accounts/").content.decode()
    assert "Ours only" in committed.mate.client.get("/accounts/").content.decode()


def test_a_team_that_is_left_is_a_team_not_seen(committed):
    account = committed.account()
    committed.operator.groups.remove(committed.east)
    assert committed.operator.client.get(f"/accounts/{account.pk}/").status_code == 404


def test_a_role_is_not_a_team(committed):
    """Otherwise all operators would see what one of them was allowed to see."""
    role = Group.objects.get(role="operator")
    role.name = "Night shift"
    role.save()
    account = committed.account(team=role)
    assert committed.operator.client.get(f"/accounts/{account.pk}/").status_code == 404
    assert "Night shift" not in committed.admin.client.get("/accounts/new/").content.decode()


def test_somebody_without_a_role_sees_nothing(committed):
    nobody = committed.person("nobody", team=committed.east)
    account = committed.account()
    assert nobody.client.get(f"/accounts/{account.pk}/").status_code == 404
    assert nobody.client.get("/accounts/new/").status_code == 403


def test_an_account_without_a_team_is_seen_by_admins_only(committed):
    account = committed.account(team=None)
    assert committed.operator.client.get(f"/accounts/{account.pk}/").status_code == 404
    assert committed.admin.client.get(f"/accounts/{account.pk}/").status_code == 200


def test_the_ids_come_from_the_path_alone(committed, upstream):
    ours, theirs = committed.account(), committed.account(team=committed.west)
    committed.operator.client.post(
        f"/accounts/{ours.pk}/login/?account_id={theirs.pk}", {"account": theirs.pk, "account_id": theirs.pk}
    )
    assert list(LoginAttempt.objects.values_list("account", flat=True)) == [ours.pk]


def test_state_and_ids_are_not_taken_from_forms(committed):
    account = committed.account(label="Before")
    form = {"label": "After", "proxy": "", "tag_names": "", "team": committed.east.pk, "note": ""}
    extra = {
        "state": "online",
        "w_id": "w-evil",
        "bound_seq": 9,
        "login_seq": 9,
        "nickname": "x",
        "merged_into": 1,
    }
    committed.operator.client.post(f"/accounts/{account.pk}/edit/", {**form, **extra})

    account.refresh_from_db()
    assert (account.label, account.state, account.w_id, account.nickname) == ("After", "new", "", "")
    assert (account.bound_seq, account.login_seq, account.merged_into) == (0, 0, None)


def test_an_account_cannot_be_given_to_a_team_one_is_not_in(committed):
    account = committed.account(label="Ours")
    answer = committed.operator.client.post(
        f"/accounts/{account.pk}/edit/", {"label": "Ours", "team": committed.west.pk, "tag_names": ""}
    )
    assert answer.status_code == 422
    account.refresh_from_db()
    assert account.team == committed.east


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/accounts/{}/edit/", "You can view accounts but not edit them. Operators and admins can."),
        ("/accounts/{}/link/", "You can view accounts but not log them in. Operators and admins can."),
        ("/accounts/new/", "You can view accounts but not add any. Operators and admins can."),
        ("/accounts/import/", "You can view accounts but not add any. Operators and admins can."),
        ("/station/", "You can view accounts but not log them in. Operators and admins can."),
        ("/discovered/", "Only people who see every account can adopt one."),
    ],
)
def test_who_sees_an_account_but_may_not_act_is_told_who_may(people, path, says):
    account = people.account()
    answer = people.viewer.client.get(path.format(account.pk))
    text = answer.content.decode()
    assert answer.status_code == 403
    assert says in text and "address is wrong" not in text
    assert (f'href="/accounts/{account.pk}/"' in text) == ("{}" in path)
    if "{}" in path:
        hidden = people.stranger.client.get(path.format(account.pk))
        assert hidden.status_code == 404 and "view accounts" not in hidden.content.decode()


def test_an_archived_and_a_merged_account_say_why_they_cannot_be_changed(people):
    archived = people.account(state="archived")
    merged = people.account(merged_into=people.account())
    for account, says in ((archived, "This account is archived."), (merged, "merged into another one")):
        text = people.operator.client.get(f"/accounts/{account.pk}/edit/").content.decode()
        assert says in text and "address is wrong" not in text
