"""A study of one's own texts that changes its mind: what is finished is used again, every number is what it says."""

from __future__ import annotations

import csv
import json
import random
import signal
import subprocess
import sys
import time

import pytest

from triarch.cli.main import main
from triarch.sweeps.ledger import Ledger

SETTINGS = """
ModelConfig.vocab_size = 260
RunConfig.steps = 6
RunConfig.batch_size = 4
RunConfig.log_every = 2
RunConfig.tensorboard = False
DataConfig.window = 32
CheckpointConfig.every = 3
CheckpointConfig.keep_last = 1
RunConfig.optimizer = @AdamW()
AdamW.learning_rate = @Cosine()
Cosine.peak = 1e-2
Cosine.warmup_steps = 2
Execution.scan_layers = False
"""
STUDY = """
Study.title = 'Novels'
Study.question = 'Which size?'
Study.families = ('decllm', 'redllm')
Study.labels = ('DecLLM', 'RedLLM')
Study.sizes = (@small/Size(),)
Study.settings = 'settings.gin'
Study.corpora = (@novels/Corpus(), @letters/Corpus())
Study.vocabulary = 'bytes'
Study.window = 32
Study.max_windows = 12
Study.exports = False
novels/Corpus.name = 'novels'
novels/Corpus.files = ('{folder}/novels',)
novels/Corpus.validation_fraction = 0.3
novels/Corpus.hold_out = ('novel_1?',)
letters/Corpus.name = 'letters'
letters/Corpus.files = ('{folder}/letters',)
letters/Corpus.validation_fraction = 1
letters/Corpus.role = 'out_of_domain'
small/Size.name = 'small'
small/Size.like = 'tiny_s'
small/Size.d_model = 16
small/Size.d_ff = 32
small/Size.num_heads = 1
small/Size.num_layers = 1
"""
LARGER = """
Study.sizes = (@small/Size(), @large/Size())
large/Size.name = 'large'
large/Size.like = 'tiny_s'
large/Size.d_model = 32
large/Size.num_layers = 1
large/Size.steps = 4
large/Size.batch_size = 2
large/Size.learning_rates = (5e-3,)
"""


