"""The three architectures, each a few lines that put the same blocks together.

All read a batch by SeqIO's feature names. `*_segment_ids` (0 is padding) and `*_positions` are optional: without
them decoder inputs are one document a row, encoder inputs likewise with `pad_id` as padding.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from triarch.models import parameters
from triarch.models.attention.cache import Cache
from triarch.models.attention.masks import Mask
from triarch.models.attention.positions import (
    Angles,
    continued_positions,
    positions_in_segments,
    rotary_angles,
    text_lengths,
)
from triarch.models.config import ModelConfig
from triarch.models.execution import Execution
from triarch.models.layers.context import Memory, StackContext
from triarch.models.layers.dropout import DropoutKeys, dropped
from triarch.models.layers.dropout_rates import NO_DROPOUT, Dropout
from triarch.models.layers.embedding import Embedding, PredictionHead, StackInput, Unembedding
from triarch.models.layers.stack import Stack
from triarch.models.placing import Constrain, unconstrained
from triarch.models.shape import Side

Batch = Mapping[str, jax.Array]
Keys = Key[Array, " batch"] | None
Losses = dict[str, jax.Array] | None
MakeHead = Callable[[ModelConfig, nnx.Rngs], nnx.Module]


class Transformer(nnx.Module):
    """What the three architectures share: the embedding, and a head at the end that predicts tokens.

    Attributes:
      head: parameters beside the network, of an objective that brings its own; None for none.
      dropout: what is left out where a key is given.
    """

    head: nnx.Module | None = None
    dropout: Dropout = NO_DROPOUT

    def __init__(self, config: ModelConfig, execution: Execution, rngs: nnx.Rngs, constrain: Constrain):
        self.config = config
        self.execution = execution
        self.constrain = constrain
        self.embedding = Embedding(config, rngs)
        self.prediction_head = PredictionHead(config.of_side("decoder"), rngs) if config.prediction_head else None
        has_bias = config.logits_bias
        self.logits_bias = parameters.constant(0.0, (config.vocab_size,), ("vocab",)) if has_bias else None

    def hidden(self, batch: Batch, key: Keys = None, losses: Losses = None) -> Float[Array, "batch length d_model"]:
        """Returns the states from which `unembedding` makes logits: of encoder inputs or decoder inputs.

        Args:
          batch: features by SeqIO's names.
          key: a random key for each row, for dropout; None: nothing is left out.
          losses: filled with what parts of layers ask training to minimise besides, by name.
        """
        return self._headed(self.states(batch, key, losses))

    def states(self, batch: Batch, key: Keys = None, losses: Losses = None) -> Float[Array, "batch length d_model"]:
        """Returns the last stack's output; the arguments are those of `hidden`."""
        raise NotImplementedError

    def text_states(
        self, batch: Batch, key: Keys = None, losses: Losses = None
    ) -> Float[Array, "batch length d_model"]:
        """Returns the last states of the stack that reads a text: the encoder's, or a decoder's without an encoder.

        Args:
          batch: features of that side alone; the other arguments are those of `hidden`.
        """
        return self.states(batch, key, losses)

    def unembedding(self) -> Unembedding:
        """Returns the map from hidden states to logits."""
        config = self.config.of_side("decoder")
        bias = None if self.logits_bias is None else self.logits_bias[...]
        return Unembedding(self.embedding.output_kernel, bias, config.logits_factor, config.logits_softcap)

    def next_logits(self, hidden: Float[Array, "batch length d_model"]) -> Float[Array, "batch vocab"]:
        """Returns float32 logits of the token after the last column."""
        return self.unembedding().logits(hidden[:, -1])

    def __call__(self, batch: Batch) -> Float[Array, "batch length vocab"]:
        """Returns float32 logits."""
        return self.unembedding().logits(self.hidden(batch))

    def unroll(self) -> None:
        """Takes the layers of every stack apart, which makes decoding faster on a CPU; numbers do not change."""
        for stack in (getattr(self, "encoder", None), getattr(self, "decoder", None)):
            if stack is not None:
                stack.unroll()

    def _headed(self, states: Float[Array, "batch length d_model"]) -> Float[Array, "batch length d_model"]:
        return states if self.prediction_head is None else self.prediction_head(states)

    def _embed(
        self,
        batch: Batch,
        side: Side,
        stack_input: StackInput,
        positions: Int[Array, "#batch length"],
        dropout: DropoutKeys | None = None,
    ) -> Float[Array, "batch length d_model"]:
        x = self.embedding(batch[f"{side}_input_tokens"], side, self.execution.dtype)
        x = dropped(stack_input(x, positions, batch.get(f"{side}_token_types")), dropout, "embedding")
        return self.constrain(x, ("batch", "length", "embed"))

    def _dropout(self, side: Side, key: Keys) -> DropoutKeys | None:
        if key is None or not self.dropout:
            return None
        return DropoutKeys(self.dropout, key).within(("encoder", "decoder").index(side))

    def _self_context(
        self,
        side: Side,
        mask: Mask,
        positions: Int[Array, "#batch length"],
        dropout: DropoutKeys | None = None,
        losses: Losses = None,
    ) -> StackContext:
        # In the order of layers, not of a set: the program must be the same in every process.
        mixers = [spec.mixer for spec in self.config.layer_specs(side)]
        ropes = dict.fromkeys(mixer.rope for mixer in mixers if mixer.rope is not None)
        lengths = text_lengths(positions, mask.query_segments)
        head_dim = self.config.of_side(side).head_dim
        return StackContext(
            attend=self.execution.attend(self.constrain),
            mask=mask,
            angles={rope: rotary_angles(positions, head_dim, rope, lengths) for rope in ropes},
            dropout=dropout,
            losses=losses,
        )


