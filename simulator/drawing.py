"""HTML from the templates in this folder. Values that are not Html are escaped."""

import html
import time
from pathlib import Path
from string import Template
from typing import Any

from simulator.logins import Login
from simulator.people import quoted
from simulator.phone import POSSIBLE
from simulator.words import Language
from simulator.world import World

FOLDER = Path(__file__).with_name("templates")
TEMPLATES = {file.stem: Template(file.read_text(encoding="utf-8")) for file in FOLDER.glob("*.html")}
STYLE = (FOLDER / "style.css").read_bytes()
# In these states the phone offers no confirmation and waits for the other side.
RELOADING = ("confirmed", "code", "page")
MOST = 100


class Html(str):
    """Text that is already markup."""


def fill(template: str, **values: Any) -> Html:
    """Fill a template with values, escaped unless they are Html."""
    safe = {
        name: value if isinstance(value, Html) else html.escape(str(value)) for name, value in values.items()
    }
    return Html(TEMPLATES[template].substitute(safe))


def page(speech: Language, title: str, content: Html, reload: int = 0) -> Html:
    words = speech.words
    refresh = Html(f'<meta http-equiv="refresh" content="{reload}">' if reload else "")
    return fill(
        "page",
        lang=words["lang"],
        title=title,
        brand=words["title"],
        note=words["note"],
        content=content,
        refresh=refresh,
    )


def avatar(wcId: str) -> str:
    return f"/avatar/{quoted(wcId or 'new')}.png"


def chip(speech: Language, state: str) -> Html:
    said = speech.states[state]
    return fill("chip", colour=said.colour, text=said.chip)


def button(speech: Language, do: str, kind: str = "", label: str = "") -> Html:
    return fill("button", do=do, kind=kind, label=label or speech.words[do])


def join(parts: list[Html]) -> Html:
    return Html("".join(parts))


def phone_page(world: World, login: Login, speech: Language) -> Html:
    """Render what the phone shows after it scanned the QR code, or when a prompt arrives."""
    words, said = speech.words, speech.states[login.state]
    name, number = owner(world, login.wcId or login.wcId_sent, speech)
    sentence = f"{said.sentence} {login.text}" if login.state == "failed" and login.text else said.sentence
    content = fill(
        "phone",
        wId=login.wId,
        wcId=login.wcId or login.wcId_sent,
        state=login.state,
        method=login.method,
        avatar=avatar(login.wcId or login.wcId_sent),
        name=name,
        number=number,
        chip=chip(speech, login.state),
        sentence=sentence,
        code=fill("code", code=login.verify_code) if login.state == "code" else "",
        link=fill("link", href=f"/verify/{login.wId}", label=words["open_page"])
        if login.state == "page"
        else "",
        buttons=_buttons(login, speech),
        otherwise=_otherwise(world, login, speech),
        back=words["back"],
    )
    # The next prompt appears where the last one was.
    reload = login.state in RELOADING or (login.method == "popup" and not login.open)
    return page(speech, words["phone_of"].format(name=name), content, 3 if reload else 0)


def owner(world: World, wcId: str, speech: Language) -> tuple[str, str]:
    """Return the name and WeChat ID of the phone owner; a login without a wcId belongs to a new account."""
    if not wcId:
        return speech.words["newcomer"], speech.words["newcomer_hint"]
    person = world.person(wcId)
    return str(person.nickname) or wcId, str(person.wAccount)


def _buttons(login: Login, speech: Language) -> Html:
    possible = POSSIBLE.get(login.state, set())
    main = [button(speech, "confirm", "primary")] if "confirm" in possible else []
    if login.state == "waiting" and login.method == "qr":
        main.append(button(speech, "scan"))
    if "cancel" in possible:
        main.append(button(speech, "cancel"))
    return join(main)


