"""Any chain of optax's transformations, named in a config: names and literal arguments, no code."""

from __future__ import annotations

import ast
import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from triarch import lazy
from triarch.errors import UserError, brief, nearest
from triarch.models.kinds import KINDS, LAYERS
from triarch.training.optimizers.per_layer import only, per_layer
from triarch.training.optimizers.schedules import Schedule

if TYPE_CHECKING:
    import jax
    import optax

    from triarch.models.network import Tree
else:
    jax, optax = lazy.module("jax"), lazy.module("optax", "contrib")

# Of single numbers, or of all parameters together: how layers are stored makes no difference.
_OF_NUMBERS = (
    *("add_decayed_weights", "clip", "clip_by_global_norm", "ema", "normalize_by_update_norm", "scale"),
    *("scale_by_adadelta", "scale_by_adam", "scale_by_adamax", "scale_by_adan", "scale_by_ademamix", "scale_by_adopt"),
    *("scale_by_amsgrad", "scale_by_belief", "scale_by_lion", "scale_by_optimistic_gradient", "scale_by_radam"),
    *("scale_by_rms", "scale_by_rprop", "scale_by_rss", "scale_by_sign", "scale_by_simplified_ademamix"),
    *("scale_by_stddev", "scale_by_yogi", "trace", "zero_nans"),
)
# Of one tensor at a time, by its norm or its dimensions.
_OF_TENSORS = (
    *("adaptive_grad_clip", "centralize", "clip_by_block_rms", "scale_by_factored_rms", "scale_by_novograd"),
    *("scale_by_param_block_norm", "scale_by_param_block_rms", "scale_by_sm3", "scale_by_trust_ratio"),
)
TRANSFORMATIONS = (*_OF_NUMBERS, *_OF_TENSORS)
_ONLY = "only"
_MOST_CHARACTERS = 400


@dataclasses.dataclass(frozen=True)
class OptaxChain:
    """Transformations of optax one after another (https://optax.readthedocs.io), then the learning rate.

    Each step is a name with literal arguments, as "scale_by_adam(b1=0.9, b2=0.95)". Statistics of tensors (norms,
    factored moments) are those of one layer's. Any step takes only=("kernel", "table"), kinds of parameters to which it
    is applied; without it "add_decayed_weights(0.1)" leaves vectors out.

    Attributes:
      learning_rate: the schedule, by whose negative the last step's result is multiplied.
      transformations: names with their arguments, in order.
      max_grad_norm: global norm to which gradients are clipped first; None for no clipping.
    """

    learning_rate: Schedule
    transformations: tuple[str, ...] = ("scale_by_adam",)
    max_grad_norm: float | None = 1.0

    def validate(self) -> None:
        """Raises UserError, naming the step, for one that optax does not have or that does not take its arguments."""
        if not self.transformations:
            raise UserError("OptaxChain.transformations = (): expected at least one, such as 'scale_by_adam'")
        from triarch.models.network import ParameterSpec

        specs = [
            ParameterSpec((2, 4, 3), (LAYERS, None, None), "kernel"),
            ParameterSpec((4, 3), (None, None), "table"),
            ParameterSpec((3,), (None,), "vector"),
        ]
        params = [spec.struct for spec in specs]
        for text in self.transformations:
            step = _parse(text).transformation(specs)
            try:
                jax.eval_shape(lambda params, step=step: step.update(params, step.init(params), params), params)
            except Exception as error:  # Optax checks little of what it is given.
                raise UserError(
                    f"OptaxChain.transformations: {text!r}: {brief(error) or type(error).__name__}"
                ) from error

    def transformation(
        self, learning_rate: Callable[[jax.Array], jax.Array], specs: Tree
    ) -> optax.GradientTransformation:
        """Returns the transformation, as `Optimizer` has it."""
        steps = [_parse(text).transformation(specs) for text in self.transformations]
        return optax.chain(*steps, optax.scale_by_learning_rate(learning_rate))


@dataclasses.dataclass(frozen=True)
class _Step:
    text: str
    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    kinds: tuple[str, ...]

    def transformation(self, specs: Tree) -> optax.GradientTransformation:
        """Returns the step for parameters of `specs`.

        Raises:
          UserError: optax refuses the arguments.
        """
        mask = jax.tree.map(lambda spec: spec.kind in self.kinds, specs)
        try:
            made = _of_optax(self.name)(*self.args, **self.kwargs)
        except Exception as error:
            raise UserError(
                f"OptaxChain.transformations: {self.text!r}: {brief(error) or type(error).__name__}"
            ) from error
        if self.name in _OF_TENSORS:
            made = per_layer(made, only(specs, mask))
        return made if self.kinds == KINDS else optax.masked(made, mask)


def _of_optax(name: str) -> Callable[..., optax.GradientTransformation]:
    return getattr(optax, name, None) or getattr(optax.contrib, name)


def _parse(text: str) -> _Step:
    """Returns the step that a text names, its arguments bound to optax's function."""
    where = f"OptaxChain.transformations: {text[:_MOST_CHARACTERS]!r}"
    try:
        if len(text) > _MOST_CHARACTERS:
            raise ValueError
        call = ast.parse(text.strip(), mode="eval").body
        called = call.func if isinstance(call, ast.Call) else call
        args = tuple(map(ast.literal_eval, call.args)) if isinstance(call, ast.Call) else ()
        keywords = call.keywords if isinstance(call, ast.Call) else []
        kwargs = {one.arg: ast.literal_eval(one.value) for one in keywords if one.arg is not None}
        if not isinstance(called, ast.Name) or len(kwargs) < len(keywords):
            raise ValueError
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise UserError(
            f"{where}: expected a name with literal arguments, such as 'scale_by_adam(b1=0.9, b2=0.95)'"
        ) from None
    name = called.id
    if name not in TRANSFORMATIONS:
        if name == "scale_by_learning_rate":
            raise UserError(f"{where}: leave it out: OptaxChain.learning_rate is applied last")
        raise UserError(f"{where}: no transformation {name!r}{nearest(name, TRANSFORMATIONS)}")
    kinds = _kinds(kwargs.pop(_ONLY, None), name, where)
    signature = inspect.signature(_of_optax(name))
    for argument in kwargs:
        if argument not in signature.parameters:
            near = nearest(argument, [*signature.parameters, _ONLY])
            raise UserError(f"{where}: {name} has no argument {argument!r}{near}")
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise UserError(f"{where}: {error}") from None
    return _Step(text, name, args, kwargs, kinds)


def _kinds(given: Any, name: str, where: str) -> tuple[str, ...]:
    """Returns the kinds of parameters that a step is applied to."""
    if given is None:
        return tuple(kind for kind in KINDS if kind != "vector") if name == "add_decayed_weights" else KINDS
    kinds = (given,) if isinstance(given, str) else given
    for kind in kinds if isinstance(kinds, tuple | list) else (kinds,):
        if kind not in KINDS:
            raise UserError(f"{where}: only={given!r}: no kind {kind!r}{nearest(str(kind), KINDS)}")
    return tuple(kind for kind in KINDS if kind in kinds)
