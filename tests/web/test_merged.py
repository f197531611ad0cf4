"""A new record whose QR code a known phone scanned: it is merged, the page says so, and a person can undo it."""

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.logins.success import complete_login
from accounts.models import Account, AccountEvent, Tag
from accounts.states import EventType
from accounts.upstream.responses import LoggedIn, Profile
from tests.support.factories import fresh, make_attempt

SAYS = "was merged into this account"


@pytest.fixture
def known(committed):
    return committed.account(wc_id="wxid_known", state="offline", label="Known", note="its own note")


def scanned(committed, **fields) -> Account:
    """A new record, merged because the known phone scanned its QR code."""
    profile_id = fields.pop("profile_id", "")
    fields = {"label": "Shop 7", "place": "Rack 1", "note": "ask her", "proxy": 2} | fields
    new = committed.account(**fields)
    new.tags.add(Tag.objects.get_or_create(name="night")[0])
    attempt = make_attempt(new)
    new.before = Account.objects.values().get(pk=new.pk)
    complete_login(attempt, LoggedIn(Profile("wxid_known", "w-9", wechat_id=profile_id)))
    return new


def html(person, path: str, status: int = 200) -> str:
    answer = person.client.get(path)
    assert answer.status_code == status
    return " ".join(answer.content.decode().split())


@pytest.mark.slow
def test_the_page_says_what_became_of_the_new_record(committed, known):
    new = scanned(committed)
    assert (
        committed.operator.client.get(f"/accounts/{new.pk}/").headers["Location"] == f"/accounts/{known.pk}/"
    )
    attempt = known.attempts.get()
    for path in (f"/accounts/{known.pk}/", f"/accounts/{known.pk}/live/", f"/attempts/{attempt.pk}/"):
        text = html(committed.operator, path)
        part = text.split(f'id="merged-{new.pk}"')[1].split("</section>")[0]
        assert SAYS in part, path
        for kept in ("Shop 7", "Rack 1", "ask her", "night", "East", f"/accounts/{new.pk}/undo-merge/"):
            assert kept in part, kept
    text = html(committed.viewer, f"/accounts/{known.pk}/")
    assert SAYS in text and "undo-merge" not in text


@pytest.mark.slow
def test_undo_brings_the_record_back_as_it_was(committed, known):
    new = scanned(committed, relogin_at=timezone.now())
    owner = Account.objects.values().get(pk=known.pk)
    path = f"/accounts/{new.pk}/undo-merge/"
    assert committed.viewer.client.post(path).status_code == 403
    assert committed.stranger.client.post(path).status_code == 404
    assert fresh(new).merged_into == known
    answer = committed.operator.client.post(path, follow=True)
    assert "on its own again" in answer.content.decode()
    assert Account.objects.values().get(pk=new.pk) == new.before
    assert Account.objects.values().get(pk=known.pk) == owner
    assert new in Account.objects.kept() and [tag.name for tag in new.tags.all()] == ["night"]
    events = AccountEvent.objects.filter(happened=EventType.UNMERGED, actor=committed.operator)
    assert set(events.values_list("account", "detail")) == {(new.pk, "Known"), (known.pk, "Shop 7")}
    assert SAYS not in html(committed.operator, f"/accounts/{known.pk}/")
    again = committed.operator.client.post(path)
    assert again.status_code == 403 and "undone already" in again.content.decode()
    assert events.count() == 2


def test_after_an_undo_another_phone_logs_the_record_in(committed, known):
    new = scanned(committed)
    committed.operator.client.post(f"/accounts/{new.pk}/undo-merge/")
    complete_login(make_attempt(fresh(new)), LoggedIn(Profile("wxid_other", "w-10")))
    assert (fresh(new).wc_id, fresh(new).state, fresh(known).wc_id) == ("wxid_other", "online", "wxid_known")


def test_of_another_team_the_record_is_shown_to_its_own_team_only(committed, known):
    Account.objects.filter(pk=known.pk).update(team=committed.west)
    new = scanned(committed)
    assert SAYS not in html(committed.stranger, f"/accounts/{known.pk}/")
    text = html(committed.operator, f"/accounts/{new.pk}/")
    assert "Shop 7" in text and "undo-merge" in text and "Known" not in text
    committed.operator.client.post(f"/accounts/{new.pk}/undo-merge/")
    assert fresh(new).merged_into is None
    by = dict(AccountEvent.objects.filter(happened=EventType.UNMERGED).values_list("account", "actor_name"))
    assert by == {new.pk: "operator", known.pk: ""}  # the other team learns no name either
    assert not AccountEvent.objects.filter(account=known, actor=committed.operator).exists()


def test_who_sees_both_records_is_named_in_both(committed, known):
    Account.objects.filter(pk=known.pk).update(team=committed.west)
    new = scanned(committed)
    committed.admin.client.post(f"/accounts/{new.pk}/undo-merge/")
    events = AccountEvent.objects.filter(happened=EventType.UNMERGED)
    assert set(events.values_list("account", "actor_name")) == {(new.pk, "admin"), (known.pk, "admin")}


def test_a_wcid_that_was_typed_does_not_come_back_and_the_page_says_so(committed, known):
    new = scanned(committed, wc_id="wx-known", label="Known by its WeChat ID", profile_id="wx-known")
    assert "a wcId that was typed does not" in html(committed.operator, f"/accounts/{known.pk}/")
    committed.operator.client.post(f"/accounts/{new.pk}/undo-merge/")
    assert (fresh(new).merged_into, fresh(new).wc_id) == (None, None)


def test_a_day_later_and_after_a_merge_that_a_person_asked_for_there_is_no_undo(committed, known):
    old = scanned(committed)
    AccountEvent.objects.filter(account=old).update(at=timezone.now() - timedelta(hours=25))
    asked = scanned(committed)
    AccountEvent.objects.filter(account=asked, happened=EventType.MERGED).update(
        actor=committed.operator, actor_name="operator"
    )
    assert SAYS not in html(committed.operator, f"/accounts/{known.pk}/")
    for record in (old, asked):
        assert committed.operator.client.post(f"/accounts/{record.pk}/undo-merge/").status_code == 403
        assert fresh(record).merged_into == known
