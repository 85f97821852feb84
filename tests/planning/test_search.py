"""What a search compiles and in what order; the compiler is stood in for by rules whose answer is known."""

import dataclasses

import pytest

from tests.training import tiny
from triarch.errors import UserError
from triarch.models import Execution
from triarch.planning.estimate import Estimate
from triarch.planning.plan import Plan
from triarch.planning.search import confirmed, meshes, search
from triarch.planning.topology import parse

V5E = parse("v5e:2x4")
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


def tried(run, fits, most=100):
    return search(run, V5E, lambda changed, _: answer(changed, fits(changed)), most)


def test_what_fits_at_once_ends_the_search():
    (trial,) = tried(config(), lambda run: True)
    assert (trial.mesh.data, trial.remat, trial.microbatches) == (8, "none", 1)


def test_the_best_is_the_fastest_of_all_that_fit():
    def fits(run):
        room = run.mesh.fsdp * run.mesh.tensor * run.microbatches
        return (
            room
            >= {"none": 99, "save_projections_and_attention": 16, "save_projections": 8, "full": 4}[run.execution.remat]
        )

    trials = tried(config(), fits)
    fitting = [trial for trial in trials if trial.plan.fits]
    assert trials[0].plan.fits and trials[0].seconds == min(trial.seconds for trial in fitting)
    assert trials[0].remat == "save_projections" and trials[0].mesh.fsdp == 8
    assert len({(trial.mesh, trial.remat, trial.microbatches) for trial in trials}) == len(trials)


def test_microbatches_come_where_nothing_else_fits():
    trials = tried(config(), lambda run: run.microbatches >= 4)
    assert trials[0].microbatches == 4 and trials[0].remat == "full"
    assert not any(trial.plan.fits for trial in trials if trial.microbatches < 4)


def compiled_again(trials, fits):
    made = []

    def make(run, description):
        made.append((run.mesh, run.execution.remat, run.microbatches))
        return answer(run, fits(run), "full")

    return confirmed(config(), trials, make), made


def test_only_the_winner_is_compiled_again():
    quick = tried(config(), lambda run: run.mesh.fsdp >= 8 or run.execution.remat == "full")
    trials, made = compiled_again(quick, lambda run: True)
    assert made == [(quick[0].mesh, quick[0].remat, quick[0].microbatches)]
    assert trials[0].plan.fits and [trial.plan.effort for trial in trials] == ["full"] + ["quick"] * (len(quick) - 1)
    assert [(trial.mesh, trial.remat) for trial in trials] == [(trial.mesh, trial.remat) for trial in quick]


def test_the_next_is_taken_where_the_winner_turns_out_not_to_fit():
    quick = tried(config(), lambda run: run.mesh.fsdp >= 8 or run.execution.remat == "full")
    fitting = [trial for trial in quick if trial.plan.fits]
    winner = fitting[0].mesh, fitting[0].remat
    trials, made = compiled_again(quick, lambda run: (run.mesh, run.execution.remat) != winner)
    assert len(made) == 2 and trials[0].plan.fits and trials[0].plan.effort == "full"
    assert (trials[0].mesh, trials[0].remat) == (fitting[1].mesh, fitting[1].remat)
    (refused,) = (trial for trial in trials if trial.plan.effort == "full" and not trial.plan.fits)
    assert (refused.mesh, refused.remat) == winner and len(trials) == len(quick)


def test_what_fits_nowhere_is_said_by_a_full_compilation():
    quick = tried(config(), lambda run: False, most=6)
    trials, made = compiled_again(quick, lambda run: False)
    assert len(made) == 1 and trials[0].plan.effort == "full" and len(trials) == len(quick)
    assert trials[0].plan.hbm_bytes_per_device == min(trial.plan.hbm_bytes_per_device for trial in quick)


def test_no_more_is_compiled_than_allowed():
    assert len(tried(config(), lambda run: False, most=3)) == 3


def test_meshes_divide_batch_and_heads():
    for mesh in meshes(config(batch_size=4), V5E):
        assert 4 % (mesh.data * mesh.fsdp) == 0 and config().model.num_heads % mesh.tensor == 0
    with pytest.raises(UserError, match="batch_size 3 is not divisible over 8 chips"):
        meshes(config(batch_size=3), V5E)


def test_meshes_divide_the_parts_of_the_feed_forward_layer():
    """32 inner units in 16 parts: over two chips, not over four; five parts suit none."""

    def tensors(parts):
        return {mesh.tensor for mesh in meshes(config(execution=Execution(feed_forward_parts=parts)), V5E)}

    assert (tensors(1), tensors(16)) == ({1, 2, 4}, {1, 2})
    with pytest.raises(UserError, match="feed_forward_parts = 5: expected a divisor of d_ff = 32"):
        tensors(5)
