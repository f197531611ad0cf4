"""What holds on every page: no finding of axe, nothing on the console, nothing beside the screen, nothing that moves.

The console also has what the content security policy refuses.

One half of the pages in a look of its own, the other half in its opposite; the long form has all pages in all eight.
SCREENS=docs/screens keeps a picture of each page in four of them: `make screens`.
"""

import io
import itertools
import json
import os
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.base import AXE_FILE_PATH
from PIL import Image

from tests.support.company import PAGES, Company, admin_pages
from tests.support.fault_proxy import Proxy
from tests.support.stack import Stack

pytestmark = [pytest.mark.live, pytest.mark.browser, pytest.mark.timeout(400), pytest.mark.usually("sqlite")]
# Playwright's loop runs in this thread; the database calls beside it are ordinary ones.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"

SCREENS = {"desk": {"width": 1280, "height": 800}, "phone": {"width": 390, "height": 844}}
PICTURES = os.environ.get("SCREENS", "")
PICTURED = {
    ("en", "light", "desk"),
    ("zh-CN", "dark", "desk"),
    ("zh-CN", "light", "phone"),
    ("en", "dark", "phone"),
}
# A sign-in provider, which no page asks before somebody goes there.
SETTINGS = {
    "OIDC_ISSUER": "http://127.0.0.1:9",
    "OIDC_CLIENT_ID": "wkportal",
    "OIDC_CLIENT_SECRET": "none",
    "OIDC_NAME": "Company ID",
}
TALLEST = 4000  # pixels; WebP has 16,383 at most
EVERY, EVEN, ODD = slice(None), slice(0, None, 2), slice(1, None, 2)
LOOKS = [
    pytest.param("en", "light", "desk", EVEN, id="half-en-light-desk"),
    pytest.param("zh-CN", "dark", "phone", ODD, id="half-zh-CN-dark-phone"),
    *(
        pytest.param(*look, EVERY, id="-".join(look), marks=pytest.mark.long)
        for look in itertools.product(("en", "zh-CN"), ("light", "dark"), SCREENS)
    ),
]
WITH_AN_ERROR = {"not-found", "provider-refused"}
MOST_SHIFT = 0.02
# Seconds for so many bytes: a page comes in some twenty pieces, and may be drawn after each.
SLOW = 0.05, 400
# Best practices too: each is a promise to somebody who works by keyboard or hears the page. Without preload axe copies
# no styles into the page, which the content security policy would forbid.
FINDINGS = """async (only) => (await axe.run(document, {resultTypes: ["violations"], preload: false})).violations
    .filter(({impact}) => !only || only.includes(impact))
    .map((found) => `${found.id}: ${found.nodes.map((node) => node.target.join(" ")).slice(0, 3).join(", ")}`)"""
# Of Django admin, whose pages are Django's own but for colors and a few columns.
GRAVE = ["serious", "critical"]
# Collected from the page's first moment; what follows a click or a key is meant.
WATCH_SHIFTS = """
    window.shifts = 0;
    window.moved = [];
    new PerformanceObserver((list) => {
        for (const entry of list.getEntries().filter((entry) => !entry.hadRecentInput)) {
            window.shifts += entry.value;
            window.moved.push(...entry.sources.map(({ node }) => node?.outerHTML?.slice(0, 80) ?? node?.textContent));
        }
    }).observe({type: "layout-shift", buffered: true});
"""