def _otherwise(world: World, login: Login, speech: Language) -> Html:
    """Render the other possible actions: verification, an end, another person's phone."""
    words = speech.words
    if login.method != "qr" or login.state not in ("waiting", "scanned"):
        return Html("")
    people = list(world.people.values())[-MOST:]
    options = [fill("option", value="new", label=words["somebody_new"])]
    for person in reversed(people):
        options.append(fill("option", value=person.wcId, label=f"{person.nickname} · {person.wAccount}"))
    return fill(
        "otherwise",
        title=words["otherwise"],
        buttons=join([button(speech, do) for do in ("code", "page", "new_device", "expire")]),
        label=words["other_label"],
        options=join(options),
        other=button(speech, "other"),
    )


def verify_page(world: World, login: Login, speech: Language) -> Html:
    """Render the verification page."""
    words = speech.words
    name, number = owner(world, login.wcId, speech)
    asked = login.state == "page"
    content = fill(
        "phone",
        wId=login.wId,
        wcId=login.wcId,
        state=login.state,
        method="verify",
        avatar=avatar(login.wcId),
        name=name,
        number=number,
        chip=chip(speech, login.state),
        sentence=words["check_hint"].format(name=name) if asked else words["checked"],
        code="",
        link="",
        buttons=button(speech, "done", "primary") if asked else "",
        otherwise="",
        back=words["back"],
    )
    return page(speech, words["check"], content)


def notice(speech: Language, what: str, reload: int = 0) -> Html:
    """Render a page with a single notice."""
    words = speech.words
    content = fill("notice", title=words[what], hint=words[f"{what}_hint"], back=words["back"])
    return page(speech, words[what], content, reload)


def index(world: World, speech: Language, address: str) -> Html:
    """Render the index: QR codes and prompts that wait, and the accounts that are online."""
    words = speech.words
    waiting = [login for login in reversed(world.recent) if login.open]
    codes = [login for login in waiting if login.method == "qr"]
    prompts = [login for login in waiting if login.method == "popup"]
    online = list(reversed(world.online))
    content = fill(
        "index",
        title=words["title"],
        address_label=words["address"],
        address=address,
        account=world.settings.account,
        codes_title=words["codes"],
        codes=_rows([_code_row(world, login, speech) for login in codes[:MOST]], words["no_codes"]),
        codes_more=_more(len(codes), words),
        prompts=fill(
            "section",
            title=words["prompts"],
            rows=join([_code_row(world, login, speech) for login in prompts[:MOST]]),
        )
        if prompts
        else "",
        online_title=words["online"],
        online=_rows([_online_row(world, wcId, speech) for wcId in online[:MOST]], words["no_online"]),
        online_more=_more(len(online), words),
    )
    return page(speech, words["title"], content, 5)


def _rows(rows: list[Html], empty: str) -> Html:
    return join(rows) if rows else fill("empty", text=empty)


def _more(n: int, words: dict[str, str]) -> str:
    return words["more"].format(n=n - MOST) if n > MOST else ""


def _code_row(world: World, login: Login, speech: Language) -> Html:
    words = speech.words
    name, number = owner(world, login.wcId or login.wcId_sent, speech)
    popup = login.method == "popup"
    seconds = int(time.time() - login.made_at)
    ago = (
        words["seconds_ago"].format(n=seconds)
        if seconds < 120
        else words["minutes_ago"].format(n=seconds // 60)
    )
    return fill(
        "row_code",
        wId=login.wId,
        state=login.state,
        href=f"/phone/popup/{quoted(login.wcId_sent)}" if popup else f"/phone/{login.wId}",
        picture=avatar(login.wcId_sent) if popup else f"/qr/{login.qr_name}.png",
        alt="" if popup else words["qr_alt"],
        name=name,
        number=number,
        ago=ago,
        chip=chip(speech, login.state),
        open=words["open_phone"],
    )


def _online_row(world: World, wcId: str, speech: Language) -> Html:
    name, number = owner(world, wcId, speech)
    return fill(
        "row_online",
        wcId=wcId,
        wId=world.online[wcId],
        avatar=avatar(wcId),
        name=name,
        number=number,
        drop=speech.words["drop"],
    )