class Encoder(Transformer):
    """Encoder-only: every token sees its whole document (BERT, Ettin encoders)."""

    def __init__(self, config: ModelConfig, execution: Execution, rngs: nnx.Rngs, constrain: Constrain):
        super().__init__(config, execution, rngs, constrain)
        self.encoder_input = StackInput(config.of_side("encoder"), rngs)
        self.encoder = Stack(config, execution, "encoder", rngs, constrain)

    def states(self, batch: Batch, key: Keys = None, losses: Losses = None) -> Float[Array, "batch length d_model"]:
        segments = _encoder_segments(batch, self.config.pad_id)
        positions = _positions(batch, "encoder", segments)
        dropout = self._dropout("encoder", key)
        context = self._self_context("encoder", Mask(segments, segments), positions, dropout, losses)
        return self.encoder(self._embed(batch, "encoder", self.encoder_input, positions, dropout), context)


@dataclasses.dataclass(frozen=True)
class DecoderInputs:
    """What a decoder's stack is run on: the residual stream, its context, and the tokens' places and segments."""

    x: Float[Array, "batch length d_model"]
    context: StackContext
    positions: Int[Array, "#batch length"]
    segments: Int[Array, "batch length"] | None


class Decoding(Transformer):
    """What models with a decoder share: reading a batch at once, or a prompt first and then token after token."""

    decoder: Stack
    decoder_input: StackInput

    def states(self, batch: Batch, key: Keys = None, losses: Losses = None) -> Float[Array, "batch length d_model"]:
        inputs = self._inputs(batch, key, losses)
        return self.decoder(inputs.x, inputs.context)

    def prefill(self, batch: Batch, capacity: int) -> tuple[Float[Array, "batch length d_model"], Cache]:
        """Reads prompts, and the encoder's inputs where there is an encoder.

        Args:
          batch: as for `hidden`. Prompts shorter than others have their padding on the left, so that all end in the
            last column; tokens of a prefix, `decoder_causal_attention`, see each other in both directions.
          capacity: columns of the cache: those of the prompts and of what is to follow.

        Returns:
          `hidden` of the batch, and the cache that `extend` takes.
        """
        inputs = self._inputs(batch)
        states, layers = self.decoder.prefill(inputs.x, inputs.context, capacity)
        rows, length = states.shape[:2]
        real = jnp.ones((rows, length), bool) if inputs.segments is None else inputs.segments > 0
        memory = inputs.context.memory
        cache = Cache(
            layers=layers,
            real=jnp.pad(real, ((0, 0), (0, capacity - length))),
            length=jnp.int32(length),
            positions=jnp.broadcast_to(inputs.positions[:, -1] + 1, (rows,)).astype(jnp.int32),
            memory_segments=None if memory is None else memory.mask.key_segments,
        )
        return self._headed(states), cache

    def extend(
        self, tokens: Int[Array, "batch count"], cache: Cache
    ) -> tuple[Float[Array, "batch count d_model"], Cache]:
        """Reads tokens that follow what is in the cache, each seeing itself and all before it.

        Returns:
          Their hidden states, equal to those of `hidden` on the whole text, and the longer cache. The caller sees to
          it that the cache has room.
        """
        positions = cache.positions[:, None] + jnp.arange(tokens.shape[1])
        later, columns = cache.extended(tokens.shape[1])
        memory = None
        if cache.memory_segments is not None:
            memory = Memory(None, Mask(key_segments=cache.memory_segments), self._memory_angles(positions))
        own = self._self_context("decoder", Mask(causal=True), positions)
        context = dataclasses.replace(own, memory=memory, columns=columns)
        x = self._embed({"decoder_input_tokens": tokens}, "decoder", self.decoder_input, positions)
        states, layers = self.decoder.extend(x, cache.layers, context)
        return self._headed(states), dataclasses.replace(later, layers=layers)

    def reorder(self, cache: Cache, rows: Int[Array, " batch"]) -> Cache:
        """Returns the cache after rows that continue the same prompt have changed places."""
        return dataclasses.replace(cache, layers=self.decoder.reorder(cache.layers, rows))

    def _inputs(self, batch: Batch, key: Keys = None, losses: Losses = None) -> DecoderInputs:
        raise NotImplementedError

    def _memory_angles(
        self, positions: Int[Array, "batch length"], lengths: Int[Array, " batch"] | None = None
    ) -> Angles | None:
        """Returns the angles by which cross-attention rotates queries or keys of texts of these lengths."""
        rope = self.config.rope
        if rope is None or not self.config.cross_attention_rope:
            return None
        return rotary_angles(positions, self.config.of_side("decoder").head_dim, rope, lengths)


