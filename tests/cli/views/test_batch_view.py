"""`triarch inspect --gin_file`: what a model is fed, as a user sees it."""

import dataclasses
import json

import numpy as np
import pytest

from triarch.cli.main import main
from triarch.cli.views import batch_view
from triarch.data.batches import Batches
from triarch.data.store import TokenStore
from triarch.data.streams import Epochs
from triarch.objectives import MNTP, UL2, PrefixLM, SpanCorruption, SpecialTokens
from triarch.tokenizers import load_tokenizer

WINDOW = 60


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("batch")
    (folder / "text.txt").write_text("\n".join(f"Line {number} of a plain text." for number in range(200)))
    arguments = [f"--files={folder / 'text.txt'}", f"--output={folder / 'store'}", f"--window={WINDOW}"]
    arguments += ["--vocabulary=bytes", "--validation_fraction=0", "--workers=1", "--add_modes", "--add_sentinels=12"]
    assert main(["prepare", "--task=files", *arguments]) == 0
    return TokenStore.open(folder / "store")


def inspect(store, capsys, *arguments):
    capsys.readouterr()
    status = main(["inspect", str(store.path), "--json=-", *arguments])
    captured = capsys.readouterr()
    return (json.loads(captured.out[captured.out.index("\n{\n") :]), captured.out) if status == 0 else captured.err


def texts(store, row):
    special = SpecialTokens.from_manifest(store.manifest.vocabulary.special)
    return batch_view.view(row, load_tokenizer(store), special)


def features(store, objective, architecture, index=0, seed=0):
    vocabulary = store.manifest.vocabulary
    special = SpecialTokens.from_manifest(vocabulary.special)
    transform = objective.transform(architecture, special, vocabulary.size, WINDOW)
    return transform(store.split("train")[index], np.random.default_rng(seed))


def styled(text, style):
    """Returns what stands in `text` under `style`, and nothing else."""
    return "".join(text.plain[span.start : span.end] for span in text.spans if style in span.style.split())


@pytest.mark.parametrize(("file", "objective"), [("ul2", UL2), ("span_corruption", SpanCorruption()), ("mntp", MNTP())])
def test_rows_are_those_of_the_batch_that_a_run_reads(store, capsys, file, objective):
    bindings = ["--gin.RunConfig.seed=5", "--gin.RunConfig.batch_size=16", "--step=3"]
    architecture = "decoder-only"
    result, shown = inspect(
        store, capsys, f"--gin_file=objectives/{file}.gin", f"--architecture={architecture}", *bindings
    )
    vocabulary = store.manifest.vocabulary
    special = SpecialTokens.from_manifest(vocabulary.special)
    transform = objective.transform(architecture, special, vocabulary.size, WINDOW)
    batches = Batches(Epochs(store.split("train"), transform, seed=5), batch_size=16)
    assert (result["objective"], result["architecture"], len(result["rows"])) == (objective.name, architecture, 2)
    for number, row in enumerate(result["rows"]):
        for name, values in batches.batch(3).items():
            np.testing.assert_array_equal(row["features"][name], values[number])
        assert (0, row["index"], row["epoch"]) == batches.example_ids(3)[number]
        assert all(text in shown for text in row["text"])


def test_an_architecture_is_found(store, capsys):
    result, _ = inspect(store, capsys, "--gin_file=objectives/masked_lm.gin")
    assert result["architecture"] == "encoder-only"
    files = ["--gin_file=runs/redllm.gin", "--gin_file=models/redllm/150m.gin", "--gin.RunConfig.batch_size=4"]
    result, _ = inspect(store, capsys, *files)
    assert (result["objective"], result["architecture"]) == ("prefix_lm", "encoder-decoder")


def test_prefix_and_targets_are_told_apart(store):
    text = load_tokenizer(store).decode(store.split("train")[0]["tokens"])
    row = features(store, PrefixLM(0.25, bidirectional_prefix=True), "decoder-only")
    reads, predicts = texts(store, row)
    assert reads.plain == f"decoder reads 60 tokens: <s>{text[:-1]}"
    assert predicts.plain == f"decoder predicts 60 tokens: {text}"
    assert styled(predicts, "green") == text[15:] and styled(predicts, "dim") == text[:15]
    assert styled(reads, "underline") == "<s>" + text[:15] and styled(reads, "reverse") == "<s>"


def test_special_tokens_have_names_and_padding_is_counted(store):
    row = features(store, dataclasses.replace(SpanCorruption(0.1, 6.0), mode="R"), "encoder-decoder")
    row = {name: np.append(values, np.zeros(3, values.dtype)) for name, values in row.items()}
    text = load_tokenizer(store).decode(store.split("train")[0]["tokens"])
    encoder, reads, predicts = texts(store, row)
    assert encoder.plain == f"encoder reads 57 tokens and 3 of padding: <R>{text[:54]}<0><end>"
    assert reads.plain == f"decoder reads 8 tokens and 3 of padding: <s><0>{text[54:]}"
    assert predicts.plain == f"decoder predicts 8 tokens and 3 of padding: <0>{text[54:]}<end>"


def test_packed_documents_have_colours_by_turns(store):
    tokens = store.split("train")[0]["tokens"][:9]
    row = {"encoder_input_tokens": tokens, "encoder_segment_ids": np.repeat([1, 2, 3], 3)}
    (text,) = texts(store, row)
    whole = load_tokenizer(store).decode(tokens)
    assert (styled(text, "cyan"), styled(text, "magenta")) == (whole[3:6], whole[6:])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gin_file=data/ettin.gin"], "data/ettin.gin: sets no RunConfig.objective (see gin_configs/objectives)"),
        (["--gin_file=objectives/ul3.gin"], "no gin file objectives/ul3.gin (did you mean 'objectives/ul2.gin'?)"),
        (
            ["--gin_file=objectives/supervised.gin"],
            "its layout is 'windows', but objective supervised reads pairs or packed_",
        ),
        (["--gin_file=runs/decllm.gin"], "or choose an --architecture"),
        (["--gin_file=objectives/mntp.gin", "--step=-1"], "--step=-1: expected 0 or more"),
        (["--gin.MNTP.rate=0.2"], "--gin.NAME=VALUE changes a gin file: give one with --gin_file"),
        (
            ["--gin_file=objectives/span_corruption.gin", "--gin.SpanCorruption.noise_density=0.9"],
            "leaves 6 of 60 tokens between 18 spans",
        ),
        (
            [
                "--gin_file=objectives/span_corruption.gin",
                "--gin.SpanCorruption.mean_noise_span_length=1.0",
                "--gin.SpanCorruption.noise_density=0.3",
            ],
            "needs 18 sentinel tokens, and the store's vocabulary has 12: prepare the store with --add_sentinels=18",
        ),
        (
            ["--gin_file=objectives/masked_lm.gin", "--architecture=decoder-only"],
            "objective masked_lm trains encoder-only models, not decoder-only ones (these train on causal_lm,",
        ),
    ],
)
def test_mistakes_are_one_line(store, capsys, arguments, message):
    error = inspect(store, capsys, *arguments)
    assert message in error and error.count("\n") == 1
