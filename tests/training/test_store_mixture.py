"""Runs on several stores: which fit together, and when a run is another one."""

import dataclasses

import numpy as np
import pytest

from tests.training import tiny
from triarch.data.mixture import MixturePhase, StoreMixture
from triarch.data.store import TokenStore
from triarch.errors import UserError
from triarch.training import DataConfig, train
from triarch.training.config import validate
from triarch.training.inputs import open_inputs
from triarch.training.record.fingerprint import check_folder, write_folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    return tuple(str(tiny.write_store(folder / f"of_{examples}", examples)) for examples in (48, 64))


def mixed_config(folders, *phases, **changes):
    mixture = StoreMixture(tuple(folders), phases or (MixturePhase(weights=(3, 1)), MixturePhase(8, (0, 1))))
    return tiny.run_config("", data=DataConfig(tiny.WINDOW, mixture), **changes)


def test_batches_follow_the_phases(folders):
    batches = open_inputs(mixed_config(folders)).training()
    sources = [[number for number, _, _ in batches.example_ids(step)] for step in range(12)]
    assert [row.count(0) for row in sources] == [6] * 8 + [0] * 4


def test_validation_reads_as_much_of_each_store(folders):
    batches = open_inputs(mixed_config(folders, eval_every=4)).validation()
    assert sum(number for number, _, _ in batches.example_ids(0)) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"vocabulary": "fingerprint"},
            r"of_64: its vocabulary \(bytes, 32 ids, sha256 other\) is not that of .*of_48",
        ),
        ({"layout": "packed"}, r"of_64: its layout is 'packed', that of .*of_48 'windows'"),
        ({"window": 8}, r"of_64: its windows are 8 tokens long, but DataConfig.window is 16"),
    ],
)
def test_stores_that_do_not_go_together(folders, monkeypatch, changes, message):
    whole = TokenStore.open

    def altered(path):
        store = whole(path)
        if path != folders[1]:
            return store
        manifest = store.manifest
        other = dataclasses.replace(manifest.vocabulary, fingerprint="other")
        return dataclasses.replace(
            store,
            manifest=dataclasses.replace(
                manifest, **changes | ({"vocabulary": other} if "vocabulary" in changes else {})
            ),
        )

    monkeypatch.setattr(TokenStore, "open", altered)
    with pytest.raises(UserError, match=message) as error:
        open_inputs(mixed_config(folders))
    assert "\n" not in str(error.value)


def test_a_mixture_is_checked_before_its_stores():
    with pytest.raises(UserError, match="sum to nothing"):
        validate(mixed_config(("/nowhere/a", "/nowhere/b"), MixturePhase(weights=(0, 0))))


@pytest.mark.parametrize(
    ("phases", "line"),
    [
        ((MixturePhase(weights=(3, 2)), MixturePhase(8, (0, 1))), r"mixture.phases\[0\].weights: \[3, 1\] -> \[3, 2\]"),
        ((MixturePhase(weights=(3, 1)), MixturePhase(9, (0, 1))), r"mixture.phases\[1\].start: 8 -> 9"),
        ((MixturePhase(weights=(3, 1)),), r"mixture.phases\[1\]"),
    ],
)
def test_another_mixture_is_another_run(folders, tmp_path, phases, line):
    config = mixed_config(folders)
    stores = [TokenStore.open(folder) for folder in folders]
    write_folder(tmp_path, config, "text", stores)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    check_folder(tmp_path, config, stores)
    with pytest.raises(UserError, match=line):
        check_folder(tmp_path, mixed_config(folders, *phases), stores)


def test_moved_stores_are_the_same_run_and_swapped_ones_are_not(folders, tmp_path):
    stores = [TokenStore.open(folder) for folder in folders]
    write_folder(tmp_path, mixed_config(folders), "text", stores)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    check_folder(tmp_path, mixed_config(("elsewhere/a", "elsewhere/b")), stores)
    with pytest.raises(UserError, match="store_fingerprint"):
        check_folder(tmp_path, mixed_config(folders), stores[::-1])


def test_training_on_a_mixture_goes_on_where_it_was(folders, tmp_path):
    config = mixed_config(folders, steps=10, seed=4)
    step, resumed = next(open_inputs(config).training().iterate(9))
    expected = open_inputs(config).training().batch(step)
    np.testing.assert_array_equal(resumed["decoder_input_tokens"], expected["decoder_input_tokens"])
    assert train(config, tmp_path / "run", "")["status"] == "complete"


def test_a_phase_that_would_never_begin_is_refused(folders):
    validate(mixed_config(folders, MixturePhase(), MixturePhase(11, (1, 2)), steps=12))
    with pytest.raises(UserError, match=r"MixturePhase.start = 12: the run ends at RunConfig.steps = 12, before"):
        validate(mixed_config(folders, MixturePhase(), MixturePhase(12, (1, 2)), steps=12))
