"""The catalogue holds all that code and templates say in English, and the pages in Chinese say it in Chinese."""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from datetime import timedelta
from html.parser import HTMLParser

import polib
import pytest
from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone, translation

from accounts.models import LoginAttempt, Tag, UpstreamAccess
from accounts.models.event import record
from accounts.reasons import ADVICE, Reason
from accounts.states import AccountState, AttemptState, EventType, Method, Trigger
from tests.support.factories import People, make_attempt

pytestmark = [pytest.mark.slow, pytest.mark.database("sqlite")]
FILE = settings.BASE_DIR / "locale" / "zh_Hans" / "LC_MESSAGES" / "django.po"
# Folders that have no texts for people, or texts in one language only.
LEFT_OUT = {"var", "tests", "simulator", "locale", "staticfiles"}
PLACEHOLDER = re.compile(r"%\(\w+\)[a-z]|%[sd]|\{\w*\}|</?\w+[^>]*>")
NAME = re.compile(r"WKTeam|wcId|wId|wxid_\w+|WK_[A-Z_]+|Authorization")
HAN = r"[\u4e00-\u9fff]"
DATES = "as Django writes dates"


def key(entry: polib.POEntry) -> tuple[str, str, str]:
    return entry.msgctxt or "", entry.msgid, entry.msgid_plural


def keys(entries) -> set[tuple[str, str, str]]:
    return {key(entry) for entry in entries}


def translations(entry: polib.POEntry) -> list[str]:
    return list(entry.msgstr_plural.values()) if entry.msgid_plural else [entry.msgstr]


CATALOGUE = polib.pofile(str(FILE))


# --- the catalogue --------------------------------------------------------------------------------------


def test_every_text_is_translated():
    assert len(CATALOGUE) > 300
    for entry in CATALOGUE:
        assert not entry.fuzzy and not entry.obsolete, entry.msgid
        (translated,) = translations(entry)
        assert translated.strip(), entry.msgid


def test_a_translation_keeps_placeholders_tags_names_and_outer_spaces():
    for entry in CATALOGUE:
        said = entry.msgid
        for text in (*translations(entry), entry.msgid_plural or said):
            assert Counter(PLACEHOLDER.findall(text)) == Counter(PLACEHOLDER.findall(said)), said
            assert set(NAME.findall(text)) == set(NAME.findall(said)), said
            assert (text[0].isspace(), text[-1].isspace()) == (said[0].isspace(), said[-1].isspace()), said


def test_chinese_is_set_as_chinese():
    """With its own punctuation, and a space between Chinese and Latin letters or figures."""
    for entry in CATALOGUE:
        if entry.msgid == "yes,no" or (entry.msgctxt or "").endswith(DATES):
            continue
        for text in translations(entry):
            assert not re.search(f"{HAN}[,.;:!?()]", text), text
            assert not re.search(f"{HAN}[A-Za-z0-9]|[A-Za-z0-9]{HAN}", PLACEHOLDER.sub("", text)), text


def test_the_compiled_catalogue_is_what_the_readable_one_compiles_to():
    wanted = polib.mofile(CATALOGUE.to_binary())
    committed = polib.mofile(str(FILE.with_suffix(".mo")))
    assert {key(entry): translations(entry) for entry in committed} == {
        key(entry): translations(entry) for entry in wanted
    }
    assert committed.metadata == wanted.metadata


def test_the_catalogue_names_no_person_no_machine_and_no_moment():
    assert set(CATALOGUE.metadata) <= {
        "Report-Msgid-Bugs-To",
        "Language",
        "MIME-Version",
        "Content-Type",
        "Content-Transfer-Encoding",
        "Plural-Forms",
    }
    assert not CATALOGUE.metadata.get("Report-Msgid-Bugs-To")
    assert not CATALOGUE.header.strip("# \n")