@pytest.fixture(scope="module")
def stack(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock(), Stack("web", "waits", **SETTINGS) as running:
        yield running


@pytest.fixture
def company(live, upstream):
    return Company(live)


@pytest.fixture
def page_of(new_page, live):
    """Returns the page of a person, by the name in `People`, "" for a visitor: one after the other is opened in it."""
    made = {}

    def page_of(who: str, language: str, theme: str, screen: str):
        if who not in made:
            look = {"locale": language, "color_scheme": theme, "viewport": SCREENS[screen]}
            made[who] = new_page(getattr(live, who) if who else None, reduced_motion="reduce", **look)
            made[who].add_init_script(path=AXE_FILE_PATH)
            made[who].add_init_script(WATCH_SHIFTS)
        return made[who]

    return page_of


def keep_picture(page, name: str) -> None:
    whole = Image.open(io.BytesIO(page.screenshot(full_page=True)))
    picture = whole.crop((0, 0, whole.width, min(whole.height, TALLEST)))
    picture.save(Path(PICTURES) / name, quality=70, method=6)


@pytest.mark.parametrize(("language", "theme", "screen", "part"), LOOKS)
def test_every_page(stack, company, page_of, complaints, language, theme, screen, part):
    wrong = {}
    for name, asked in list(PAGES.items())[part]:
        page = page_of(asked.who, language, theme, screen)
        page.goto(stack.url + asked.address(company))
        if asked.ready:
            page.locator(asked.ready).first.wait_for()
        found = page.evaluate(FINDINGS)
        shift = page.evaluate("window.shifts")
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        said = [text for text in complaints if not (name in WITH_AN_ERROR and " 40" in text)]
        complaints.clear()
        if found or shift > MOST_SHIFT or wide > 0 or said:
            moved = page.evaluate("window.moved")
            wrong[name] = {"axe": found, "shift": shift, "moved": moved, "wide": wide, "console": said}
        if PICTURES and (language, theme, screen) in PICTURED:
            keep_picture(page, f"{name}-{language[:2]}-{theme}-{screen}.webp")
    assert not wrong, json.dumps(wrong, indent=1, ensure_ascii=False)


@pytest.mark.parametrize(
    ("names", "screen"),
    [
        pytest.param(("sign-in", "station-run", "wall"), "desk", id="those that fill the screen"),
        *(pytest.param(PAGES, screen, marks=pytest.mark.long, id=screen) for screen in SCREENS),
    ],
)
def test_no_page_moves_while_it_arrives(stack, company, page_of, complaints, names, screen):
    address, wrong = urlsplit(stack.url), {}
    with Proxy((address.hostname, address.port)) as network:
        for name in names:
            page = page_of(PAGES[name].who, "en", "light", screen)
            path = f"http://{address.hostname}:{network.port}{PAGES[name].address(company)}"
            page.goto(path)
            network.slow(*SLOW)
            page.goto(path, wait_until="load")
            network.slow(0)
            if (shift := page.evaluate("window.shifts")) > MOST_SHIFT:
                wrong[name] = shift, page.evaluate("window.moved")
            page.goto("about:blank")
    complaints[:] = [text for text in complaints if " 40" not in text]
    assert not wrong, json.dumps(wrong, indent=1, ensure_ascii=False)


@pytest.mark.parametrize(("language", "theme", "screen", "part"), LOOKS)
def test_every_page_of_django_admin(stack, company, page_of, complaints, language, theme, screen, part):
    company.add_what_only_the_admin_shows()
    page, wrong = page_of("admin", language, theme, screen), {}
    for path in list(admin_pages(company.people.admin))[part]:
        page.goto(stack.url + path)
        said = [*page.evaluate(FINDINGS, GRAVE), *complaints]
        complaints.clear()
        if said:
            wrong[path] = said
    assert not wrong, json.dumps(wrong, indent=1, ensure_ascii=False)


# As sent, with headers. A signed-in person opens the page with an empty cache.
SENT = """() => [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
    .filter((entry) => !/avatar|qr\\.png/.test(entry.name)).reduce((sum, entry) => sum + entry.transferSize, 0)"""
MOST_SENT = 150_000


@pytest.mark.parametrize("path", ["/", "/accounts/", "/station/"])
def test_a_first_visit_needs_few_bytes(stack, company, new_page, path):
    page = new_page(company.people.operator, locale="zh-CN", viewport=SCREENS["desk"])
    page.goto(stack.url + path, wait_until="load")
    assert page.evaluate("document.title")
    assert 10_000 < page.evaluate(SENT) < MOST_SENT
