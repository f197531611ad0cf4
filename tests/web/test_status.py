"""The page Status and the runbook, for admins."""

import re

import pytest

from accounts.models import WaitsWorker
from accounts.status import runbook
from tests.status.test_facts import broker, well  # noqa: F401 - fixtures


def page(people, path: str) -> str:
    answer = people.admin.client.get(path)
    assert answer.status_code == 200
    return answer.content.decode()


def test_what_is_wrong_comes_first_with_a_link_to_what_to_do(well):  # noqa: F811
    assert "Everything works." in page(well, "/status/")
    WaitsWorker.objects.all().delete()
    text = page(well, "/status/")
    assert "1 part needs attention." in text
    rows = re.findall(r'data-fact="(\w+)"\s+data-state="(\w+)"', text)
    assert rows[0] == ("workers", "fault") and {state for _name, state in rows[1:]} == {"ok"}
    [link] = re.findall(r'href="/status/runbook/#([\w-]+)"', text)
    assert f'<section id="{link}">' in page(well, "/status/runbook/")
    assert 'id="status-now"' in page(well, "/status/now/")


@pytest.mark.parametrize("path", ["/status/", "/status/now/", "/status/runbook/"])
def test_only_admins_see_it(people, client, path):
    for person in (people.viewer, people.operator, people.stranger):
        assert person.client.get(path).status_code == 404
    assert client.get(path).status_code == 302


def test_the_runbook_is_shown_as_text_and_marks_its_code(people, tmp_path, settings):
    (tmp_path / "docs").mkdir()
    text = "# Title\n\nbefore\n\n## A head, first\n\nSay `a < b` <b>now</b>.\n\n| a | b |\n\n### Inner\n\n`x` alone\n"
    (tmp_path / "docs" / "operations.md").write_text(text)
    settings.BASE_DIR = tmp_path
    assert [(found.anchor, found.level, found.blocks) for found in runbook.sections()] == [
        (
            "a-head-first",
            2,
            (
                "<p>Say <code>a &lt; b</code> &lt;b&gt;now&lt;/b&gt;.</p>",
                '<pre tabindex="0">| a | b |</pre>',
            ),
        ),
        ("inner", 3, ("<p><code>x</code> alone</p>",)),
    ]
    (tmp_path / "docs" / "operations.md").unlink()
    assert people.admin.client.get("/status/runbook/").status_code == 404
