"""Learning-rate schedules: functions of the number of updates already made.

Every schedule warms up linearly from 0, `peak * step / warmup_steps`, over its first `warmup_steps` updates (except
where said otherwise); the formulas below hold after that. `total_steps` is the length of the run.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Protocol

from triarch import lazy, registry
from triarch.errors import UserError
from triarch.fields import Count, NotNegative, Positive, Share, Size, check

if TYPE_CHECKING:
    import jax
    import jax.numpy as jnp

    Scalar = jax.Array | float
else:
    jnp = lazy.module("jax.numpy")


class Schedule(Protocol):
    """A learning rate for every step; a frozen dataclass, so that a config can hold it."""

    @property
    def peak_rate(self) -> float:
        """The highest rate it reaches."""
        ...

    def validate(self, total_steps: int) -> None:
        """Raises UserError, naming the field, if the schedule does not fit a run of `total_steps`."""
        ...

    def __call__(self, step: Scalar, total_steps: int) -> jax.Array:
        """Returns the rate (float32 scalar) of the update made after `step` others."""
        ...


@dataclasses.dataclass(frozen=True)
class _Warmed:
    """What schedules share that start with a linear warm-up to `peak`.

    Attributes:
      peak: the highest learning rate.
      warmup_steps: updates until it is reached.
    """

    peak: Positive
    warmup_steps: Count = 0

    @property
    def peak_rate(self) -> float:
        return self.peak

    def validate(self, total_steps: int) -> None:
        check(self)
        _require(0 <= self.warmup_steps <= total_steps, self, "warmup_steps", f"0 to the run's {total_steps} steps")

    def __call__(self, step: Scalar, total_steps: int) -> jax.Array:
        step = jnp.asarray(step, jnp.float32)
        warmup = jnp.minimum(step / max(self.warmup_steps, 1), 1.0) if self.warmup_steps else 1.0
        factor = jnp.where(step < self.warmup_steps, 1.0, self._factor(step, total_steps))
        return jnp.float32(self.peak) * warmup * factor

    def _factor(self, step: jax.Array, total_steps: int) -> Scalar:
        raise NotImplementedError

    def _progress(self, step: jax.Array, start: int, end: int) -> jax.Array:
        return jnp.clip((step - start) / max(end - start, 1), 0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class Constant(_Warmed):
    """peak (Ettin's pretraining phase, arXiv 2507.11412)."""

    def _factor(self, step: jax.Array, total_steps: int) -> Scalar:
        return 1.0


@dataclasses.dataclass(frozen=True)
class Cosine(_Warmed):
    """peak * (f + (1 - f) * (1 + cos(pi t)) / 2), t from 0 at the end of warm-up to 1 at the end of the run.

    With f = 0.1, the schedule of RedLLM and DecLLM (arXiv 2510.26622).

    Attributes:
      final_fraction: f, the last rate as a fraction of `peak`.
    """

    final_fraction: Share = 0.1

    def _factor(self, step: jax.Array, total_steps: int) -> Scalar:
        cosine = 0.5 * (1.0 + jnp.cos(jnp.pi * self._progress(step, self.warmup_steps, total_steps)))
        return self.final_fraction + (1.0 - self.final_fraction) * cosine


@dataclasses.dataclass(frozen=True)
class Trapezoid(_Warmed):
    """peak, then over the last `decay_steps` linearly to peak * final_fraction (WSD; Ettin's cross-objective phase).

    Attributes:
      decay_steps: length of the decay at the end of the run.
      final_fraction: the last rate as a fraction of `peak`.
    """

    decay_steps: Count = 0
    final_fraction: Share = 0.0

    def validate(self, total_steps: int) -> None:
        super().validate(total_steps)
        room = total_steps - self.warmup_steps
        _require(0 <= self.decay_steps <= room, self, "decay_steps", f"0 to the {room} steps after warm-up")

    def _factor(self, step: jax.Array, total_steps: int) -> Scalar:
        if not self.decay_steps:
            return 1.0
        return 1.0 - (1.0 - self.final_fraction) * self._progress(step, total_steps - self.decay_steps, total_steps)


@dataclasses.dataclass(frozen=True)
class OneMinusSqrt(_Warmed):
    """peak * (f + (1 - f) * (1 - sqrt(t))), t from 0 to 1 over the last `decay_steps`, before that peak.

    Ettin's extension and decay phases (arXiv 2507.11412) span the whole run; as a cool-down it is that of
    arXiv 2405.18392.

    Attributes:
      decay_steps: length of the decay at the end of the run; None means from the end of warm-up.
      final_fraction: f, the last rate as a fraction of `peak`.
    """

    decay_steps: Size | None = None
    final_fraction: Share = 0.0

    def validate(self, total_steps: int) -> None:
        super().validate(total_steps)
        room = total_steps - self.warmup_steps
        fits = self.decay_steps is None or 1 <= self.decay_steps <= room
        _require(fits, self, "decay_steps", f"None, or 1 to the {room} steps after warm-up")

    def _factor(self, step: jax.Array, total_steps: int) -> Scalar:
        start = self.warmup_steps if self.decay_steps is None else total_steps - self.decay_steps
        decay = 1.0 - jnp.sqrt(self._progress(step, start, total_steps))
        return self.final_fraction + (1.0 - self.final_fraction) * decay


@dataclasses.dataclass(frozen=True)
class Rsqrt:
    """base / sqrt(max(step, warmup_steps)): T5's schedule, as T5X's "constant * rsqrt_decay" has it.

    Attributes:
      base: the factor.
      warmup_steps: until when the rate stays at base / sqrt(warmup_steps), which is its peak.
      linear_warmup: multiply by min(1, step / warmup_steps) ("constant * linear_warmup * rsqrt_decay").
    """

    base: Positive = 1.0
    warmup_steps: Size = 10_000
    linear_warmup: bool = False

    @property
    def peak_rate(self) -> float:
        return self.base / self.warmup_steps**0.5

    def validate(self, total_steps: int) -> None:
        del total_steps  # T5's own runs were at times shorter than the 10,000 steps.
        check(self)

    def __call__(self, step: Scalar, total_steps: int) -> jax.Array:
        step = jnp.asarray(step, jnp.float32)
        warmup = jnp.minimum(step / self.warmup_steps, 1.0) if self.linear_warmup else 1.0
        return jnp.float32(self.base) * warmup / jnp.sqrt(jnp.maximum(step, self.warmup_steps))


@dataclasses.dataclass(frozen=True)
class PhaseSchedule:
    """schedule((begun + (step - first_step) * pace), steps): another schedule, within a phase of a run.

    A run in phases (`RunConfig.phases`) makes these itself, one for each of a phase's batch sizes.

    Attributes:
      schedule: of the phase.
      first_step: of the run from which on it holds.
      steps: length of the phase, in full batches.
      begun: full batches' worth of tokens that the phase has read before `first_step`.
      pace: size of a batch as a fraction of a full one.
    """

    schedule: Schedule
    first_step: Count = 0
    steps: Size = 1
    begun: NotNegative = 0.0
    pace: Positive = 1.0

    @property
    def peak_rate(self) -> float:
        return self.schedule.peak_rate

    def validate(self, total_steps: int) -> None:
        """Raises UserError, naming the field, for what makes no phase."""
        check(self)
        self.schedule.validate(self.steps)

    def __call__(self, step: Scalar, total_steps: int) -> jax.Array:
        made = jnp.asarray(jnp.asarray(step) - self.first_step, jnp.float32)
        return self.schedule(jnp.float32(self.begun) + made * jnp.float32(self.pace), self.steps)


SCHEDULES = {cls.__name__: cls for cls in (Constant, Cosine, Trapezoid, OneMinusSqrt, Rsqrt, PhaseSchedule)}


def register_schedule(cls: type) -> type:
    """Makes a schedule of one's own known to gin files and runs; a decorator, returns the class.

    Args:
      cls: a frozen dataclass with the members of `Schedule`.

    Raises:
      UserError: it lacks one, or its name is taken.
    """
    return registry.register(cls, "schedule", Schedule, SCHEDULES)


def _require(holds: bool, schedule: object, field: str, expected: str) -> None:
    if not holds:
        value = getattr(schedule, field)
        raise UserError(f"{type(schedule).__name__}.{field} = {value!r}: expected {expected}")
