"""A run, described completely: built and checked before any device is touched."""

from __future__ import annotations

import dataclasses
from typing import Literal

from triarch.data.mixture import StoreMixture
from triarch.errors import UserError
from triarch.fields import Count, NotNegative, Seed, Size, check
from triarch.models import Dropout, Execution, LoRA, ModelConfig
from triarch.models.attention.attention_parts import SelfAttention
from triarch.models.layers.dense import Dense
from triarch.models.shape import Side
from triarch.objectives.base import BoundObjective, LossOptions, Objective, SpecialTokens
from triarch.objectives.contrastive.groups import TextGroups
from triarch.objectives.distillation.distill import Distill
from triarch.objectives.mntp import MNTP
from triarch.sharding import AxisRules, MeshConfig
from triarch.training.adapters import check_adapter
from triarch.training.data_config import DataConfig
from triarch.training.optimizers import optimizer as optimizers
from triarch.training.optimizers.frozen import trained_names
from triarch.training.optimizers.optimizer import Optimizer
from triarch.training.optimizers.width import width_exponent
from triarch.training.phases.phase import Phase
from triarch.training.phases.stages import check_phases, num_steps


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """When checkpoints are written and how long they stay. The last step is always written.

    Kept are the newest `keep_last`, the multiples of `keep_every`, and the best one by `keep_best`; all others go as
    soon as a newer one is whole.

    Attributes:
      every: steps between checkpoints.
      keep_last: how many of the newest stay.
      keep_every: those at multiples of it stay for good; None for none.
      keep_best: a metric of metrics.jsonl: validation_loss, validation_accuracy, of labels those on the whole
        validation split, as validation/matthews, or a task's, as glue_cola/matthews.
        Where it is evaluated and better than ever, a checkpoint is written too, and stays until a better one is whole.
        `--step=best` loads it.
      keep_best_mode: "max" or "min", what is better; None: the least where the name ends in "loss", else the greatest.
      checksums: record a checksum of every file, so that flipped bits are found; without it only missing and
        shortened files are. It costs one read of the checkpoint in the background, and one before it is restored.
    """

    every: Size = 1000
    keep_last: Size = 3
    keep_every: Size | None = None
    keep_best: str | None = None
    keep_best_mode: Literal["max", "min"] | None = None
    checksums: bool = True


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """One training run.

    Attributes:
      model: the network.
      objective: how tokens become a loss.
      data: the token store or stores.
      optimizer: with its schedule.
      steps: updates to make; of a run in phases what these come to, whatever is set here.
      batch_size: sequences an update, over all devices.
      execution: how the network is computed.
      mesh: sizes of the mesh axes.
      rules: which dimensions are split over which mesh axes.
      checkpoint: when to save and what to keep.
      microbatches: parts into which a batch is cut to save memory; their gradients are summed. Where nothing else
        fits, a run that chooses its mesh takes more.
      dropout: what training leaves out of activations.
      seed: of parameters, the order of the data, random objectives and dropout.
      init_from: run or export whose parameters the run begins with; None for fresh ones. Steps count from 0.
      init_encoder_from: of an encoder-decoder that begins from decoder-only parameters, the run or export that its
        encoder begins as; None: the same as its decoder's, `init_from`.
      init_step: of that run, the checkpoint to begin with; None for the newest whole one.
      init_optimizer: also begin with the state of that run's optimizer.
      init_data: also read on where that run was in its data at that step, not from the beginning.
      held_out_tasks: patterns (*, ?, [...]) of tasks that the run must not be trained on: a store that says it holds
        one in its training split is refused, and `triarch evaluate` names what was trained on after all.
      train_only: parameters that are trained: kinds ("kernel", "vector", "table", "adapter"), names as in an export
        ("embedding/table") or their first parts ("decoder"), "*" for any characters; () for all. The others keep the
        values they begin with, without gradients or optimizer state.
      frozen: parameters that are not trained, likewise; () for none.
      adapter: small matrices beside kernels that are trained in place of the parameters that `init_from` names, which
        stay as they are and are not saved again; None for none.
      z_loss: weight of log(Z)^2 a token.
      loss_chunk: positions of each sequence whose logits are held at once; 0 holds them all.
      log_every: steps between lines of metrics.jsonl; the first and the last step are always logged.
      eval_every: steps between evaluations on the validation split; None for none.
      eval_batches: batches of such an evaluation, the same ones each time.
      eval_tasks: SeqIO tasks and mixtures of --module, evaluated during the run with their own metrics, which are
        logged as TASK/METRIC.
      eval_tasks_every: steps between these evaluations; the last step is one too. None for none.
      eval_tasks_split: of every task.
      eval_tasks_batch: examples decoded or scored at once.
      eval_tasks_examples: how many examples of each task, the first ones each time; None for all.
      eval_tasks_lengths: the most tokens of features, as "inputs=512,targets=62"; None: the longest of each task.
      tensorboard: whether to write TensorBoard events too.
      wandb_project: of Weights & Biases, logged to too (extra wandb); WANDB_MODE=offline keeps it in the run folder.
      compilation_cache: folder that keeps compiled steps between runs; None for none.
      phases: of a run whose settings change on its way, one after another; () for one without.
    """

    model: ModelConfig
    objective: Objective
    data: DataConfig
    optimizer: Optimizer
    steps: Size
    batch_size: Size
    execution: Execution = dataclasses.field(default_factory=Execution)
    mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig)
    rules: AxisRules = dataclasses.field(default_factory=AxisRules)
    checkpoint: CheckpointConfig = CheckpointConfig()
    microbatches: Size = 1
    dropout: Dropout = dataclasses.field(default_factory=Dropout)
    seed: Seed = 0
    init_from: str | None = None
    init_encoder_from: str | None = None
    init_step: int | None = None
    init_optimizer: bool = False
    init_data: bool = False
    held_out_tasks: tuple[str, ...] = ()
    train_only: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    adapter: LoRA | None = None
    z_loss: NotNegative = 1e-4
    loss_chunk: Count = 512
    log_every: Size = 10
    eval_every: Size | None = None
    eval_batches: Size = 8
    eval_tasks: tuple[str, ...] = ()
    eval_tasks_every: Size | None = None
    eval_tasks_split: str = "validation"
    eval_tasks_batch: Size = 32
    eval_tasks_examples: Size | None = None
    eval_tasks_lengths: str | None = None
    tensorboard: bool = True
    wandb_project: str | None = None
    compilation_cache: str | None = None
    phases: tuple[Phase, ...] = ()

    def __post_init__(self) -> None:
        # What is no phase, or no number, is told by the checks of types.
        if self.phases and all(isinstance(phase, Phase) for phase in self.phases):
            object.__setattr__(self, "steps", num_steps(self.phases, self.batch_size, self.data.window))

    def bound(self, special: SpecialTokens | None = None, vocab_size: int | None = None) -> BoundObjective:
        """Returns the objective for the run's model and window.

        Args:
          special: of the vocabulary in use; None where no text is read, but lengths, costs or shapes are asked for.
          vocab_size: of that vocabulary; None for the model's.
        """
        window, size = self.data.window, self.model.vocab_size
        return self.objective.bind(
            self.model.architecture,
            SpecialTokens.placeholders(size, window) if special is None else special,
            size if vocab_size is None else vocab_size,
            window,
            LossOptions(self.z_loss, self.loss_chunk),
        )