class Journey:
    """A study and its folder."""

    def __init__(self, folder):
        self.folder, self.output = folder, folder / "out"
        draw = random.Random(0)
        for kind, count, words in (
            ("novel", 20, "whale sea ship captain storm"),
            ("letter", 12, "dear sir madam yours"),
        ):
            (folder / f"{kind}s").mkdir()
            for index in range(count):
                text = " ".join(draw.choices(words.split(), k=draw.randint(40, 120)))
                (folder / f"{kind}s" / f"{kind}_{index}.txt").write_text(text)
        (folder / "settings.gin").write_text(SETTINGS)

    def write(self, *changes: str) -> list[str]:
        study = self.folder / "study.gin"
        study.write_text("\n".join((STUDY.format(folder=self.folder), *changes)))
        return ["sweep", f"--study={study}", f"--output={self.output}"]

    def sweep(self, *changes: str) -> list[tuple[str, str]]:
        """Runs the changed study; returns the stages that were done."""
        before = len(self.entries())
        assert main(self.write(*changes)) == 0
        return sorted((e["owner"], e["stage"]) for e in self.entries()[before:] if e["status"] == "done")

    def entries(self) -> list[dict]:
        return Ledger(self.output / "ledger.jsonl").entries()

    def table(self, name: str) -> list[dict]:
        with (self.output / f"{name}.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    def check(self) -> None:
        """Every row is what an evaluation made anew says, and says what it was made with."""
        study = json.loads((self.output / "study.json").read_text())
        rows = self.table("evaluations")
        for result in self.table("results"):
            assert result["status"] == "finished"
            own = [row for row in rows if row["run"] == result["run"]]
            (command,) = [one for one in study["commands"] if f"--model={self.output}/runs/{result['folder']} " in one]
            words = [word for word in command.split()[1:] if not word.startswith("--json")]
            anew = self.folder / "anew.json"
            assert main([*words, f"--json={anew}"]) == 0
            expected = json.loads(anew.read_text())
            assert study["made_with"][result["run"]] == expected["made_with"]
            assert len(own) == len(expected["evaluations"])
            for row, one in zip(own, expected["evaluations"], strict=True):
                assert {key: row[key] for key in ("corpus", "domain", "role", "split", "scoring", "measure")} == {
                    key: one[key] for key in ("corpus", "domain", "role", "split", "scoring", "measure")
                }
                assert float(row["nats_per_token"]) == pytest.approx(one["nats_per_token"], rel=1e-5)
                assert (int(row["max_windows"]), row["store_fingerprint"]) == (
                    one["max_windows"],
                    one["store_fingerprint"],
                )
                if one["scoring"] == "paired":
                    assert result[f"loss_{one['corpus']}"] == row["nats_per_token"]
            assert result["in_domain_loss"] == result["loss_novels"]

    def losses(self) -> dict[str, float]:
        return {row["run"]: float(row["in_domain_loss"]) for row in self.table("results")}


@pytest.mark.slow
def test_a_study_that_changes_its_mind(tmp_path, capsys):
    journey = Journey(tmp_path)
    first = ["decllm_small", "redllm_small"]
    done = journey.sweep()
    assert done == sorted(
        [("novels", "prepare"), ("letters", "prepare"), *((r, s) for r in first for s in ("train", "evaluate"))]
    )
    journey.check()
    assert {row["corpus"] for row in journey.table("evaluations")} == {"novels", "novels_test", "letters"}
    losses = journey.losses()

    # Nothing changed: nothing is done.
    assert journey.sweep() == []

    # Fewer windows: evaluated again, and the numbers are those of fewer windows.
    assert journey.sweep("Study.max_windows = 5") == [(run, "evaluate") for run in first]
    assert {row["num_windows"] for row in journey.table("evaluations")} == {"5"} and journey.losses() != losses
    journey.check()

    # Learning rates, one of them the recipe's: that one is there, under another name.
    rates = "Study.learning_rates = (1e-2, 3e-3)"
    assert journey.sweep(rates) == sorted(
        [*((run, "evaluate") for run in first), *((f"{r}_lr0.003", s) for r in first for s in ("train", "evaluate"))]
    )
    assert [row["folder"] for row in journey.table("results") if row["run"] == "decllm_small_lr0.01"] == [
        "decllm_small"
    ]
    assert {row["cell"] for row in journey.table("results")} == {"small_lr0.01", "small_lr0.003"}
    assert journey.losses()["decllm_small_lr0.01"] == losses["decllm_small"]
    journey.check()

    # A size given in the study, with steps, batch and rate of its own.
    done = journey.sweep(LARGER)
    assert done == sorted(
        (f"{family}_large_lr0.005", stage) for family in ("decllm", "redllm") for stage in ("train", "evaluate")
    )
    large = next(row for row in journey.table("results") if row["run"] == "decllm_large_lr0.005")
    assert (large["steps"], large["batch_size"], large["learning_rate"]) == ("4", "2", "0.005")
    journey.check()

    # Another corpus, a folder of stores: all are evaluated again, the suite domain by domain.
    for index in range(2):
        arguments = ["prepare", "--task=files", f"--files={tmp_path / 'letters'}", "--window=32", "--workers=1"]
        arguments += [f"--vocabulary_from={journey.output / 'stores' / 'novels'}", "--validation_fraction=1"]
        assert main([*arguments, f"--output={tmp_path / 'suite' / f'part{index}'}"]) == 0
    suite = f"""
Study.corpora = (@novels/Corpus(), @letters/Corpus(), @more/Corpus())
more/Corpus.store = '{tmp_path / "suite"}'
more/Corpus.role = 'out_of_domain'
"""
    assert journey.sweep(suite) == [(run, "evaluate") for run in first]
    assert {row["domain"] for row in journey.table("evaluations") if row["corpus"] == "suite"} == {"part0", "part1"}
    pairs = [(row["run"], row["corpus"], row["domain"], row["scoring"]) for row in journey.table("evaluations")]
    assert len(set(pairs)) == len(pairs)
    assert journey.table("results")[0]["out_of_domain_loss"] == ""

    # Its report names every corpus.
    report = tmp_path / "report.html"
    assert main(["report", f"--study={journey.output}", f"--output={report}"]) == 0
    html = report.read_text()
    assert all(name in html for name in ("novels_test", "letters", "suite"))

    # What cannot be evaluated again is refused: runs of other steps under the same names, and other text.
    capsys.readouterr()
    (tmp_path / "settings.gin").write_text(SETTINGS.replace("steps = 6", "steps = 7"))
    assert main(journey.write()) == 1
    assert "small holds a run under another config (steps: 6 -> 7), and another likewise" in capsys.readouterr().err
    before = len(journey.entries())
    assert main([*journey.write("Study.families = ('decllm',)", "Study.labels = ('D',)"), "--train_changed"]) == 0
    new = [e["owner"] for e in journey.entries()[before:] if (e["stage"], e["status"]) == ("train", "done")]
    assert len(new) == 1 and new[0].startswith("decllm_small_")
    (tmp_path / "settings.gin").write_text(SETTINGS)
    assert journey.sweep("Study.max_windows = 12") == [(run, "evaluate") for run in first]
    assert journey.losses() == losses
    (tmp_path / "novels" / "novel_2.txt").write_text("another text altogether")
    capsys.readouterr()
    assert main(journey.write()) == 1
    assert "was made of other files than there are now" in capsys.readouterr().err


@pytest.mark.slow
def test_an_interrupted_change_loses_no_table(tmp_path):
    journey = Journey(tmp_path)
    journey.sweep()
    before = journey.table("results")
    # A change that takes long: interrupted once it trains, the rows of what is there are still theirs.
    arguments = journey.write("Study.learning_rates = (1e-2, 2e-3)", "Study.max_windows = 6", "Study.seeds = (0, 1)")
    process = subprocess.Popen([sys.executable, "-m", "triarch", *arguments], stdout=subprocess.DEVNULL)
    count = len(journey.entries())
    for _ in range(1200):
        if len(journey.entries()) > count:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=120) != 0
    rows = {row["folder"]: row for row in journey.table("results")}
    for old in before:
        new = rows[old["folder"]]
        assert new["status"] in ("outdated", "finished")
        if new["status"] == "outdated":
            assert new["in_domain_loss"] == old["in_domain_loss"]
            (windows,) = {e["max_windows"] for e in journey.table("evaluations") if e["run"] == new["run"]}
            assert windows == "12"
