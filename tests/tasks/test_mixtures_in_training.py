"""SeqIO's mixtures as a run reads them: the rates, the tasks' examples row by row, the losses of SeqIO's batches."""

import dataclasses

import numpy as np
import pytest
import seqio

from tests.tasks import own_tasks
from tests.training import tiny
from triarch.cli.gin.files import build, parse
from triarch.cli.main import main
from triarch.data.batches import Batches
from triarch.data.store import TokenStore
from triarch.objectives import MNTP, UL2, Supervised
from triarch.training import DataConfig, train
from triarch.training.inputs import open_inputs
from triarch.training.record.order import DataOrder

LENGTHS = {"inputs": 24, "targets": 40}
TASKS = ("own_thrice", "own_corrupted")
STEPS = 10_000
# By hand: own_second is own_first twice (7 : 3) beside own_corrupted at one and a half.
RATES = {"own_first": (0.7, 0.3), "own_second": (1.4 / 3.5, 2.1 / 3.5)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixtures")
    own_tasks.register(folder)
    seqio.MixtureRegistry.add("own_first", [("own_thrice", 7), ("own_corrupted", lambda task: 3)])
    seqio.MixtureRegistry.add("own_second", [("own_first", 2), ("own_corrupted", 1.5)])
    lengths = ",".join(f"{side}:{most}" for side, most in LENGTHS.items())
    for name in RATES:
        flags = [f"--output={folder / 'stores'}", f"--sequence_length={lengths}", "--seed=3"]
        assert main(["prepare", f"--task={name}", *flags]) == 0
    return folder / "stores"


def config(folder, name, **changes):
    parse([str(folder / f"{name}.gin")], [])
    data, objective = build("DataConfig"), build("Supervised")
    assert objective == Supervised(*LENGTHS.values())
    size = TokenStore.open(data.store.stores[0]).manifest.vocabulary.size
    model = tiny.model("encoder-decoder", vocab_size=size)
    made = tiny.run_config("", "encoder-decoder", model=model, objective=objective, data=data, steps=STEPS)
    return dataclasses.replace(made, **changes)


@pytest.fixture(scope="module")
def converted(folder):
    """Each task's examples as `seqio.EncDecFeatureConverter` makes them, by what `order` calls the task."""
    converter = seqio.EncDecFeatureConverter(pack=False)
    given = dict(dataset_split="train", shuffle=False, seed=3, feature_converter=converter)
    return {f"{name}[train]": list(seqio.get_dataset(name, LENGTHS, **given).as_numpy_iterator()) for name in TASKS}


def rows_of(inputs, steps):
    """Yields (step, row), and the name of the task and the number of its example that `order` says stand there."""
    order = DataOrder([inputs])
    for _, part in order.parts(steps):
        named = zip(part.step, part.row, part.pieces.source, part.pieces.record, strict=True)
        yield from ((int(step), int(row), order.names[source], int(record)) for step, row, source, record in named)


@pytest.mark.slow
@pytest.mark.parametrize("name", RATES)
def test_rates_are_met_over_10000_steps(folder, name):
    inputs = open_inputs(config(folder, name, batch_size=1))
    tasks, batches = [store.manifest.task for store in inputs.stores], inputs.training()
    expected = [RATES[name][TASKS.index(task)] for task in tasks]
    sources = [example.source for step in range(STEPS) for example in batches.example_ids(step)]
    for steps in (STEPS // 10, STEPS):
        assert np.bincount(sources[:steps]) / steps == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("name", RATES)
def test_each_row_is_the_example_that_order_names(folder, converted, name):
    inputs = open_inputs(config(folder, name))
    batches, seen = inputs.training(), set()
    for steps in (range(12), range(STEPS - 4, STEPS)):
        made = {step: batches.batch(step) for step in steps}
        for step, row, task, record in rows_of(inputs, steps):
            seen.add((task, record))
            for feature, value in converted[task][record].items():
                np.testing.assert_array_equal(made[step][feature][row], value, err_msg=f"{task} {record} {feature}")
    assert {task for task, _ in seen} == set(converted) and len(seen) > 20


@pytest.mark.slow
def test_losses_are_those_of_seqios_batches(folder, converted, tmp_path, monkeypatch):
    run = config(folder, "own_second", steps=8)
    train(run, tmp_path / "ours", "")
    inputs = open_inputs(run)
    placed = {(step, row): converted[task][record] for step, row, task, record in rows_of(inputs, range(run.steps))}
    names, whole, fed = inputs.training().batch(0).keys(), Batches.batch, []

    def seqios(self, step):
        if step >= run.steps:  # Prefetched, and not trained on.
            return whole(self, step)
        fed.append(step)
        made = [placed[step, row] for row in range(run.batch_size)]
        batch = whole(self, step)
        return batch | {name: np.stack([one[name] for one in made]) for name in names & made[0].keys()}

    monkeypatch.setattr(Batches, "batch", seqios)
    train(run, tmp_path / "theirs", "")
    assert set(fed) == set(range(run.steps))
    assert tiny.losses(tmp_path / "ours") == tiny.losses(tmp_path / "theirs")


@pytest.fixture(scope="module")
def text(folder):
    """A store of raw text with all that UL2 and MNTP need, and the task's examples."""
    path = folder.parent / "text"
    flags = ["--window=32", "--add_modes", "--split=train"]
    assert main(["prepare", "--task=own_text", f"--output={path}", *flags]) == 0
    dataset = seqio.TaskRegistry.get("own_text").get_dataset(split="train", shuffle=False)
    return TokenStore.open(path), [example["targets"].tolist() for example in dataset.as_numpy_iterator()]


def windows_named(inputs, examples, steps):
    """The tokens of each row, cut out of the task's examples as `order` says."""
    order, found = DataOrder([inputs]), {}
    for _, part in order.parts(steps):
        pieces = part.pieces
        for index, (step, row) in enumerate(zip(part.step.tolist(), part.row.tolist(), strict=True)):
            assert order.names[pieces.source[index]] == "own_text[train]"
            tokens = examples[pieces.record[index]][pieces.token_start[index] : pieces.token_end[index]]
            found.setdefault((step, row), []).extend(tokens)
    return found


def restored(batch, row, sentinels):
    """The tokens that UL2 took apart: each sentinel's span in its place, or inputs and then targets."""
    inputs = batch["encoder_input_tokens"][row][batch["encoder_segment_ids"][row] > 0].tolist()[1:]
    targets = batch["decoder_target_tokens"][row][batch["decoder_loss_weights"][row] > 0].tolist()
    if not sentinels & set(inputs):
        return inputs[:-1] + targets  # Without the end that a prefix has.
    spans, current = {}, None
    for token in targets:
        if token in sentinels:
            current = spans.setdefault(token, [])
        else:
            current.append(token)
    return [one for token in inputs for one in (spans[token] if token in sentinels else [token])]


def raw_inputs(store, objective, architecture):
    model = tiny.model(architecture, vocab_size=store.manifest.vocabulary.size)
    data = DataConfig(store.manifest.window, str(store.path))
    return open_inputs(tiny.run_config("", architecture, model=model, objective=objective, data=data, steps=40))


def test_order_names_the_examples_under_ul2(text):
    store, examples = text
    inputs = raw_inputs(store, UL2, "encoder-decoder")
    last, count = store.manifest.vocabulary.special["sentinels"]
    sentinels = set(range(last - count + 1, last + 1))
    named, batches = windows_named(inputs, examples, range(9)), inputs.training()
    for (step, row), window in named.items():
        found = restored(batches.batch(step), row, sentinels)
        assert len(window) == 32 and found[:32] == window
        assert set(found[32:]) <= {store.manifest.vocabulary.special["eos"]}  # Of the inputs, and of the targets.


def test_order_names_the_examples_under_mntp(text):
    store, examples = text
    inputs = raw_inputs(store, MNTP(), "encoder-only")
    named, batches = windows_named(inputs, examples, range(9)), inputs.training()
    for (step, row), window in named.items():
        assert batches.batch(step)["encoder_target_tokens"][row].tolist() == window
