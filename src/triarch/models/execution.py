"""How a network is computed: choices that leave its numbers, to rounding, as they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from triarch import lazy
from triarch.errors import UserError
from triarch.fields import Size, check

if TYPE_CHECKING:
    import jax
    import jax.numpy as jnp

    from triarch.models.attention.scores import Scores
    from triarch.models.kernels import by_platform as kernels_by_platform
    from triarch.models.kernels import tpu as kernels_tpu
    from triarch.models.kernels.kernel import Attend
    from triarch.models.placing import Constrain
else:
    jax, jnp = lazy.module("jax"), lazy.module("jax.numpy")
    kernels_by_platform = lazy.module("triarch.models.kernels.by_platform")
    kernels_tpu = lazy.module("triarch.models.kernels.tpu")

# What each policy saves by name.
_SAVED = {"save_projections": ("projection",), "save_projections_and_attention": ("projection", "attention")}


@dataclasses.dataclass(frozen=True)
class Execution:
    """How a network is computed, never what it is.

    Attributes:
      compute_dtype: type of activations; "auto" is float32 on the CPU and bfloat16 on accelerators. Parameters,
        norms, softmax and losses are float32 throughout.
      scan_layers: loop over repeated layers (compile time independent of depth) instead of unrolling them.
      remat: what the backward pass finds saved: "none" recomputes nothing, "full" saves only each layer's input,
        "save_projections" also every product with weights, "save_projections_and_attention" attended values too;
        "auto": a run chooses by its devices' memory and speed.
      attention: "blocked" never holds the square of attention weights, "dense" does; "splash" is a kernel for TPUs,
        "cudnn" one for GPUs; "auto" is what is fastest on a platform.
      gather: of parameters that are split like the batch (FSDP): "compiler" leaves it to XLA, gradients being summed in
        float32; "layer" gathers a layer's matrices in the type of activations before it runs, and sums their
        gradients in that type, as T5X and MaxText do: half the traffic of sums; "auto": a run chooses "layer" where
        parameters are split so, and keeps to its choice, which is one of numbers.
      feed_forward_parts: number of parts into which d_ff is split. Only one part is held at a time, with its
        activations, gathered weights and gradients. Above 1 the backward pass computes activations between the layer's
        matrices anew, whatever `remat` is; with "full" it does that anyway.
    """

    compute_dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    scan_layers: bool = True
    remat: Literal["auto", "none", "full", "save_projections", "save_projections_and_attention"] = "auto"
    attention: Literal["auto", "blocked", "dense", "splash", "cudnn"] = "auto"
    gather: Literal["auto", "compiler", "layer"] = "auto"
    feed_forward_parts: Size = 1

    def on(self, platform: str) -> Execution:
        """Returns these choices with each "auto" decided for "cpu", "gpu" or "tpu".

        How much is saved and how parameters are gathered is the run's to choose; undecided they are "none" and
        "compiler".
        """
        compute_dtype = _dtype_on(platform) if self.compute_dtype == "auto" else self.compute_dtype
        fastest = kernels_by_platform.AUTOMATIC.get(platform, "blocked")
        attention = fastest if self.attention == "auto" else self.attention
        home = kernels_by_platform.PLATFORMS.get(attention, platform)
        if home != platform:
            raise UserError(f"Execution.attention = {attention!r} is a kernel for {home}, not for {platform}")
        remat = "none" if self.remat == "auto" else self.remat
        gather = "compiler" if self.gather == "auto" else self.gather
        decided: dict[str, Any] = dict(compute_dtype=compute_dtype, attention=attention, remat=remat, gather=gather)
        return dataclasses.replace(self, **decided)

    @property
    def dtype(self) -> jnp.dtype:
        """The type of activations, on this machine if it is automatic."""
        return jnp.dtype(_dtype_on(jax.default_backend()) if self.compute_dtype == "auto" else self.compute_dtype)

    def attend(self, constrain: Constrain) -> Attend:
        """Returns the attention kernel, for activations placed by `constrain`."""
        name = self.on(jax.default_backend()).attention if self.attention == "auto" else self.attention
        return kernels_by_platform.attending(name, constrain)

    def validate(self) -> None:
        """Raises UserError, naming the field, for an unknown choice."""
        check(self)

    def rematerialise_heads(
        self, function: Callable, query: jax.Array, scores: Scores, constrain: Constrain
    ) -> Callable:
        """Wraps what is between projections and attended values, for the backward pass of a layer computed anew.

        It then holds projections, not also what norm, rotation and a change of layout make of them. What the
        kernel saves is not computed once more; only the one for TPUs has names for that. Where queries are split over a
        sequence axis nothing is wrapped: keys and values would be gathered once more.
        """
        if self.remat != "full" or self.attention != "splash" or not kernels_tpu.can_splash(query, scores):
            return function
        if constrain.shards("length", query.shape[1]) > 1:
            return function
        return jax.checkpoint(function, policy=jax.checkpoint_policies.save_only_these_names("attention"))

    def rematerialise(self, function: Callable) -> Callable:
        """Wraps one layer so that its activations are saved by the chosen policy."""
        if self.remat in ("none", "auto"):
            return function
        saved = _SAVED.get(self.remat)
        policy = None if saved is None else jax.checkpoint_policies.save_only_these_names(*saved)
        return jax.checkpoint(function, policy=policy, prevent_cse=not self.scan_layers)


def _dtype_on(platform: str) -> str:
    return "float32" if platform == "cpu" else "bfloat16"
