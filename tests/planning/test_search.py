"""What a search compiles and in what order; the compiler is stood in for by rules whose answer is known."""

import dataclasses
import itertools

import pytest

from tests.training import tiny
from triarch.errors import UserError
from triarch.models import Execution
from triarch.planning.candidates import candidates, meshes
from triarch.planning.estimate import Estimate
from triarch.planning.plan import Plan
from triarch.planning.search import confirmed, search
from triarch.planning.topology import parse
from triarch.training.choosing.meshes import is_whole

V5E, CUBE = parse("v5e:2x4"), parse("v5p:4x4x4")
COST = {"none": 1.0, "save_projections_and_attention": 1.1, "save_projections": 1.2, "full": 1.3}


def config(batch_size=64, **changes):
    return dataclasses.replace(tiny.run_config("none"), batch_size=batch_size, **changes)


def answer(run, fits, effort="quick"):
    """A plan of a step that takes longer the more it recomputes, gathers and cuts."""
    mesh = run.mesh
    seconds = COST[run.execution.remat] * (1 + 0.01 * mesh.fsdp + 0.1 * (mesh.tensor - 1)) * run.microbatches
    return Plan(
        fits=fits, topology="", slice="", slices=1, num_devices=8, program="train", batch_size=run.batch_size,
        sequence_lengths={}, mesh=mesh.sizes(8), remat=run.execution.remat, microbatches=run.microbatches,
        gather="layer", attention="splash", hbm_limit_bytes=0, argument_bytes=0, model_flops_per_step={},
        compile_seconds=0.0, num_params=0, steps=1, tokens=1, effort=effort,
        estimate=Estimate(seconds, 0, 0, 0, 0, 0) if fits else None,
        hbm_bytes_per_device=1000 // (mesh.fsdp * mesh.tensor * run.microbatches),
    )  # fmt: skip


@pytest.fixture(scope="module")
def promising():
    """All candidates of the same promise, so that none is left out for being slower."""
    found, _ = candidates(config(), V5E)
    return [dataclasses.replace(one, seconds=0.0) for one in found]


def tried(promising, fits, most=1000, seconds=1e9, clock=lambda: 0.0):
    return search(config(), promising, lambda run, _: answer(run, fits(run)), most, seconds, clock)


def shape(trial):
    return trial.candidate.option.sizes, trial.candidate.option.remat, trial.candidate.option.microbatches


class TestSearch:
    def test_it_goes_on_after_the_first_that_fits(self, promising):
        trials = tried(promising, lambda run: True)
        assert len(trials) == len(promising) > 100
        assert trials[0].seconds == min(trial.seconds for trial in trials) == 1.01
        assert shape(trials[0])[1:] == ("none", 1) and trials[0].plan.mesh["data"] == 8

    def test_what_is_sure_to_be_slower_is_not_compiled(self, promising):
        slow = [dataclasses.replace(one, seconds=float(number)) for number, one in enumerate(promising)]
        trials = tried(slow, lambda run: True)
        assert 1 <= len(trials) <= 4  # The best, at about 1 s, rules out all that are estimated at 1.5 s and more.

    def test_what_fails_is_named_and_ends_nothing(self, promising):
        def make(run, _):
            if run.mesh.fsdp == 1:
                raise NotImplementedError("Failed to find assignment\nand more")
            return answer(run, True)

        trials = search(config(), promising, make, 1000, 1e9, lambda: 0.0)
        failed = [trial for trial in trials if trial.plan is None]
        assert trials[0].plan.fits and trials[-len(failed) :] == failed
        assert {trial.failure for trial in failed} == {"NotImplementedError: Failed to find assignment"}
        with pytest.raises(UserError, match=f"none of {len(failed)} meshes could be compiled; the first: Not"):
            search(config(), [trial.candidate for trial in failed], make, 1000, 1e9, lambda: 0.0)

    def test_it_ends_in_time_and_after_so_many(self, promising):
        ticks = itertools.count(0.0, 10.0)
        assert len(tried(promising, lambda run: True, seconds=45.0, clock=lambda: next(ticks))) == 4
        assert len(tried(promising, lambda run: False, most=3)) == 3
        assert len(tried(promising, lambda run: True, seconds=0.001, clock=lambda: next(ticks))) == 1