@pytest.mark.slow
def test_the_catalogue_holds_the_texts_of_code_and_templates_and_no_others(tmp_path):
    if not shutil.which("xgettext"):
        assert os.environ.get("WK_REQUIRE_GETTEXT") != "1", "xgettext is not installed"
        pytest.skip("xgettext is not installed")
    for child in settings.BASE_DIR.iterdir():
        if child.name in LEFT_OUT or child.name.startswith("."):
            continue
        if child.is_dir():
            shutil.copytree(child, tmp_path / child.name, ignore=shutil.ignore_patterns("__pycache__"))
        elif child.suffix == ".py":
            shutil.copy(child, tmp_path)
    found = tmp_path / "locale" / "zh_Hans" / "LC_MESSAGES" / "django.po"
    found.parent.mkdir(parents=True)

    subprocess.run(
        [sys.executable, "manage.py", "makemessages", "--locale", "zh_Hans", "--verbosity", "0"],
        cwd=tmp_path,
        check=True,
    )

    assert keys(polib.pofile(str(found))) == keys(CATALOGUE)


# --- what people read -----------------------------------------------------------------------------------


def test_states_reasons_and_advice_are_said_in_chinese():
    choices = (Reason, AccountState, AttemptState, Method, Trigger, EventType)
    texts = [label for each in choices for _code, label in each.choices] + list(ADVICE.values())
    with translation.override("en"):
        english = [str(text) for text in texts]
    with translation.override("zh-hans"):
        chinese = [str(text) for text in texts]
    assert [text for text in english if re.search(HAN, text)] == []
    assert [text for text in chinese if not re.search(HAN, text)] == []


def test_chinese_browsers_get_chinese_and_all_others_english(db):
    def language(accepted: str) -> str:
        page = Client(headers={"accept-language": accepted}).get("/login/").content.decode()
        return re.search('<html lang="(.+?)"', page)[1]

    chinese = ["zh-CN,zh;q=0.9", "zh", "zh-Hans", "zh-SG", "zh-TW", "zh-HK,en;q=0.8"]
    assert {accepted: language(accepted) for accepted in chinese} == dict.fromkeys(chinese, "zh-hans")
    others = ["en-GB", "de", "*", ""]
    assert {accepted: language(accepted) for accepted in others} == dict.fromkeys(others, "en")


# --- the pages in Chinese -------------------------------------------------------------------------------

READ_ALOUD = {"title", "alt", "aria-label", "placeholder"}
SPOKEN_LATER = re.compile(r"data-(?:busy|title|say|copied|not-copied|checking|time-words|trouble-\w+)")
WORD = re.compile(r"(?<![\w@{./-])[A-Za-z]{2,}(?![\w@/-])")
# Names, and what has no other name in Chinese.
ALLOWED = {
    "wkportal", "WKTeam", "wcId", "wId", "WeChat", "Authorization", "Mac", "Cookie", "API", "TLS", "HTTPS", "English", "CST",
    "CSV", "XLSX", "UTF",
    "Esc", "Enter",
    "operator", "viewer", "admin", "nobody",
}  # fmt: skip
TIME_WORDS = {"units", "ago", "now", "nowBelow", "null"}
# What Django's admin and axes leave in English, and values that the admin writes its own way.
STOCK = {
    "Model", "name", "Add", "link", "Change", "or", "view", "list",
    "ID", "WcId", "WId", "True",
}  # fmt: skip


class Reader(HTMLParser):
    """What a person can see or hear of a page."""

    def __init__(self):
        super().__init__()
        self.texts: list[str] = []
        self.inside: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag in ("script", "style"):
            self.inside.append(tag)
        for name, value in attrs:
            if name in READ_ALOUD or SPOKEN_LATER.fullmatch(name):
                self.texts.append(value or "")
            if name == "value" and dict(attrs).get("type") == "submit":
                self.texts.append(value or "")

    def handle_endtag(self, tag):
        if self.inside and self.inside[-1] == tag:
            self.inside.pop()

    def handle_data(self, data):
        if not self.inside:
            self.texts.append(data)


