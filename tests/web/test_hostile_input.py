"""What nobody types by hand: every address takes it without breaking, and says what is wrong."""

import pytest
from django.contrib import admin
from django.contrib.admin.utils import quote
from django.contrib.messages import get_messages
from django.urls import reverse

from accounts.models import Account, Channel, Plan, RecoveryPolicy, Tag, UnmanagedAccount
from tests.support.factories import make_attempt

NASTY = {
    "nul": "a\x00b",
    "long": "%_" * 30_000,
    "huge": "9" * 30,
    "many digits": "9" * 5_000,
    "negative": "-1",
    "quotes": "'\"\\",
}
# What a database itself refuses: the others are the same on each.
REFUSED = ("nul", "huge", "negative")
OTHERS = tuple(name for name in NASTY if name not in REFUSED)
nasty = pytest.mark.parametrize(
    "value",
    [
        pytest.param(value, id=name, marks=() if name in REFUSED else pytest.mark.usually("sqlite"))
        for name, value in NASTY.items()
    ],
)
both = pytest.mark.parametrize(
    "names",
    [
        pytest.param(REFUSED, id="refused"),
        pytest.param(OTHERS, id="others", marks=pytest.mark.usually("sqlite")),
    ],
)
MODELS = sorted(model._meta.model_name for model in admin.site._registry)


def model_admin(name: str) -> admin.ModelAdmin:
    return next(each for model, each in admin.site._registry.items() if model._meta.model_name == name)


def changelist(name: str) -> str:
    return reverse(f"admin:{model_admin(name).opts.app_label}_{name}_changelist")


def parameters(name: str) -> list[str]:
    of_rows = [f"{each}__exact" for each in model_admin(name).list_filter if isinstance(each, str)]
    days = ["at_from", "last_login_at_to"]
    ours = ["line", "team", "tag", "operator", "channel", *days, *getattr(model_admin(name), "lookups", ())]
    return ["q", "p", "o", "e", "_to_field", *of_rows, *ours]


def test_a_long_search_is_cut_and_the_page_says_so(people):
    people.account(label="x" * 100)
    typed = {"q": f"{'x' * 100} and more"}
    assert "Only the first 100 characters" in people.operator.client.get("/accounts/", typed).content.decode()
    assert (
        "Only the first"
        not in people.operator.client.get("/accounts/", {"q": "a b c d e f"}).content.decode()
    )
    answer = people.admin.client.get(changelist("account"), typed, follow=True)
    assert answer.redirect_chain == [(f"{changelist('account')}?q={'x' * 100}", 302)]
    assert "Only the first 100 characters" in answer.content.decode()


@nasty
@pytest.mark.slow
def test_the_list_takes_any_question(people, value):
    people.account()
    for name in ("q", "state", "tag", "sort", "page"):
        for path in ("/accounts/", "/accounts/counts/"):
            answer = people.operator.client.get(path, {name: value})
            assert answer.status_code == 200, (path, name)


@pytest.mark.slow
@both
@pytest.mark.parametrize("at_once", [1, pytest.param(len(REFUSED), id="all", marks=pytest.mark.long)])
def test_the_admin_takes_any_question(people, plain_refusals, names, at_once):
    """Each parameter with one of the values, another one for each model: each model and each filter meets all."""
    people.account(w_id="w-1")
    for start, model in enumerate(MODELS):
        for number, parameter in enumerate(parameters(model), start):
            for step in range(at_once):
                name = names[(number + step) % len(names)]
                answer = people.admin.client.get(changelist(model), {parameter: NASTY[name]})
                assert answer.status_code in (200, 302, 400), (model, parameter, name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "values",
    [["a\x00b", "9" * 30, "-1"], pytest.param(["x", "_", "'"], marks=pytest.mark.usually("sqlite"))],
)
def test_the_admin_has_no_row_with_a_key_that_is_none(people, plain_refusals, values):
    for value in values:
        for model in MODELS:
            for page in ("change", "delete"):
                path = f"{changelist(model)}{quote(value)}/{page}/"
                for answer in (people.admin.client.get(path), people.admin.client.post(path)):
                    assert answer.status_code in (302, 400, 403, 404), path


