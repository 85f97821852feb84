"""What a network is: one frozen value from which every family is built."""

from __future__ import annotations

import collections
import dataclasses

from triarch.errors import UserError
from triarch.fields import Size, check, is_whole, require
from triarch.models.attention.attention_parts import (
    CrossAttention,
    SelfAttention,
    check_relative_bias,
    num_relative_biases,
)
from triarch.models.layers.dense import Dense
from triarch.models.layers.ends import check_ends, num_embedding_params, num_head_params, num_input_params
from triarch.models.layers.layer import LayerSpec
from triarch.models.layers.parts import Convention, FeedForwardPart, MixerPart, Reading
from triarch.models.recurrent.both_directions import BothDirections
from triarch.models.shape import Shape, Side
from triarch.models.shape_checks import check_shape


@dataclasses.dataclass(frozen=True)
class ModelConfig(Shape):
    """A Transformer, of whatever family: each is a value of this class (gin_configs/models has them).

    Attributes:
      mixer: how tokens see each other, such as a recurrence; None is attention, as the fields below say.
      attention_layers: layers, counted from 0 on each side, that have attention in spite of `mixer` (hybrids).
      feed_forward: what becomes of each token by itself; None is one layer of width `d_ff`, none at all if that is 0.
      feed_forward_every: with a `feed_forward`, layer i has it if and only if i + 1 is a multiple of this; others have
        one of width `d_ff`.
    """

    mixer: MixerPart | None = None
    attention_layers: tuple[int, ...] = ()
    feed_forward: FeedForwardPart | None = None
    feed_forward_every: Size = 1

    def layer_specs(self, side: Side) -> tuple[LayerSpec, ...]:
        """Returns the layers of one side's stack."""
        cross = CrossAttention(self.d_model) if side == "decoder" and self.architecture == "encoder-decoder" else None

        def spec(index: int) -> LayerSpec:
            return LayerSpec(
                mixer=self._mixer(side, index),
                feed_forward=self._feed_forward(side, index),
                cross=cross,
                mixer_norm=index > 0 or self.first_attention_norm,
            )

        return tuple(spec(index) for index in range(self.num_layers(side)))

    def num_params(self) -> int:
        """Returns the exact number of parameters, shared ones counted once.

        For RedLLM and DecLLM these are the counts of arXiv 2510.26622 (figure 2, right), for the other families those
        of the released checkpoints, heads for language modelling included.
        """
        return self._num_params_beside_layers() + sum(spec.num_params(own) for own, spec in self._all_layers())

    def num_params_active(self) -> int:
        """Returns how many of the parameters one token makes use of: all but those of experts it is not sent to."""
        return self._num_params_beside_layers() + sum(spec.num_params_active(own) for own, spec in self._all_layers())

    def num_params_non_embedding(self) -> int:
        """Returns `num_params` without the embedding matrices."""
        return self.num_params() - num_embedding_params(self)

    def flops(
        self,
        encoder_length: int,
        decoder_length: int,
        convention: Convention,
        num_scored: int | None = None,
    ) -> float:
        """Returns floating-point operations for one sequence (2 per multiply-add; matrix products only).

        Two conventions, since a factor of three or six hides in the choice:

        - "paper" is what arXiv 2510.26622 plots: the forward pass alone, the full attention square also under a causal
          mask or window, and every embedding lookup counted as a product with a one-hot matrix.
        - "train" is what a training step needs: three times the forward pass (the backward pass costs two), only
          those query-key pairs that the mask lets see each other, lookups free.

        Of experts, both count those that a token is sent to.

        Args:
          encoder_length: tokens read by the encoder (ignored without one).
          decoder_length: tokens read by the decoder (ignored without one).
          convention: "paper" or "train".
          num_scored: tokens that logits are computed for; None means every token of the side that predicts. "paper"
            takes no notice of it.
        """
        lengths = {"encoder": encoder_length, "decoder": decoder_length}
        decoder = self.of_side("decoder")
        forward, inputs = 0.0, 0
        for side in self._sides:
            own = self.of_side(side)
            reading = Reading(lengths[side], encoder_length, causal=side == "decoder", convention=convention)
            layers = collections.Counter(self.layer_specs(side))
            forward += sum(count * spec.flops(own, reading) for spec, count in layers.items())
            inputs += lengths[side] * own.d_model
        predicting = decoder_length if self.num_decoder_layers else encoder_length
        scored = predicting if num_scored is None or convention == "paper" else num_scored
        if self.prediction_head:
            forward += 2 * predicting * decoder.d_model**2
        one_hot_lookups = inputs if convention == "paper" else 0
        forward += 2 * (scored * decoder.d_model + one_hot_lookups) * self.vocab_size
        return forward if convention == "paper" else 3 * forward

    def validate(self) -> None:
        """Raises UserError, naming the field, for values that make no network."""
        check(self)
        check_shape(self)
        has_other = self.feed_forward is not None or self.feed_forward_every == 1
        require(self, "feed_forward_every", has_other, "has no effect without feed_forward")
        most = max(self.num_encoder_layers, self.num_decoder_layers)
        are_there = all(is_whole(layer) and 0 <= layer < most for layer in self.attention_layers)
        require(self, "attention_layers", are_there, f"must be whole numbers from 0 to {most - 1}")
        has_other = self.mixer is not None or not self.attention_layers
        require(self, "attention_layers", has_other, "has no effect without mixer")
        for spec in dict.fromkeys(spec for own, spec in self._all_layers() if own is self):
            spec.check(self)
        is_known = self.parametrization == "standard" or (self.mixer is None and self.feed_forward is None)
        require(self, "parametrization", is_known, "goes with attention and usual feed-forward layers only")
        check_ends(self)
        check_relative_bias(self)
        decoder = self.of_side("decoder")
        if decoder is not self:
            try:
                decoder.validate()
            except UserError as error:
                raise UserError(f"{error} (of the decoder)") from None

    def check_both_ways(self, why: str) -> None:
        """Raises UserError, which says why, if a decoder's tokens are to see later ones and a mixer only looks back."""
        for mixer in (spec.mixer for spec in self.layer_specs("decoder")):
            if mixer.one_way:
                raise UserError(f"{why}: {type(mixer).__name__} layers of a decoder read from left to right only")

    @property
    def _sides(self) -> tuple[Side, ...]:
        return tuple(side for side in ("encoder", "decoder") if self.num_layers(side))

    def _all_layers(self) -> list[tuple[Shape, LayerSpec]]:
        """Returns every layer with the shape of its side."""
        shapes = {side: self.of_side(side) for side in self._sides}
        return [(own, spec) for side, own in shapes.items() for spec in self.layer_specs(side)]

    def _mixer(self, side: Side, index: int) -> MixerPart:
        if self.mixer is not None and index not in self.attention_layers:
            return BothDirections(self.mixer) if side == "encoder" and self.mixer.one_way else self.mixer
        is_global = self.sliding_window is None or index % self.global_every == self.first_global
        reach = self.sliding_window
        if side == "decoder" and self.decoder_sliding_window is not None:
            reach = self.decoder_sliding_window
        return SelfAttention(None if is_global else reach, self.rope if is_global else self.local_rope)

    def _feed_forward(self, side: Side, index: int) -> FeedForwardPart | None:
        is_other = self.feed_forward is not None and (index + 1) % self.feed_forward_every == 0
        if is_other:
            return self.feed_forward
        return Dense() if self.of_side(side).d_ff else None

    def _num_params_beside_layers(self) -> int:
        total = num_embedding_params(self) + num_head_params(self.of_side("decoder"))
        for own in map(self.of_side, self._sides):
            total += num_input_params(own) + own.num_norm_params(own.d_model) * own.final_norm
            total += num_relative_biases(own, per_layer=False)
        return total
