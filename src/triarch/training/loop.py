"""The training loop."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from triarch import disk
from triarch.errors import UserError
from triarch.files import write_whole
from triarch.memory import is_out_of_memory
from triarch.readable import shortened
from triarch.runtime.consistency import check_same_folder, from_first
from triarch.runtime.freed_memory import FreedMemory
from triarch.runtime.interruption import Interruption
from triarch.runtime.lock import locked
from triarch.runtime.quiet import quiet_orbax
from triarch.runtime.watchdog import Watchdog
from triarch.sharding import check_batch
from triarch.training.adapters import check_base
from triarch.training.best import Best
from triarch.training.checkpoints import Checkpoints, restore_newest
from triarch.training.choosing.choice import Choice, choose
from triarch.training.choosing.cost import Option
from triarch.training.choosing.trial import Trial, first_that_fits
from triarch.training.config import RunConfig, validate
from triarch.training.label_evaluation import LabelEvaluator, evaluates_labels
from triarch.training.logs.metrics import FILE_NAME as METRICS
from triarch.training.logs.metrics import MetricsLog, read_lines
from triarch.training.logs.profiling import StepTrace
from triarch.training.logs.reporter import Pending, Reporter
from triarch.training.logs.status import StatusLine
from triarch.training.logs.trackers import open_trackers
from triarch.training.memory import check_memory, explain
from triarch.training.phases.course import Course, open_course
from triarch.training.phases.stages import stages, widest
from triarch.training.record.changing import described_segments, earlier_runs, in_order, open_change, told_config
from triarch.training.record.fingerprint import (
    BEGAN_FROM,
    CHECKPOINTS,
    CHOSEN,
    SUMMARY,
    check_folder,
    read_chosen,
    saved_steps,
    write_folder,
)
from triarch.training.record.same_run import check_same_run
from triarch.training.run import Run, assemble
from triarch.training.starting_point import StartingPoint, open_starting_point, read_taken
from triarch.training.state import TrainState
from triarch.training.step import all_finite
from triarch.training.task_evaluation import TaskEvaluation, TaskEvaluator, check_evaluator, is_due
from triarch.training.teaching import open_teacher, taught, write_teacher


def train(
    config: RunConfig,
    workdir: str | Path,
    config_text: str,
    may_change: bool = False,
    profile: range | None = None,
    task_evaluator: TaskEvaluator | None = None,
) -> dict[str, Any]:
    """Trains the run of a folder, from its newest checkpoint if it has one, until its last step or a signal.

    Args:
      config: of the run.
      workdir: the run folder: holds config.gin, config.json, metrics.jsonl, checkpoints/, tensorboard/, summary.json.
      config_text: `config` as resolved gin text.
      may_change: whether an existing run may resume under another config, see `segments`.
      profile: steps, counted from 0, of which to write a trace, see `profiling`; None for none.
      task_evaluator: of `RunConfig.eval_tasks`; None where there are none.

    Returns:
      What summary.json holds when the run is complete, or {"status": "interrupted", "step": N} after a signal.

    Where the compiler or the devices have no memory for what was chosen, the next smaller plan is tried.

    With several processes (`jax.distributed`) all call this; the first writes all but the checkpoints.

    Raises:
      UserError: the config, store, mesh or run folder is not in order or not the same for all processes, the loss
        became infinite or NaN, no checkpoint is whole, or the disk is full.
    """

    def attempt(refused: Sequence[Option]) -> dict[str, Any]:
        return _train(config, workdir, config_text, may_change, profile, task_evaluator, refused)

    return first_that_fits(attempt, lambda line: print(line, flush=True) if jax.process_index() == 0 else None)


def _train(
    config: RunConfig,
    workdir: str | Path,
    config_text: str,
    may_change: bool,
    profile: range | None,
    task_evaluator: TaskEvaluator | None,
    refused: Sequence[Option],
) -> dict[str, Any]:
    """Trains as `train` does, under a plan that is none of `refused`.

    Raises:
      Refused: there is no memory for it.
    """
    validate(config)
    check_base(config)
    check_evaluator(config, task_evaluator)
    course = open_course(config)
    workdir = Path(workdir)
    change = open_change(workdir, course) if may_change else None
    if change is None:
        check_folder(workdir, config, course.stores)
    beginning = _starting_point(course, workdir)
    # Adapters go with parameters that no checkpoint of the run holds.
    base = beginning if config.adapter is None else open_starting_point(config, course.stores[0], workdir)
    teacher = open_teacher(config, course.stores[0], workdir)
    course = in_order(workdir, course, beginning)
    _use_compilation_cache(config.compilation_cache)
    began_from = read_taken(workdir) if beginning is None else beginning.taken
    check_same_run(config, course.stores, began_from)
    choice = _chosen(widest(config), workdir, refused)
    trial = Trial(choice)
    last = course.inputs
    run = assemble(choice.applied(last.config), last)
    _check_stages(run, course)
    is_first = jax.process_index() == 0
    progress = StatusLine(config.steps, enabled=is_first)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_explained(workdir, run, trial))
        stack.enter_context(quiet_orbax())
        stack.callback(progress.close)
        interruption = stack.enter_context(Interruption())
        if is_first:
            stack.enter_context(locked(workdir))
            if change is None:
                _write_folder(workdir, course, config_text, began_from, choice)
            if beginning is not None:
                beginning.write(workdir)
            if teacher is not None:
                write_teacher(teacher, workdir)
        check_same_folder(workdir)
        best = Best(config.checkpoint)
        checkpoints = stack.enter_context(
            contextlib.closing(Checkpoints(workdir / CHECKPOINTS, config.checkpoint, lambda: best.step))
        )
        restored = restore_newest(checkpoints, run.stored(run.target), progress.say)
        if restored is None:
            state, start = run.initial_state(beginning), 0
        else:
            state, start = run.completed(restored[0], base), restored[1]
        if teacher is not None:
            state = taught(run, state, teacher)
        trace = stack.enter_context(StepTrace(profile, workdir, progress.say))
        trace.check(start, config.steps)
        if change is not None:
            course = change.at(start)
            run = dataclasses.replace(run, inputs=course.inputs)
            if is_first:
                _write_folder(workdir, course, config_text, began_from, choice)
                (workdir / SUMMARY).unlink(missing_ok=True)
        progress.say(_opening_line(run, choice, start, beginning))
        if choice.advice is not None:
            progress.say(f"by estimate this does not fit: {choice.advice}")
        if not start:
            for line in _never_used(run):
                progress.say(line)
        for line in change.describe(start) if change is not None else ():
            progress.say(line)
        log = None
        if is_first:
            trackers = open_trackers(config, workdir, start)
            log = stack.enter_context(contextlib.closing(MetricsLog(workdir, start, trackers)))
        best.read(_logged(workdir, start, checkpoints))
        tasks = None
        if evaluates_labels(config) and start < config.steps:
            task_evaluator = LabelEvaluator(config, course.stores[0])
        watchdog = stack.enter_context(Watchdog(progress.say))
        step, phase = start, ""
        for part, until in (*earlier_runs(run, start), (run, config.steps)):
            seconds_before = log.lines[-1]["seconds"] if log and log.lines else 0.0
            reporter = Reporter(part, log, progress, seconds_before)
            if task_evaluator is not None and step < until and (tasks is None or tasks.model != part.config.model):
                tasks = TaskEvaluation(task_evaluator, part, workdir, state.params, progress)
            if part.inputs.fresh_optimizer and step == part.inputs.order.step:
                state = part.with_fresh_optimizer(state)
            if part.inputs.phase and phase != part.inputs.phase and step < until:
                progress.say(_phase_line(part, step))
                phase = part.inputs.phase
            kept = Kept(checkpoints, best, log)
            state, step = _loop(part, state, step, until, kept, reporter, tasks, interruption, watchdog, trace, trial)
            if step < until:
                break
        checkpoints.wait()
        if step < config.steps:
            progress.say(f"saved at step {step}; run again to resume")
            return {"status": "interrupted", "step": step}
        summary = _summary(run, log.lines if log else [], best)
        if is_first:
            write_whole(workdir / SUMMARY, json.dumps(summary, indent=2) + "\n")
        return summary


def _loop(
    run: Run,
    state: TrainState,
    step: int,
    until: int,
    kept: Kept,
    reporter: Reporter,
    tasks: TaskEvaluation | None,
    interruption: Interruption,
    watchdog: Watchdog,
    trace: StepTrace,
    trial: Trial,
) -> tuple[TrainState, int]:
    """Updates from `step` on to `until`; returns the state, which is saved, and the step after the last update."""
    config = run.config
    if step >= until:
        return state, step
    pending: Pending | None = None
    memory = FreedMemory()
    with contextlib.closing(run.batches(step)) as batches:
        for batch in batches:
            watchdog.at_step(step + 1)
            trace.before(step)
            state, metrics = run.train_step(state, batch)
            trial.after_step(metrics)
            trace.after(step, metrics)
            if pending is not None:
                reporter.report(pending)
                memory.after_step()
            step += 1
            # Of the phase or run: while batches grow, many parts end.
            last = step == config.steps
            evaluated = config.eval_every is not None and (last or step % config.eval_every == 0)
            validation = run.validate(state.params) if evaluated else None
            found = None
            if tasks is not None and is_due(config, step, last):
                jax.block_until_ready(metrics)
                with reporter.paused():
                    found = tasks(state.params, step)
            pending = Pending(step, metrics, validation, found)
            interrupted = interruption.due(step)
            stop = interrupted or step == until
            due = interrupted or last or step % config.checkpoint.every == 0
            if due or stop or (kept.best.metric is not None and pending.is_evaluated):
                line = reporter.report(pending)
                pending = None
                if kept.best.note(line) or due:
                    with reporter.paused():
                        _save(kept, state, run, step)
            if stop:
                return state, step
    raise AssertionError("batches never end")


def _check_stages(run: Run, course: Course) -> None:
    """Makes sure that every stage's batch can be split over the mesh, and that each phase may fit into memory.

    Raises:
      UserError: naming the phase that does not.
    """
    for stage in stages(course.config):
        own = dataclasses.replace(run, config=stage.config, objective=course.opened[stage.phase].objective)
        try:
            check_batch(own.config.rules, own.mesh, own.config.batch_size, own.config.microbatches)
            check_memory(own)
        except UserError as error:
            if not stage.phase:
                raise
            raise UserError(f"{error} (of phase {stage.phase!r})") from None


def _chosen(config: RunConfig, workdir: Path, refused: Sequence[Option]) -> Choice:
    """Returns what the run takes where its config leaves it open: in all processes what the first one takes."""
    # What was refused before the first checkpoint binds nobody.
    before = read_chosen(workdir) if not refused or saved_steps(workdir) else None
    choice = choose(config, jax.devices(), before, refused)
    record = json.loads(from_first(json.dumps(choice.record(config))))
    return choice if jax.process_index() == 0 else choose(config, jax.devices(), record)


def _write_folder(
    workdir: Path, course: Course, text: str, began_from: Mapping[str, Any] | None, choice: Choice
) -> None:
    record = course.record() | ({BEGAN_FROM: began_from} if began_from else {})
    if choice.left_open:
        record |= {CHOSEN: choice.record(widest(course.config))}
    write_folder(workdir, course.config, told_config(text, course.inputs), course.stores, record)


class Kept(NamedTuple):
    """What outlives a run's process.

    Attributes:
      checkpoints: of the run.
      best: which of them is the best.
      log: of metrics; None on all hosts but the first.
    """

    checkpoints: Checkpoints
    best: Best
    log: MetricsLog | None


def _logged(workdir: Path, start: int, checkpoints: Checkpoints) -> list[Mapping[str, Any]]:
    """Returns the logged lines, until `start`, of steps that have a checkpoint."""
    there = {step for step in checkpoints.steps() if step <= start}
    return [line for line in read_lines(workdir / METRICS) if line["step"] in there]


def _save(kept: Kept, state: TrainState, run: Run, step: int) -> None:
    """Saves a state whose metrics were reported, so that no checkpoint is ahead of the log, or not finite."""
    if not bool(all_finite(state.params)):
        raise UserError(
            f"a parameter is infinite or NaN after step {step}: stopped; earlier checkpoints are intact (docs/nan.md "
            "says what to look at)"
        )
    if kept.log is not None:
        kept.log.sync()
    kept.checkpoints.save(run.stored(state), step)


def _starting_point(course: Course, workdir: Path) -> StartingPoint | None:
    """Returns what a run begins from; None for fresh parameters, and where it has checkpoints to resume from."""
    config = course.first.config
    if config.init_from is None or saved_steps(workdir):
        return None
    return open_starting_point(config, course.stores[0], workdir)


def _phase_line(run: Run, step: int) -> str:
    config, inputs = run.config, run.inputs
    begun = "" if step == inputs.order.step else f", going on at step {step:,}"
    fresh = ", with a fresh optimizer" if inputs.fresh_optimizer else ""
    return (
        f"phase {inputs.phase!r} up to step {config.steps:,}{begun}: {config.objective.name} on windows of "
        f"{config.data.window:,}, batches of {config.batch_size:,}{fresh}"
    )


def _opening_line(run: Run, choice: Choice, start: int, beginning: StartingPoint | None) -> str:
    model = run.config.model
    mesh = ", ".join(f"{axis}={size}" for axis, size in run.mesh.shape.items())
    kind = run.mesh.devices.flat[0].device_kind
    origin = f"going on from step {start}" if start else "from step 0"
    origin = beginning.describe() if beginning is not None else origin
    count, trained = model.num_params(), run.network.num_trained
    parameters = shortened(count) if trained == count else f"{shortened(trained)} of {shortened(count)}"
    return f"{model.architecture}, {parameters} parameters, {mesh} on {kind}, {choice.describe()}, {origin}"


def _never_used(run: Run) -> Iterator[str]:
    """Yields a line where the model has more ids than the stores, as it may to be split evenly."""
    rows, size = run.config.model.vocab_size, run.inputs.stores[0].manifest.vocabulary.size
    if rows > size:
        yield f"the model has {rows:,} ids, the text's vocabulary {size:,}: the rest are never used"


def _summary(run: Run, lines: list[Any], best: Best) -> dict[str, Any]:
    """Returns what a complete run came to; speed is the median of all logged intervals."""
    config = run.config
    rates = [line["tokens_per_second"] for line in lines if line["tokens_per_second"]]
    validated = [f"validation_{name}" for name in config.objective.measures]
    validations = [{name: line[name] for name in validated} for line in lines if set(validated) <= line.keys()]
    return {
        "status": "complete",
        "architecture": config.model.architecture,
        "objective": config.objective.name,
        "loss": lines[-1]["loss"] if lines else None,
        **(validations[-1] if validations else dict.fromkeys(validated)),
        **({"best_step": best.step, "best_value": best.value} if best.metric is not None else {}),
        "steps": config.steps,
        **run.so_far(config.steps),
        "scored_tokens": run.inputs.scored_until(config.steps),
        "seconds": lines[-1]["seconds"] if lines else None,
        "tokens_per_second": statistics.median(rates) if rates else None,
        "num_params": config.model.num_params(),
        "num_params_non_embedding": config.model.num_params_non_embedding(),
        "device_kind": run.mesh.devices.flat[0].device_kind,
        "num_devices": run.mesh.size,
        **described_segments(run.inputs),
    }


def _use_compilation_cache(folder: str | None) -> None:
    if folder is None:
        return
    jax.config.update("jax_compilation_cache_dir", str(Path(folder).absolute()))
    # By default only slow compilations of large programs are kept; a small run has none, and waits all the same.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@contextlib.contextmanager
def _explained(workdir: Path, run: Run, trial: Trial) -> Iterator[None]:
    """Turns a full disk and too little memory into one clear line, whichever library met it; notes what was saved."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        saved = saved_steps(workdir)
        kept = f"the newest checkpoint is that of step {saved[-1]}" if saved else "no checkpoint was written yet"
        if disk.is_full(error):
            raise UserError(f"{workdir}: {disk.full(workdir)}; {kept}; make room and run again") from error
        if is_out_of_memory(error):
            trial.check(error)
            raise UserError(f"{explain(run, error)}; {kept}") from error
        error.add_note(kept)
        raise
