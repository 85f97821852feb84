"""Model cards: what a run recorded, in YAML and Markdown that others read."""

from __future__ import annotations

import dataclasses
import json

import pytest

from tests.interchange import exports
from tests.models import tiny as models
from tests.training import tiny
from triarch.cli.main import main
from triarch.interchange.export import CARD
from triarch.interchange.model_card import ORBAX, RECORD, model_card
from triarch.training import train


def test_a_card_says_what_is_known():
    record = {"batch_size": 8, "tokens": 1536, "data": "tiny", "metrics": {"validation_loss": 1.25}}
    record["optimizer"] = {"class": "AdamW", "learning_rate": {"class": "Cosine", "peak": 0.003}}
    origin = dataclasses.replace(exports.ORIGIN, source={"run": "a|b\n<c>", "store_fingerprint": "ff", RECORD: record})
    card = model_card(models.REDLLM, origin, ORBAX)
    for line in (
        f"| parameters | {models.REDLLM.num_params():,} |",
        "| layers | 2 (encoder), 3 (decoder) |",
        "| objective | PrefixLM(bidirectional_prefix=False, prefix_fraction=0.5) |",
        "| optimizer | AdamW(learning_rate=Cosine(peak=0.003)) |",
        "| tokens | 1,536 |",
        "| fingerprint of the data | ff |",
        "| validation loss | 1.25 |",
        "# a\\|b &lt;c>",
        'model_name: "a|b\\n<c>"',
    ):
        assert line in card.splitlines(), line


def test_front_matter_is_read_by_the_hub(tmp_path):
    hub = pytest.importorskip("huggingface_hub")
    origin = dataclasses.replace(exports.ORIGIN, source={"run": 'odd: "name"\n---\nlicense: mine'})
    for config in (models.REDLLM, models.DECLLM, models.ETTIN_ENCODER):
        data = hub.ModelCard(model_card(config, origin, ORBAX)).data
        assert (data.library_name, data.license) == ("triarch", None)
        assert data.tags == ["triarch", config.architecture]


@pytest.mark.slow
def test_exports_of_a_run_carry_its_record(tmp_path, capsys):
    """And an export of the export; nothing of this machine."""
    store = tiny.write_store(tmp_path / "store")
    train(tiny.run_config(store, "encoder-decoder", steps=6, eval_every=3), tmp_path / "run", "")
    hf, orbax, again = tmp_path / "hf", tmp_path / "orbax", tmp_path / "again"
    for source, output, form in ((tmp_path / "run", hf, "huggingface"), (tmp_path / "run", orbax, "orbax")):
        assert main(["export", f"--workdir={source}", f"--output={output}", f"--format={form}"]) == 0
    assert main(["export", f"--workdir={orbax}", f"--output={again}", "--format=huggingface"]) == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    cards = [(folder / CARD).read_text() for folder in (hf, orbax, again)]
    for card in cards:
        assert str(tmp_path) not in card
        for line in ("| steps | 6 |", f"| tokens | {6 * 8 * tiny.WINDOW} |", "| data | store |", "| seed | 0 |"):
            assert line in card.splitlines(), line
        assert f"| loss | {lines[-1]['loss']:.6g} |" in card
        assert f"| validation loss | {lines[-1]['validation_loss']:.6g} |" in card
    assert "library_name: transformers" in cards[0] and cards[0] == cards[2]
    assert "AutoModelForSeq2SeqLM" in cards[0] and "triarch.load" in cards[1]
