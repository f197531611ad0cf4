"""The page of faults names tests that there are."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
NAMED = re.findall(r"`([\w/]+\.py)::(test_\w+)`", (ROOT / "docs" / "faults.md").read_text())
# It is about the tests themselves.
NO_FAULT = {("faults/test_database.py", "test_the_test_can_reach_the_server_while_the_product_cannot")}


def found_in(file: str) -> set[tuple[str, str]]:
    found = re.findall(r"^(?:async )?def (test_\w+)\(", (ROOT / "tests" / file).read_text(), re.MULTILINE)
    return {(file, test) for test in found}


def test_the_page_names_tests_that_there_are_and_every_test_of_a_fault():
    there = {test for file, _test in NAMED for test in found_in(file)}
    assert NAMED and sorted(set(NAMED) - there) == []
    faults = {test for test in there if test[0].startswith("faults/")}
    assert sorted(faults - set(NAMED) - NO_FAULT) == []
