"""What all browser tests share."""

import pytest

from tests.support import chromium


@pytest.fixture(scope="module")
def chrome():
    with chromium.browser() as browser:
        yield browser