class Decoder(Decoding):
    """Decoder-only: every token sees what stands before it in its document (DecLLM, Ettin decoders)."""

    def __init__(self, config: ModelConfig, execution: Execution, rngs: nnx.Rngs, constrain: Constrain):
        super().__init__(config, execution, rngs, constrain)
        self.decoder_input = StackInput(config.of_side("decoder"), rngs)
        self.decoder = Stack(config, execution, "decoder", rngs, constrain)

    def _memory_angles(self, positions: jax.Array, lengths: jax.Array | None = None) -> None:
        return None

    def _inputs(self, batch: Batch, key: Keys = None, losses: Losses = None) -> DecoderInputs:
        tokens = batch["decoder_input_tokens"]
        segments = batch.get("decoder_segment_ids")
        positions = _positions(batch, "decoder", segments, tokens.shape[1])
        prefix = _prefix(batch)
        if prefix is not None:
            self.config.check_both_ways("inputs are to be read in both directions")
        mask = Mask(segments, segments, prefix, causal=True)
        dropout = self._dropout("decoder", key)
        context = self._self_context("decoder", mask, positions, dropout, losses)
        x = self._embed(batch, "decoder", self.decoder_input, positions, dropout)
        return DecoderInputs(x, context, positions, segments)


class EncoderDecoder(Decoding):
    """Encoder-decoder: the decoder also attends to the encoder's output (RedLLM)."""

    def __init__(self, config: ModelConfig, execution: Execution, rngs: nnx.Rngs, constrain: Constrain):
        super().__init__(config, execution, rngs, constrain)
        self.encoder_input = StackInput(config.of_side("encoder"), rngs)
        self.encoder = Stack(config, execution, "encoder", rngs, constrain)
        self.decoder_input = StackInput(config.of_side("decoder"), rngs)
        self.decoder = Stack(config, execution, "decoder", rngs, constrain)

    def text_states(
        self, batch: Batch, key: Keys = None, losses: Losses = None
    ) -> Float[Array, "batch length d_model"]:
        segments = _encoder_segments(batch, self.config.pad_id)
        return self._encoded(batch, segments, _positions(batch, "encoder", segments), key, losses)

    def _encoded(
        self,
        batch: Batch,
        segments: Int[Array, "batch length"],
        positions: Int[Array, "#batch length"],
        key: Keys,
        losses: Losses,
    ) -> Float[Array, "batch length d_model"]:
        dropout = self._dropout("encoder", key)
        context = self._self_context("encoder", Mask(segments, segments), positions, dropout, losses)
        return self.encoder(self._embed(batch, "encoder", self.encoder_input, positions, dropout), context)

    def _inputs(self, batch: Batch, key: Keys = None, losses: Losses = None) -> DecoderInputs:
        source_segments = _encoder_segments(batch, self.config.pad_id)
        source_positions = _positions(batch, "encoder", source_segments)
        memory = self._encoded(batch, source_segments, source_positions, key, losses)
        segments = batch.get("decoder_segment_ids", jnp.ones_like(batch["decoder_input_tokens"]))
        positions = _positions(batch, "decoder", segments)
        if self.config.decoder_positions == "continuous":
            positions = continued_positions(positions, segments, source_positions, source_segments)
        dropout = self._dropout("decoder", key)
        own = self._self_context("decoder", Mask(segments, segments, causal=True), positions, dropout, losses)
        lengths = jnp.maximum(text_lengths(positions, segments), text_lengths(source_positions, source_segments))
        context = dataclasses.replace(
            own,
            memory=Memory(
                memory,
                Mask(segments, source_segments),
                self._memory_angles(positions, lengths),
                self._memory_angles(source_positions, lengths),
            ),
        )
        x = self._embed(batch, "decoder", self.decoder_input, positions, dropout)
        return DecoderInputs(x, context, positions, segments)


