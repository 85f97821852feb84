"""Keys that explain themselves: every one has a meaning, and the page of them is the one that the classes make."""

import dataclasses
import json
import os
from pathlib import Path

from triarch.cli.gin import keys as gin_keys
from triarch.cli.gin.files import configurables
from triarch.cli.main import main

PAGE = Path(__file__).parents[2] / "docs" / "gin_keys.md"


def test_every_key_is_told_with_its_meaning():
    found = {key.key: key for key in gin_keys.list_keys()}
    assert list(found) == [f"{n}.{f.name}" for n, cls in configurables().items() for f in dataclasses.fields(cls)]
    assert not [key.key for key in found.values() if not key.meaning]
    assert not [name for name, cls in configurables().items() if not gin_keys.summary(cls)]


def test_what_is_told(capsys, tmp_path):
    assert main(["describe", "--keys", "Cosine", f"--json={tmp_path / 'keys.json'}"]) == 0
    told = {key["key"]: key for key in json.loads((tmp_path / "keys.json").read_text())["keys"]}
    # The first two are fields of its base class, where their meaning stands too.
    assert told == {
        "Cosine.peak": dict(
            key="Cosine.peak", type="a positive number", default=None, meaning="the highest learning rate."
        ),
        "Cosine.warmup_steps": dict(
            key="Cosine.warmup_steps", type="a whole number from 0 on", default="0",
            meaning="updates until it is reached.",
        ),
        "Cosine.final_fraction": dict(
            key="Cosine.final_fraction", type="a number from 0 to 1", default="0.1",
            meaning="f, the last rate as a fraction of `peak`.",
        ),
    }  # fmt: skip
    shown = capsys.readouterr().out
    assert "  Cosine.peak  required  (a positive number)\n      the highest learning rate.\n" in shown
    assert main(["describe", "--keys"]) == 0
    everything = capsys.readouterr().out
    assert all(f"  {key.key}  " in everything for key in gin_keys.list_keys())
    assert "DataConfig.store  = None  (a string or @StoreMixture() or None)" in everything
    assert "MixturePhase(start" not in everything


def test_a_class_that_is_not_there(capsys):
    assert main(["describe", "--keys", "Cosin"]) == 1
    assert "--keys Cosin: no config class of that name (did you mean 'Cosine'?)" in capsys.readouterr().err


def test_the_page_is_current():
    """Run with UPDATE_GOLDEN=1 to write docs/gin_keys.md anew."""
    if os.environ.get("UPDATE_GOLDEN"):
        PAGE.write_text(gin_keys.page())
    assert PAGE.read_text() == gin_keys.page()