def english_in(page: str) -> set[str]:
    reader = Reader()
    reader.feed(page)
    return {word for text in reader.texts for word in WORD.findall(text)} - ALLOWED - TIME_WORDS


def test_the_reader_finds_english_where_a_person_would():
    assert english_in("<p>登录 again</p>") == {"again"}
    assert english_in('<img alt="The code">') == {"The", "code"}
    assert english_in('<button data-busy="Sending">提交</button>') == {"Sending"}
    assert english_in("<p>wxid_abc 0000016e-63eb wkportal</p><script>let it = 1</script>") == set()


@pytest.fixture
def chinese(people: People) -> People:
    """The people of every story, with Chinese browsers, and teams and lines that have Chinese names."""
    for number, team in enumerate((people.east, people.west)):
        team.name = ("华东", "华南")[number]
        team.save()
    for person in (people.operator, people.viewer, people.stranger, people.admin):
        person.client.defaults["HTTP_ACCEPT_LANGUAGE"] = "zh-CN"
    return people


def assert_chinese(answer, status: int = 200, but: set[str] = frozenset()) -> None:
    assert answer.status_code == status
    page = answer.content.decode()
    assert 'lang="zh-hans"' in page and re.search(HAN, page)
    assert english_in(page) - but == set()


def named(people: People, label: str = "旗舰店", **fields):
    number = fields.pop("number", 1)
    fields = {"label": label, "nickname": "小诺", "proxy": 1, "wc_id": f"wxid_{number}", **fields}
    if fields.get("w_id"):
        fields |= {"state": AccountState.ONLINE, "checked_at": timezone.now()}
    return people.account(**fields)


def in_every_state(people: People) -> list:
    """One account for each state of an account, and of its newest attempt."""
    day_ago = timezone.now() - timedelta(days=1)
    accounts = [
        named(people, number=1, w_id="w-1", note="早班", mobile="13800000000"),
        named(people, number=2, state=AccountState.OFFLINE, last_offline_reason="手机端退出"),
        named(people, number=3, state=AccountState.OFFLINE, relogin_at=timezone.now()),
        named(people, wc_id=None, nickname="", proxy=None),
        named(people, number=4, state=AccountState.OFFLINE, state_since=day_ago, last_offline_at=day_ago),
    ]
    accounts[0].tags.add(Tag.objects.get_or_create(name="重点")[0])
    for number, state in enumerate(AttemptState.values):
        account = named(people, number=10 + number, state=AccountState.OFFLINE, state_since=day_ago)
        attempt = make_attempt(account, state, asked_by=people.operator, asked_by_name="operator", proxy=1)
        record(account, EventType.ATTEMPT_STARTED, attempt=attempt, new="preparing", by=people.operator)
        record(account, EventType.ATTEMPT_MOVED, attempt=attempt, old="preparing", new=state)
        accounts.append(account)
    return accounts


def test_the_pages_before_signing_in_are_chinese(db):
    client = Client(headers={"accept-language": "zh-CN"})
    assert_chinese(client.get("/login/"))
    assert_chinese(client.get("/nowhere/"), 404)
    wrong = {"username": "nobody", "password": "wrong"}
    assert_chinese(client.post("/login/", wrong))
    for _time in range(settings.AXES_FAILURE_LIMIT):
        locked = client.post("/login/", wrong)
    assert_chinese(locked, 429)
    strict = Client(enforce_csrf_checks=True, headers={"accept-language": "zh-CN"})
    assert_chinese(strict.post("/login/", wrong), 403)


@pytest.mark.parametrize("person", ["operator", "viewer", "admin"])
def test_the_list_is_chinese(chinese, person):
    in_every_state(chinese)
    client = getattr(chinese, person).client
    for query in ("", "?state=waiting", "?state=offline&sort=-since", "?tag=重点", "?q=没有", "?tag=没有"):
        assert_chinese(client.get(f"/accounts/{query}"))


