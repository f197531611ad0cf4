"""What all browser tests share."""

import pytest

from tests.support import chromium


@pytest.fixture(scope="module")
def chrome():
    with chromium.browser() as browser:
        yield browser


@pytest.fixture
def complaints() -> list[str]:
    """What the pages of `new_page` wrote on their consoles: nothing may be left when the test ends."""
    return []


@pytest.fixture
def new_page(chrome, stack, live, complaints):
    """Opens empty pages, each in a browser of its own, as of somebody who has signed in where one is named.

    They are closed before the rows of `live` are deleted: a page that still looks would ask for what is just going.
    """
    contexts = []

    def new_page(user=None, **how):
        context = chrome.new_context(**how)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        if user is not None:
            chromium.has_signed_in(context, stack.url, user)
        return page

    yield new_page
    for context in contexts:
        context.close()
    assert complaints == [], stack.log_of("web")[-5000:]
