"""What messages say of names, which may come from damaged files."""

from triarch.errors import brief, nearest


def test_the_nearest_name_is_named():
    assert nearest("los", ["loss", "N"]) == " (did you mean 'loss'?)"
    assert nearest("qqq", ["loss", "N"]) == " (one of: N, loss)"
    assert nearest("qqq", []) == ""


def test_names_are_shown_on_one_short_line():
    wild = ["\0" * 2000, "a\nb\x1b[2J", "x" * 500, "é中"]
    said = nearest("qqq", wild)
    assert said.isprintable() and len(said) < 300 and "é中" in said and r"a\nb" in said
    assert nearest("x" * 400, wild) == f" (did you mean '{'x' * 60}...'?)"


def test_what_a_library_says_is_cut():
    assert brief(ValueError("first\nsecond")) == "first"
    assert brief("x" * 500) == "x" * 160 + "..."
    assert brief("") == ""