def test_an_import_is_chinese(chinese):
    named(chinese, "总店", number=1, wc_id="wxid_1")
    client = chinese.operator.client
    assert_chinese(client.get("/accounts/import/"))
    for content, status in (
        ("", 422),
        ("\x00", 422),
        ("名称,线路\n", 422),
        ("名称,名称\n甲,乙\n", 422),
        ("名称,线路,保持在线,允许弹框的时段（起）\n甲,火星,也许,9:00\n", 422),
        ("名称,wcId,线路,备注\n甲,,无,早班\n乙,wxid_1,,晚班\n", 200),
    ):
        file = SimpleUploadedFile("a.csv", content.encode())
        assert_chinese(client.post("/accounts/import/", {"file": file}), status)


def test_the_list_is_chinese_when_it_is_empty_and_when_it_is_long(chinese):
    for person in (chinese.operator, chinese.viewer):
        assert_chinese(person.client.get("/accounts/"))
    for number in range(120):
        named(chinese, number=number)
    page = chinese.operator.client.get("/accounts/")
    assert_chinese(page)
    following = re.search(r'rel="next" href="([^"]+)"', page.content.decode())[1].replace("&amp;", "&")
    assert_chinese(chinese.operator.client.get(f"/accounts/{following}"))


@pytest.mark.parametrize("person", ["operator", "viewer"])
def test_an_account_and_its_attempts_are_chinese_in_every_state(chinese, person):
    client = getattr(chinese, person).client
    for account in in_every_state(chinese):
        assert_chinese(client.get(f"/accounts/{account.pk}/"))
        for attempt in account.attempts.all():
            assert_chinese(client.get(f"/attempts/{attempt.pk}/"))


@pytest.mark.slow
def test_a_login_that_ended_is_explained_in_chinese_for_every_reason(chinese):
    other = named(chinese, "售后", number=2, w_id="w-2")
    words = {
        "upstream_code": "1001",
        "upstream_text": "网络异常",
        "other_account": other,
        "other_name": "售后",
    }
    client, day_ago = chinese.operator.client, timezone.now() - timedelta(days=1)
    refused = UpstreamAccess.objects.create(
        base_url=settings.WK_BASE_URL, account=settings.WK_ACCOUNT, refused_at=timezone.now()
    )
    explained = []
    for number, reason in enumerate(Reason.values, 3):
        state = {"cancelled": "cancelled", "not_scanned": "expired"}.get(reason, "failed")
        account = named(chinese, number=number, state=AccountState.OFFLINE, state_since=day_ago)
        attempt = make_attempt(account, state, reason=reason, **words)
        refused.refused_why = reason
        refused.save()
        for path in (f"/attempts/{attempt.pk}/", f"/accounts/{account.pk}/"):
            assert_chinese(client.get(path))
        explained.append(account.pk)
    page = client.get("/accounts/")
    assert_chinese(page)
    assert all(f'id="row-{pk}"' in page.content.decode() for pk in explained)


def test_the_page_of_a_waiting_login_is_chinese(chinese):
    old = timezone.now() - timedelta(seconds=30)
    client = chinese.operator.client
    for number, fields in enumerate(
        (
            {"qr_shown_at": old},
            {"lease_epoch": 2, "wait_started_at": old},
            {"upstream_text": "请输入验证码", "codes_tried": 1, "trigger": Trigger.SCHEDULE},
        )
    ):
        attempt = make_attempt(named(chinese, number=number), AttemptState.WAITING, **fields)
        assert_chinese(client.get(f"/attempts/{attempt.pk}/"))
    asked = make_attempt(named(chinese, number=9), AttemptState.CODE_REQUIRED, codes_tried=2)
    assert_chinese(client.get(f"/attempts/{asked.pk}/"))
    assert_chinese(client.post(f"/attempts/{asked.pk}/code/", {"code": "!"}), 422)


