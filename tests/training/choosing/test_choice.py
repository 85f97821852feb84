"""What a run chooses on which devices, and what it keeps to when it goes on."""

import dataclasses
import json

import jax
import pytest

from tests.training import tiny
from triarch.errors import UserError
from triarch.models import Execution
from triarch.sharding import MeshConfig
from triarch.sharding.torus import places
from triarch.training import train
from triarch.training.choosing.chips import CHIPS
from triarch.training.choosing.choice import advice, choose, choose_on, fitting_mesh, least
from triarch.training.choosing.facts import Facts
from triarch.training.choosing.machine import machine_of_chips
from triarch.training.inputs import open_inputs
from triarch.training.run import assemble

EIGHT = machine_of_chips(CHIPS["v5p"], (2, 2, 2), 1)


def wide(store="none", **changes):
    """A run of 86 million parameters, so that a chip's memory can be too small for one of its plans."""
    model = tiny.model("decoder-only", d_model=1024, d_ff=4096, num_heads=8, head_dim=128, vocab_size=4096)
    return tiny.run_config(store, **dict(model=model, batch_size=64) | changes)


@pytest.fixture(scope="module")
def facts():
    return Facts(wide(), "tpu")


def on(gib, facts, before=None, **changes):
    machine = dataclasses.replace(EIGHT, memory_bytes=int(gib * 2**30))
    return choose_on(dataclasses.replace(wide(), **changes), machine, before, facts)


class TestByMemory:
    def test_with_room_nothing_is_computed_again(self, facts):
        choice = on(90, facts)
        assert choice.fits and choice.option.remat == "none" and choice.left_open == ("mesh", "remat", "gather")

    def test_less_memory_shares_out_parameters_and_then_saves_less(self, facts):
        sizes = [on(gib, facts) for gib in (90, 1.0, 0.4, 0.2)]
        needs = [choice.needed_bytes for choice in sizes]
        assert needs == sorted(needs, reverse=True) and sizes[-1].option.remat == "full"
        assert sizes[-1].option.sizes["fsdp"] == 8 and sizes[-1].option.gather == "layer"

    def test_what_does_not_fit_says_what_would(self, facts):
        given = dict(batch_size=8192, mesh=MeshConfig(fsdp=8, data=1))
        choice = on(0.9, facts, **given)
        assert not choice.fits and choice.advice == "RunConfig.microbatches = 2 would fit"
        # Where the mesh is open, that is what is taken.
        choice = on(0.9, facts, batch_size=8192)
        assert choice.fits and choice.option.microbatches == 2 and "2 microbatches" in choice.describe()
        assert choice.applied(wide(batch_size=8192)).microbatches == 2
        assert on(0.001, facts).advice == "take more devices, or a smaller batch_size"

    @pytest.mark.slow
    def test_a_mesh_that_does_not_fit_is_answered_with_one_that_does(self):
        own = wide(mesh=MeshConfig(data=-1), execution=Execution(remat="none"), batch_size=8192)
        machine = dataclasses.replace(EIGHT, memory_bytes=int(0.9 * 2**30))
        tried = choose_on(own, machine).option
        assert advice(own, machine, tried) == "RunConfig.microbatches = 2 would fit"
        machine = dataclasses.replace(EIGHT, memory_bytes=int(1.2 * 2**30))
        told = advice(own, machine, tried)
        assert told == "fsdp=8, remat full, gather layer would fit, with about 991.8 MiB a device"
        assert fitting_mesh(own, machine) == "data=8" and least(wide(), machine).option.remat == "full"

    def test_what_the_config_says_stays(self, facts):
        own = Execution(remat="save_projections", gather="compiler")
        changes = dict(execution=own, mesh=MeshConfig(fsdp=4))
        choice = on(90, facts, **changes)
        assert choice.left_open == () and choice.applied(wide(**changes)) == wide(**changes)


def test_rows_that_are_too_few_split_heads(facts):
    choice = on(90, facts, batch_size=4)
    assert choice.option.sizes["tensor"] == 2 and choice.option.rows == 4
    with pytest.raises(UserError, match=r"batch_size 3 in 2 microbatches .* by any mesh: expected a multiple of 2"):
        on(90, facts, batch_size=3, microbatches=2)


class TestGoingOn:
    """Pinned is what sums in another type; all of it on the same devices."""

    def test_on_the_same_devices_all_stays(self, facts):
        record = on(0.4, facts).record(facts.config)
        record["mesh"], record["remat"] = dict(replica=1, data=2, fsdp=4, expert=1, sequence=1, tensor=1), "none"
        again = on(0.2, facts, before=record)
        assert again.is_kept and again.record(facts.config) == record

    def test_on_others_gather_and_tensor_stay(self, facts):
        record = on(90, facts, batch_size=4).record(facts.config) | {"devices": "others", "gather": "compiler"}
        choice = on(0.2, facts, before=record)
        assert choice.option.gather == "compiler" and choice.option.sizes["tensor"] == 2 and not choice.is_kept


class TestLaptop:
    def test_one_device_runs_the_program_it_always_ran(self, store):
        explicit = tiny.run_config(
            store, mesh=MeshConfig(data=-1), execution=Execution(remat="none", gather="compiler")
        )
        texts = []
        for config in (explicit, tiny.run_config(store)):
            config = choose(config, jax.devices()[:1]).applied(config)
            run = assemble(config, open_inputs(config), jax.devices()[:1])
            batch = next(run.batches(0))
            texts.append(run.train_step.lower(run.target, batch).as_text())
        assert texts[0] == texts[1]

    @pytest.mark.slow
    def test_a_run_records_and_tells_it(self, config, tmp_path, capfd):
        workdir = tmp_path / "run"
        train(dataclasses.replace(config, steps=6), workdir, "")
        first = capfd.readouterr().err.splitlines()[0]
        assert "remat none (mesh, remat, gather chosen)" in first
        kept = json.loads((workdir / "config.json").read_text())
        assert kept["chosen"]["remat"] == "none" and kept["execution"]["remat"] == "auto"
        kept["chosen"]["gather"] = "neither"
        (workdir / "config.json").write_text(json.dumps(kept))
        with pytest.raises(UserError, match="chosen: unknown gather 'neither'"):
            train(dataclasses.replace(config, steps=6), workdir, "")


@pytest.mark.parametrize(
    ("sizes", "shape", "found"),
    [
        ((16, 4), (4, 4, 4), ((0, 1), (2,))),
        ((1, 64), (4, 4, 4), ((), (0, 1, 2))),
        ((8, 8), (4, 4, 4), None),
        ((4, 4, 8), (4, 4, 8), ((0,), (1,), (2,))),
    ],
)
def test_mesh_axes_take_whole_axes_of_the_torus(sizes, shape, found):
    assert places(sizes, shape) == found
