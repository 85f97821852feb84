"""Generation as programs: the reading of prompts and one new token, for devices that are not there."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal, cast

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from triarch.decoding import generator
from triarch.decoding.generator import LoopState
from triarch.decoding.prompts import PromptLayout, bucket
from triarch.decoding.sampling import Sampler
from triarch.decoding.settings import GenerationSettings
from triarch.decoding.stopping import Stops
from triarch.errors import UserError
from triarch.models import ModelConfig, abstract
from triarch.models.assemblies import Decoding
from triarch.models.attention.cache import Cache
from triarch.models.layers.parts import Convention
from triarch.sharding import Constrainer
from triarch.training.run import Program

GenerationKind = Literal["prefill", "decode"]
GENERATION_KINDS = ("prefill", "decode")
_START = (0,)  # What an encoder-decoder's decoder reads first; which token it is matters to no shape.


@dataclasses.dataclass(frozen=True)
class Lengths:
    """Of what is read and what is written.

    Attributes:
      prompt: tokens of each prompt.
      new_tokens: room for tokens that follow it.
    """

    prompt: int
    new_tokens: int

    def validate(self, config: ModelConfig) -> None:
        """Raises UserError for lengths that a model cannot be given, or a model that generates nothing."""
        if config.architecture == "encoder-only":
            raise UserError("an encoder has no decoder to generate with: plan its train or evaluate step")
        if self.prompt < 1:
            raise UserError(f"prompt_length={self.prompt}: expected at least 1")
        GenerationSettings(max_new_tokens=self.new_tokens).validate(config.vocab_size)
        _layout(config).check([[0] * self.prompt], self.new_tokens)


def lowered(run: Program, kind: GenerationKind, lengths: Lengths) -> jax.stages.Lowered:
    """Lowers `begin` of `decoding.generator` for a batch of prompts, or its `proceed`, a token a round, greedily.

    Raises:
      UserError: the lengths do not suit the model.
    """
    lengths.validate(run.config.model)
    settings = GenerationSettings(max_new_tokens=lengths.new_tokens)
    whole = NamedSharding(run.mesh, PartitionSpec())
    sampler, stops = _placed(
        jax.eval_shape(lambda: (Sampler.of(settings, run.config.model.vocab_size), Stops.of(()))), whole
    )
    started = _progress(run, lengths)
    layouts = jax.tree.map(lambda leaf: leaf.sharding, started)
    if kind == "prefill":

        def begin(params: Any, batch: dict, numbers: jax.Array, sampler: Sampler, stops: Stops) -> LoopState:
            return generator.begin(_decoding(run, params), batch, numbers, sampler, stops, bucket(lengths.new_tokens))

        batch, numbers = _prompts(run, lengths)
        return jax.jit(begin, out_shardings=layouts).lower(run.target.params, batch, numbers, sampler, stops)

    def proceed(params: Any, progress: LoopState, sampler: Sampler, stops: Stops, until: jax.Array) -> LoopState:
        return generator.proceed(lambda: _decoding(run, params), progress, sampler, stops, until)

    until = jax.ShapeDtypeStruct((), jnp.int32, sharding=whole)
    # An encoder is not run again, but stays where it is.
    program = jax.jit(proceed, donate_argnums=1, out_shardings=layouts, keep_unused=True)
    return program.lower(run.target.params, started, sampler, stops, until)


def cache_bytes(run: Program, lengths: Lengths) -> int:
    """Returns the bytes that layers keep of what was read, on one device."""
    leaves = jax.tree.leaves(_progress(run, lengths).cache.layers)
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in leaves)


def flops_per_row(config: ModelConfig, kind: GenerationKind, lengths: Lengths, convention: Convention) -> float:
    """Returns the model's FLOPs for reading one prompt, or for writing the last of the new tokens after it.

    Forward only: of the convention "train" a third.
    """
    share = 1 / 3 if convention == "train" else 1.0
    encoder, decoder = (lengths.prompt, 1) if config.num_encoder_layers else (0, lengths.prompt)
    if kind == "prefill":
        scored = 1 if convention == "train" else None
        return share * config.flops(encoder, decoder, convention, scored)
    longest = decoder + lengths.new_tokens - 1
    return share * (
        config.flops(encoder, longest, convention, longest)
        - config.flops(encoder, longest - 1, convention, longest - 1)
    )


def _layout(config: ModelConfig) -> PromptLayout:
    return PromptLayout(config, _START if config.num_encoder_layers else ())


def _prompts(run: Program, lengths: Lengths) -> tuple[dict[str, jax.ShapeDtypeStruct], jax.ShapeDtypeStruct]:
    """Returns the features of a batch of prompts, and the numbers of its rows."""
    rows = run.config.batch_size
    one = _layout(run.config.model).batch([[0] * lengths.prompt], 1)

    def spread(shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((rows, *shape), jnp.int32, sharding=run.batch_layout)

    return {name: spread(feature.shape[1:]) for name, feature in one.items()}, spread(())


def _progress(run: Program, lengths: Lengths) -> LoopState:
    """Returns a batch after its first new token: rows split like a batch, what layers keep by its axes."""
    batch, numbers = _prompts(run, lengths)
    sampler, stops = Sampler.of(GenerationSettings(), run.config.model.vocab_size), Stops.of(())
    progress = jax.eval_shape(
        lambda params, batch, numbers: generator.begin(
            _decoding(run, params), batch, numbers, sampler, stops, bucket(lengths.new_tokens)
        ),
        run.target.params,
        batch,
        numbers,
    )
    whole = NamedSharding(run.mesh, PartitionSpec())
    by_row = jax.tree.map(lambda leaf: _placed(leaf, run.batch_layout if leaf.ndim else whole), progress)
    return dataclasses.replace(by_row, cache=_placed_cache(run, by_row.cache))


def _decoding(run: Program, params: Any) -> Decoding:
    return cast(Decoding, run.network.merge(params))


def _placed_cache(run: Program, cache: Cache) -> Cache:
    constrain = Constrainer(run.config.rules, run.mesh)
    model = cast(Decoding, abstract(run.config.model, run.config.execution))
    axes = iter(model.decoder.kept_axes(cache.layers))

    def by_axes(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        return _placed(leaf, NamedSharding(run.mesh, constrain.spec(next(axes), leaf.shape)))

    return dataclasses.replace(cache, layers=jax.tree.map(by_axes, cache.layers))


def _placed(tree: Any, sharding: NamedSharding) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)