class TestConfirmed:
    def again(self, trials, fits):
        made = []

        def make(run, _):
            made.append((run.mesh.sizes(8), run.execution.remat, run.microbatches))
            return answer(run, fits(run), "full")

        return confirmed(config(), trials, make), made

    def test_only_the_winner_is_compiled_again(self, promising):
        quick = tried(promising, lambda run: run.mesh.fsdp >= 8, most=40)
        trials, made = self.again(quick, lambda run: True)
        assert made == [shape(quick[0])]
        assert trials[0].plan.effort == "full" and [shape(one) for one in trials] == [shape(one) for one in quick]

    def test_the_next_is_taken_where_the_winner_turns_out_not_to_fit(self, promising):
        quick = tried(promising, lambda run: run.mesh.fsdp >= 8, most=40)
        winner = shape(quick[0])
        trials, made = self.again(
            quick, lambda run: (run.mesh.sizes(8), run.execution.remat, run.microbatches) != winner
        )
        assert trials[0].plan.fits and trials[0].plan.effort == "full" and shape(trials[0]) != winner
        assert all(one == winner for one in made[:-1]) and len(trials) == len(quick)

    def test_what_fits_nowhere_is_said_by_a_full_compilation(self, promising):
        quick = tried(promising, lambda run: False, most=6)
        trials, made = self.again(quick, lambda run: False)
        assert len(made) == 1 and trials[0].plan.effort == "full" and len(trials) == len(quick)
        assert trials[0].plan.hbm_bytes_per_device == min(trial.plan.hbm_bytes_per_device for trial in quick)


class TestCandidates:
    def test_each_is_there_once_and_the_fastest_of_each_mesh_and_policy_come_first(self):
        found, too_large = candidates(config(), V5E)
        assert too_large == 0 and len({str(one) + str(one.option.sizes) for one in found}) == len(found)
        groups = {(*one.option.sizes.values(), one.option.remat) for one in found}
        first = found[: len(groups)]
        assert {(*one.option.sizes.values(), one.option.remat) for one in first} == groups
        assert [one.seconds for one in first] == sorted(one.seconds for one in first)

    def test_what_is_too_large_by_arithmetic_is_not_compiled(self):
        small = dataclasses.replace(V5E, chip=dataclasses.replace(V5E.chip, hbm_bytes=250_000))
        found, too_large = candidates(config(), small)
        everything, _ = candidates(config(), V5E)
        assert too_large > 0 and len(found) + too_large == len(everything)
        none = dataclasses.replace(V5E, chip=dataclasses.replace(V5E.chip, hbm_bytes=1))
        assert len(candidates(config(), none)[0]) == 1

    def test_meshes_cover_the_torus_with_and_without_splitting_its_axes(self):
        found = meshes(config(batch_size=256), CUBE)
        sizes = {(one["data"], one["fsdp"]) for one in found if one["tensor"] == one["sequence"] == 1}
        assert sizes == {(64 // fsdp, fsdp) for fsdp in (1, 2, 4, 8, 16, 32, 64)}
        along = [one for one in found if is_whole(one, CUBE.machine)]
        whole = {(one["data"], one["fsdp"]) for one in along if one["data"] * one["fsdp"] == 64}
        assert whole == {(64, 1), (16, 4), (4, 16), (1, 64)}

    def test_several_slices_exchange_gradients_alone(self):
        joined = dataclasses.replace(V5E, slices=2)
        assert {one["replica"] for one in meshes(config(), joined)} == {2}

    def test_meshes_divide_batch_and_heads(self):
        for mesh in meshes(config(batch_size=4), V5E):
            assert 4 % (mesh["data"] * mesh["fsdp"]) == 0 and config().model.num_heads % mesh["tensor"] == 0
        with pytest.raises(UserError, match="batch_size 3 is not divisible over 8 chips"):
            meshes(config(batch_size=3), V5E)

    def test_meshes_divide_the_parts_of_the_feed_forward_layer(self):
        """32 inner units in 16 parts: over two chips, not over four."""

        def tensors(parts):
            run = config(execution=Execution(feed_forward_parts=parts))
            return {mesh["tensor"] for mesh in meshes(run, V5E)}

        assert (tensors(1), tensors(16)) == ({1, 2, 4}, {1, 2})
