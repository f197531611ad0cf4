"""The page of faults names tests that there are."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
NAMED = re.findall(r"`([\w/]+\.py)::(test_\w+)`(?: \((long)\))?", (ROOT / "docs" / "faults.md").read_text())


def source(file: str) -> str:
    return (ROOT / "tests" / file).read_text()


@pytest.mark.parametrize(("file", "test", "long"), NAMED)
def test_every_test_that_the_page_names_exists(file, test, long):
    assert re.search(rf"^(?:async )?def {test}\(", source(file), re.MULTILINE)


@pytest.mark.parametrize("file", sorted({file for file, _test, _long in NAMED if file.startswith("faults/")}))
def test_a_file_of_fault_tests_is_on_the_page_as_a_whole(file):
    on_page = {test for _file, test, _long in NAMED}
    tests = set(re.findall(r"^def (test_\w+)\(", source(file), re.MULTILINE))
    assert tests - on_page <= {"test_the_test_can_reach_the_server_while_the_product_cannot"}