@pytest.mark.parametrize("value", ["x", "a\x00b", "9" * 30, "-1", ""])
@pytest.mark.slow
def test_an_action_on_a_row_that_cannot_exist_changes_nothing_and_says_so(people, rf, value):
    people.account()
    request = rf.get("/admin/")
    request.user = people.admin
    actions = {
        model._meta.model_name: each.get_actions(request) for model, each in admin.site._registry.items()
    }
    for name in ("account", "channel", "loginattempt", "plan", "recoverypolicy", "tag", "user"):
        for number, action in enumerate(actions[name], 1):
            form = {
                "action": action,
                "_selected_action": ["1", value],
                "post": "yes",
                "due_at": "2031-05-06T07:08",
            }
            answer = people.admin.client.post(changelist(name), form)
            said = [message.message for message in get_messages(answer.wsgi_request)]
            assert len(said) == number and "unknown row" in said[-1], (name, action)
        assert people.admin.client.get(changelist(name)).content.decode().count("unknown row") == number
    assert Account.objects.count() == 1


FORMS = [
    "/accounts/new/", "/accounts/{}/edit/", "/accounts/{}/due/", "/accounts/{}/login/", "/accounts/{}/keep-online/",
    "/attempts/{}/code/", "/discovered/{}/adopt/", "/discovered/{}/ignore/", "/login/", "/language/setlang/",
]  # fmt: skip
FIELDS = [
    "label", "wc_id", "proxy", "tag_names", "team", "note", "policy", "hours_from", "hours_until", "time_zone",
    "relogin_at", "sure", "mac", "wanted", "code", "username", "password", "next", "language", "csrfmiddlewaretoken",
]  # fmt: skip


@nasty
@pytest.mark.slow
def test_a_form_takes_any_text(people, upstream, value):
    attempt = make_attempt(people.account(pk=41), "code_required", pk=41)
    UnmanagedAccount.objects.create(pk=41, wc_id="wxid_found")
    for path in FORMS:
        client = people.admin.client if "discovered" in path else people.operator.client
        answer = client.post(path.format(attempt.pk), dict.fromkeys(FIELDS, value))
        assert answer.status_code in (200, 302, 404, 422), path


@pytest.mark.slow
@both
def test_an_admin_form_takes_any_text(people, names):
    people.account(pk=41)
    rows = {"account": 41, "tag": Tag.objects.create(name="vip").pk}
    rows["recoverypolicy"] = RecoveryPolicy.objects.first().pk
    rows["plan"] = Plan.objects.create(name="nightly", crontab="0 3 * * *").pk
    rows["channel"] = Channel.objects.create(name="chat").pk
    rows["user"], rows["group"] = people.mate.pk, people.west.pk
    for model, pk in rows.items():
        base = changelist(model)
        for path in (f"{base}add/", f"{base}{pk}/change/"):
            fields = list(people.admin.client.get(path).context["adminform"].form.fields)
            fields += [f"{name}_{part}" for name in fields if name.endswith("_at") for part in (0, 1)]
            fields += ["rules-0-teams", "rules-0-debounce_seconds", "rules-0-digest_minutes"]
            rules = {"rules-TOTAL_FORMS": "1", "rules-INITIAL_FORMS": "0"}
            for name in names:
                typed = (
                    dict.fromkeys(fields, NASTY[name]) | rules | {"rules-0-kinds": ["offline", NASTY[name]]}
                )
                answer = people.admin.client.post(path, typed)
                assert answer.status_code in (200, 302), (path, name)


@nasty
def test_a_choice_of_tags_takes_any_text(people, value):
    Tag.objects.create(name="vip")
    asked = {"app_label": "accounts", "model_name": "plan", "field_name": "tags"}
    for name in ("term", "page", *asked):
        answer = people.admin.client.get("/admin/autocomplete/", {**asked, name: value})
        assert answer.status_code in (200, 403, 404), name
