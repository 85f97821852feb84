"""Numbers in words."""

import pytest

from triarch.scaling import words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (12.345, "12.3"),
        (1500, "1.5k"),
        (167_772_160, "168M"),
        (8.6e9, "8.6B"),
        (1.678e12, "1.68T"),
        (3e15, "3e+15"),
    ],
)
def test_short_number(value, text):
    assert words.short_number(value) == text


def test_powers_of_ten():
    assert words.scientific(3.154e22) == "3.15\N{MULTIPLICATION SIGN}10\N{SUPERSCRIPT TWO}\N{SUPERSCRIPT TWO}"
    assert words.power_of_ten(1e12) == "10\N{SUPERSCRIPT ONE}\N{SUPERSCRIPT TWO}"
    assert words.power_of_ten(0) == "0"
    assert words.power_of_ten(2.5e5) == "2.5\N{MULTIPLICATION SIGN}10\N{SUPERSCRIPT FIVE}"
    assert words.power_of_ten(3e5) == "3\N{MULTIPLICATION SIGN}10\N{SUPERSCRIPT FIVE}"
    assert words.scientific(0) == "0"


def test_durations():
    assert [words.duration(s) for s in (0.5, 42, 185, 7812)] == ["0.5 s", "42 s", "3 min 5 s", "2 h 10 min"]


def test_signs_and_lists():
    assert words.signed(-0.0123) == "\N{MINUS SIGN}0.012" and words.signed(0.5) == "0.500"
    assert words.join(["a"]) == "a" and words.join(iter(["a", "b", "c"])) == "a, b and c"
