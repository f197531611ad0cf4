"""The order of names in lists, as people expect it."""

import pytest

from accounts.lib.lists.natural_order import KEY_LENGTH, natural_key


@pytest.mark.parametrize(
    "names",
    [
        ["门店 2", "门店 10", "门店 100"],
        ["Rack 1 · Slot 9", "Rack 1 · Slot 10", "Rack 3 · Slot 1"],
        ["Anna", "北京", "Berta", "广州", "上海", "Zoe"],
        ["001", "2", "0010", "１１"],
        ["Émile", "Emily", "ÉMIS"],
        ["长春 1", "重庆 1", "番禺 1", "厦门 1", "中山 1"],
        ["", "a"],
    ],
)
def test_names_are_in_the_order_that_people_expect(names):
    backwards = list(reversed(names))
    assert sorted(backwards, key=natural_key) == names


def test_a_key_is_of_letters_and_digits_so_that_every_collation_sorts_it_alike():
    assert natural_key("Straße 7, “Süd” – 门店#2") == "strasse017sudmendian012"


def test_a_key_is_bounded_however_long_the_text_and_its_numbers_are():
    assert len(natural_key("门" * 500)) == KEY_LENGTH
    assert len(natural_key("9" * 50_000)) <= KEY_LENGTH