# Keys that may differ when a run resumes: how it is computed, watched and kept, not what is computed. The store may
# have moved; what is in it is compared by its fingerprint, and so are the phases of a mixture.
FREE_KEYS = (
    "execution",
    "mesh",
    "rules",
    "checkpoint",
    "microbatches",
    "loss_chunk",
    "log_every",
    "eval_every",
    "eval_batches",
    "held_out_tasks",
    "eval_tasks",
    "eval_tasks_every",
    "eval_tasks_split",
    "eval_tasks_batch",
    "eval_tasks_examples",
    "eval_tasks_lengths",
    "tensorboard",
    "wandb_project",
    "compilation_cache",
    "data.store",
    "data.validation_split",
    "data.num_threads",
    "data.prefetch",
)


def validate(config: RunConfig) -> None:
    """Checks everything about a run that can be told without its data and without a device.

    Raises:
      UserError: naming the class and field that is out of range.
    """
    for part in (config, config.checkpoint, config.data):
        check(part)
    if isinstance(config.data.store, StoreMixture):
        config.data.store.validate()
        _check_mixture(config.data.store, config.steps)
    _check_evaluations(config)
    if config.data.pack_batches and "packed_pairs" not in config.objective.layouts:
        raise UserError(
            f"DataConfig.pack_batches = True: objective {config.objective.name} takes no pairs that share rows"
        )
    if config.batch_size % config.microbatches:
        raise UserError(f"batch_size {config.batch_size} is not divisible by microbatches = {config.microbatches}")
    if config.microbatches > 1 and not config.objective.splits_into_microbatches:
        raise UserError(
            f"RunConfig.microbatches = {config.microbatches}: objective {config.objective.name} compares the examples "
            "of a batch with each other, so that it cannot be split: expected 1"
        )
    if isinstance(config.objective, TextGroups):
        config.objective.check_batch(config.batch_size // config.microbatches)
    for field in ("init_encoder_from", "init_step", "init_optimizer", "init_data"):
        if config.init_from is None and getattr(config, field) not in (None, False):
            raise UserError(f"RunConfig.{field} = {getattr(config, field)!r}: of which run? set RunConfig.init_from")
    if config.adapter is not None and isinstance(config.objective, Distill):
        raise UserError("RunConfig.adapter: a run with a teacher (Distill) trains its network's own parameters")
    config.model.validate()
    _check_directions(config)
    config.execution.validate()
    config.dropout.validate()
    _check_dropout(config)
    config.mesh.validate()
    config.rules.validate()
    _check_places(config)
    if config.phases:
        check_phases(config, validate)
    else:
        optimizers.validate(config.optimizer, config.steps)
        if config.model.parametrization != "standard":
            width_exponent(config.optimizer)
    if config.adapter is not None:
        if config.phases:
            raise UserError("RunConfig.adapter: a run in phases trains no adapters: expected RunConfig.phases = ()")
        check_adapter(config)
    elif config.dropout.adapter:
        raise UserError(f"Dropout.adapter = {config.dropout.adapter!r}: has no effect without RunConfig.adapter")
    if config.train_only or config.frozen:
        trained_names(config.model, config.train_only, config.frozen, config.bound().make_head)


def best_is_least(config: CheckpointConfig) -> bool:
    """Returns whether the least value of `keep_best` is the best one."""
    if config.keep_best_mode is None:
        return config.keep_best is not None and config.keep_best.endswith("loss")
    return config.keep_best_mode == "min"


def _check_evaluations(config: RunConfig) -> None:
    """Makes sure that what is to be evaluated is, and what is to be kept is evaluated."""
    if config.eval_tasks and hasattr(config.objective, "metrics"):
        raise UserError(
            f"RunConfig.eval_tasks = {config.eval_tasks!r}: tasks ask for tokens, and {config.objective.name} tells "
            "labels, which RunConfig.eval_every evaluates"
        )
    if bool(config.eval_tasks) != (config.eval_tasks_every is not None):
        given, missing = ("eval_tasks", "eval_tasks_every") if config.eval_tasks else ("eval_tasks_every", "eval_tasks")
        raise UserError(f"RunConfig.{given} = {getattr(config, given)!r}: set RunConfig.{missing} too")
    best = config.checkpoint.keep_best
    if best is None:
        return
    where = f"CheckpointConfig.keep_best = {best!r}"
    validated = [f"validation_{name}" for name in config.objective.measures]
    told = [f"validation/{name}" for name in getattr(config.objective, "metrics", ())]
    if best in (*told, *validated):
        if config.eval_every is None:
            raise UserError(f"{where}: is never evaluated: set RunConfig.eval_every")
    elif told:
        raise UserError(f"{where}: expected {' or '.join((*told, *validated))}")
    elif "/" not in best:
        raise UserError(f"{where}: expected a task's metric, as TASK/METRIC, or {' or '.join(validated)}")
    elif not config.eval_tasks:
        raise UserError(f"{where}: is never evaluated: name its task in RunConfig.eval_tasks")


def _check_places(config: RunConfig) -> None:
    """Makes sure that a table of learned positions has a row for every token."""
    rows = config.model.learned_positions
    if rows is None:
        return
    places, longest = rows - config.model.learned_position_offset, max(config.bound().lengths.values())
    if longest > places:
        raise UserError(
            f"DataConfig.window = {config.data.window:,}: a side reads {longest:,} tokens, but "
            f"ModelConfig.learned_positions makes it {places:,} places"
        )


def _check_dropout(config: RunConfig) -> None:
    """Makes sure that what is left out within sublayers is there."""
    dropout, model = config.dropout, config.model
    sides: tuple[Side, ...] = ("encoder", "decoder")
    layers = [spec for side in sides for spec in model.layer_specs(side)]
    if dropout.attention_weights and not any(spec.cross or isinstance(spec.mixer, SelfAttention) for spec in layers):
        rate = dropout.attention_weights
        raise UserError(f"Dropout.attention_weights = {rate!r}: has no effect without attention")
    if dropout.inner and not any(isinstance(spec.feed_forward, Dense) for spec in layers):
        raise UserError(
            f"Dropout.inner = {dropout.inner!r}: has no effect without a feed-forward layer of the usual kind"
        )
    if dropout.inner and config.execution.feed_forward_parts > 1:
        parts = config.execution.feed_forward_parts
        raise UserError(f"Dropout.inner = {dropout.inner!r}: expected Execution.feed_forward_parts = 1, not {parts}")


def _check_directions(config: RunConfig) -> None:
    """Makes sure that a decoder alone can look ahead where an objective has it do so."""
    if config.model.architecture != "decoder-only":
        return
    for part in getattr(config.objective, "objectives", (config.objective,)):
        if isinstance(part, MNTP):
            config.model.check_both_ways("RunConfig.objective = @MNTP()")
        elif getattr(part, "bidirectional_prefix", False):
            config.model.check_both_ways(f"{type(part).__name__}.bidirectional_prefix = True")


def _check_mixture(mixture: StoreMixture, steps: int) -> None:
    for phase in mixture.phases:
        if phase.start >= steps:
            raise UserError(
                f"MixturePhase.start = {phase.start:,}: the run ends at RunConfig.steps = {steps:,}, before that phase"
            )