ASSEMBLIES = {"encoder-only": Encoder, "decoder-only": Decoder, "encoder-decoder": EncoderDecoder}


def build(
    config: ModelConfig,
    execution: Execution,
    rngs: nnx.Rngs,
    constrain: Constrain = unconstrained,
    make_head: MakeHead | None = None,
) -> Transformer:
    """Makes the network that `config` describes, with fresh parameters.

    Args:
      config: what the network is.
      execution: how it is computed.
      rngs: source of initial values (stream "params").
      constrain: places an activation on the mesh by the logical names of its axes.
      make_head: makes `Transformer.head`, if there is to be one.
    """
    model = ASSEMBLIES[config.architecture](config, execution, rngs, constrain)
    if make_head is not None:
        model.head = make_head(config, rngs)
    return model


def abstract(
    config: ModelConfig,
    execution: Execution,
    constrain: Constrain = unconstrained,
    make_head: MakeHead | None = None,
) -> Transformer:
    """Makes the same network with shapes in place of values: nothing is allocated."""
    return nnx.eval_shape(lambda: build(config, execution, nnx.Rngs(params=0), constrain, make_head))


def _encoder_segments(batch: Batch, pad_id: int) -> Int[Array, "batch length"]:
    given = batch.get("encoder_segment_ids")
    return (batch["encoder_input_tokens"] != pad_id).astype(jnp.int32) if given is None else given


def _positions(batch: Batch, side: str, segments: jax.Array | None, length: int = 0) -> Int[Array, "#batch length"]:
    given = batch.get(f"{side}_positions")
    if given is not None:
        return given
    return jnp.arange(length)[None] if segments is None else positions_in_segments(segments)


def _prefix(batch: Batch) -> jax.Array | None:
    given = batch.get("decoder_causal_attention")
    return None if given is None else given.astype(bool)
