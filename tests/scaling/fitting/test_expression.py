"""Formulas as they are read, written and differentiated."""

import math

import numpy as np
import pytest

from triarch.errors import UserError
from triarch.scaling.fitting.expression import MOST_NESTED, parse

VALUES = {"a": 1.7, "b": 0.6, "x": np.array([0.5, 2.0, 9.0])}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1 + 2 * 3", 7.0),
        ("2^3^2", 512.0),
        ("-2^2", -4.0),
        ("2^-1", 0.5),
        ("10 - 4 - 3", 3.0),
        ("12 / 3 / 2", 2.0),
        ("2 * -3", -6.0),
        ("(1 + 2) ** 2", 9.0),
        ("1.5e1 + .5", 15.5),
        ("exp(log(3)) + sqrt(16) + log10(100)", 9.0),
        ("min(2, 3) + max(2, 3) + tanh(0) + sigmoid(0)", 5.5),
        ("4 \N{MULTIPLICATION SIGN} 2 \N{MINUS SIGN} 1", 7.0),
        ("((((1))))", 1.0),
    ],
)
def test_numbers(text, wanted):
    assert parse(text).value({}) == pytest.approx(wanted, rel=1e-15)


@pytest.mark.parametrize(
    "text",
    [
        "a + b / x^a",
        "(a / x)^(b / a) - b * x",
        "exp(-a * x) / (1 + x^b)",
        "log(a + x) * log10(b * x) + sqrt(a * x)",
        "tanh(a - x * b) + sigmoid(b * (x - a))",
        "min(a * x, b + x) + max(a, b * x)",
        "-a^b * (x + b)^-a",
    ],
)
def test_derivatives_are_those_of_differences(text):
    tree, step = parse(text), 1e-6
    _, slopes = tree.dual(VALUES, ("a", "b"))
    for name in ("a", "b"):
        up, down = (tree.value(VALUES | {name: VALUES[name] + sign * step}) for sign in (1, -1))
        # Central differences: h^2 of truncation, rounding of 1e-16 over h.
        np.testing.assert_allclose(np.broadcast_to(slopes[name], 3), (up - down) / (2 * step), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize(
    "text",
    ["E + A / N^alpha", "(a - (b - x)) / (a * b)", "(a^b)^x", "-a^2 + (-a)^2", "a / (b / x)", "exp(-(a + b) * x)"],
)
def test_what_is_written_reads_the_same(text):
    names = {name: 0.3 + 0.4 * k for k, name in enumerate(parse(text).names())}
    again = parse(parse(text).spell({}))
    assert again == parse(text)
    numbers = {name: f"{-value}" for name, value in names.items()}
    written = parse(parse(text).spell(numbers))
    negative = {name: -value for name, value in names.items()}
    np.testing.assert_allclose(written.value({}), parse(text).value(negative), rtol=1e-12)


def test_the_formula_with_its_numbers():
    tree = parse("E + A/N^alpha + B/D^beta")
    numbers = {"E": "1.69", "A": "406", "alpha": "0.339", "B": "411", "beta": "-0.285"}
    assert tree.spell(numbers) == "1.69 + 406 / N^0.339 + 411 / D^(-0.285)"
    assert tree.names() == ["E", "A", "N", "alpha", "B", "D", "beta"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the formula is empty"),
        ("E + ", "ends too early: expected a number, a name or a parenthesis"),
        ("E + A/N^alpha)", r"character 14: '\)': expected an operator"),
        ("2 x", "character 3: 'x': expected an operator such as"),
        ("E + (A", r"ends too early: expected '\)'"),
        ("E + A / [N]", r"character 9: '\[': expected a number"),
        ("lg(N)", r"character 1: 'lg': no function \(did you mean 'log'\?\)"),
        ("max(N)", "expected 2 arguments, not 1"),
        ("__import__('os').system('true')", "character 1: '__import__': no function"),
        ("N.real", "character 2: '.': expected an operator"),
        ("a = 1", "character 3: '='"),
        ("(" * (MOST_NESTED + 1) + "1" + ")" * (MOST_NESTED + 1), "nested more than"),
        ("-" * (MOST_NESTED + 1) + "1", "nested more than"),
        ("1+" * 500 + "1", "400 at most"),
        ("9" * 400, "expected a number that a float holds"),
    ],
)
def test_what_is_no_formula_says_where(text, message):
    with pytest.raises(UserError, match=message):
        parse(text)


def test_a_long_sum_is_evaluated():
    assert parse("+".join(["1"] * 200)).value({}) == 200.0
    assert math.isfinite(float(parse("*".join(["1"] * 200)).value({})))