def test_forms_questions_and_dead_ends_are_chinese(chinese):
    client = chinese.operator.client
    online = named(chinese, w_id="w-1")
    assert_chinese(client.get("/accounts/new/"))
    assert_chinese(client.get(f"/accounts/{online.pk}/edit/"))
    assert_chinese(client.post("/accounts/new/", {"wc_id": "!", "tag_names": "标" * 60, "proxy": "99"}), 422)
    assert_chinese(client.post(f"/accounts/{online.pk}/login/"))
    assert_chinese(client.post(f"/accounts/{online.pk}/login/", {"proxy": "99"}), 422)
    assert_chinese(client.get("/accounts/999999/"), 404)
    hidden = named(chinese, number=2, team=chinese.west)
    merged = named(chinese, number=3, merged_into=hidden)
    assert_chinese(client.get(f"/accounts/{merged.pk}/"))
    saved = {"label": "旗舰店", "team": chinese.east.pk, "proxy": "1"}
    assert_chinese(client.post(f"/accounts/{online.pk}/edit/", saved, follow=True))


def test_settings_people_and_teams_are_chinese(chinese):
    client, east = chinese.admin.client, chinese.east.pk
    names = {"mate", "stranger"}
    for path in ("/me/", "/people/", "/people/new/", f"/people/{chinese.mate.pk}/", "/people/teams/"):
        assert_chinese(client.get(path), but=names)
    assert_chinese(client.get(f"/people/teams/{east}/"), but=names)
    assert_chinese(client.post(f"/people/teams/{east}/delete/"), but=names)
    assert_chinese(client.post("/me/", {"do": "password"}), 422)
    assert_chinese(client.post("/me/", {"do": "preferences", "theme": "x"}), 422)
    assert_chinese(client.post("/people/new/", {"username": "mate", "role": "x"}), 422, but=names)
    assert_chinese(client.post("/people/teams/", {"name": "Admins"}), 422, but={"Admins"})
    for action in ("lock", "unlock"):
        page = client.post(f"/people/{chinese.mate.pk}/", {"do": action}, follow=True)
        assert_chinese(page, but=names)
    dead = Client(headers={"accept-language": "zh-CN"}).get("/password/x/x/")
    assert_chinese(dead)


def test_the_admin_is_chinese(chinese, upstream):
    account = in_every_state(chinese)[-1]
    attempt = account.attempts.get()
    client = chinese.admin.client
    assert_chinese(client.get("/admin/"), but=STOCK)
    for table, row in (
        ("account", account.pk),
        ("loginattempt", attempt.pk),
        ("accountevent", attempt.events.first().pk),
    ):
        assert_chinese(client.get(f"/admin/accounts/{table}/"), but=STOCK)
        assert_chinese(client.get(f"/admin/accounts/{table}/?q=没有"), but=STOCK)
        assert_chinese(client.get(f"/admin/accounts/{table}/{row}/change/"), but=STOCK)
    assert_chinese(client.get("/admin/accounts/account/add/"), but=STOCK)
    assert_chinese(client.get("/admin/accounts/upstreamaccess/"), but=STOCK)
    open_ones = list(LoginAttempt.objects.open().values_list("account", flat=True))
    for action in ("cancel_login", "cancel_login", "log_in"):  # the second time nothing is open
        chosen = {"action": action, "_selected_action": [*open_ones, account.pk]}
        answer = client.post("/admin/accounts/account/", chosen, follow=True)
        assert 'class="messagelist"' in answer.content.decode()
        assert_chinese(answer, but=STOCK)


def test_a_day_of_this_year_is_written_the_chinese_way(chinese):
    with translation.override("zh-hans"):
        assert translation.pgettext(f"a day and a time of this year, {DATES}", "j M H:i") == "n月j日 H:i"
