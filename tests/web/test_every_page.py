"""Every page of a company with a month behind it is made, with what the database says to its questions."""

import pytest

from tests.support.company import PAGES, Company


@pytest.mark.slow
def test_every_page_is_there(people, upstream, client):
    company = Company(people)
    answers = {
        name: (getattr(people, page.who).client if page.who else client)
        .get(page.address(company))
        .status_code
        for name, page in PAGES.items()
    }
    assert answers == dict.fromkeys(PAGES, 200) | {"not-found": 404, "provider-refused": 404}
