"""What every objective is: how an example's tokens become a model's features, and these a loss."""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from triarch.data.features import Transform
from triarch.errors import UserError, nearest

if TYPE_CHECKING:  # Features are made without jax.
    import jax

    from triarch.models import MakeHead, ModelConfig, Transformer
    from triarch.models.layers.parts import Convention
    from triarch.objectives.sums import Sums

PairFunction = Callable[[np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]

_SUITABLE = {
    "encoder-only": "masked_lm and mntp",
    "decoder-only": "causal_lm, prefix_lm, span_corruption, supervised and mntp",
    "encoder-decoder": "prefix_lm, span_corruption and supervised",
}


@dataclasses.dataclass(frozen=True)
class SpecialTokens:
    """Ids with a meaning of their own.

    Attributes:
      pad: fills what is not there; its loss weight is 0.
      bos: what the decoder reads before its first target ("<s>"); SeqIO and T5 use the pad token.
      eos: ends a document ("[EOD]"), and inputs and targets where an objective says so.
      mask: stands for a token to be guessed; None if the vocabulary has none.
      sentinels: stand for spans to be guessed, in order of use (T5's <extra_id_0>, <extra_id_1>, ...).
      modes: by name, what tells a network which kind of denoising is asked for (UL2's "R", "S" and "X").
    """

    pad: int
    bos: int
    eos: int
    mask: int | None
    sentinels: tuple[int, ...] = ()
    modes: Mapping[str, int] = dataclasses.field(default_factory=dict, hash=False)

    @classmethod
    def from_manifest(cls, special: Mapping[str, Any]) -> SpecialTokens:
        """Returns the special tokens of a store's manifest.

        Args:
          special: "pad", "bos", "eos" and "mask"; where the vocabulary has them "sentinels", [first id, count] with
            ids descending, and "modes", ids by name.
        """
        first, count = special.get("sentinels") or (0, 0)
        return cls(
            **{name: special[name] for name in ("pad", "bos", "eos", "mask")},
            sentinels=tuple(range(first, first - count, -1)),
            modes=dict(special.get("modes") or {}),
        )

    @classmethod
    def placeholders(cls, vocab_size: int, window: int) -> SpecialTokens:
        """Returns special tokens for where no text is read: what the ids are matters to no length, cost or shape.

        There are enough sentinels for any window, as far as the vocabulary has room.
        """
        sentinels = tuple(range(vocab_size - 1, max(vocab_size - 1 - window, 4), -1))
        return cls(pad=0, bos=1, eos=2, mask=3, sentinels=sentinels, modes={"R": 4, "S": 5, "X": 6})

    def first_sentinels(self, count: int, objective: str) -> np.ndarray:
        """Returns int32[count]: the first `count` sentinels.

        Raises:
          UserError: the vocabulary has fewer.
        """
        if count > len(self.sentinels):
            raise UserError(
                f"{objective} needs {count} sentinel tokens, and the store's vocabulary has {len(self.sentinels)}: "
                f"prepare the store with --add_sentinels={count}, or with shorter windows"
            )
        return np.array(self.sentinels[:count], np.int32)

    def mode(self, name: str | None, objective: str) -> np.ndarray:
        """Returns int32[1]: the mode token `name`; int32[0] for None.

        Raises:
          UserError: the vocabulary has no such mode.
        """
        if name is None:
            return np.zeros(0, np.int32)
        if name not in self.modes:
            has = f"has none of that name{nearest(name, self.modes)}" if self.modes else "has none (see --add_modes)"
            raise UserError(f"{objective} needs the mode token {name!r}, and the store's vocabulary {has}")
        return np.array([self.modes[name]], np.int32)


@dataclasses.dataclass(frozen=True)
class LossOptions:
    """How a loss over a vocabulary is computed; other losses have no use for it.

    Attributes:
      z_loss: weight of log(Z)^2 a token.
      chunk: positions of each sequence whose logits are held at once; 0 holds them all.
    """

    z_loss: float = 0.0
    chunk: int = 512


PLAIN = LossOptions()


class BoundObjective(Protocol):
    """An objective for one architecture, vocabulary and window: all that a run asks of it."""

    @property
    def lengths(self) -> dict[str, int]:
        """Tokens each side reads, {"encoder": E, "decoder": D}."""
        ...

    @property
    def num_scored(self) -> int:
        """Targets of an example that carry loss, at most."""
        ...

    @property
    def features(self) -> Transform:
        """The numpy function from an example to SeqIO-named features, always of the same shapes.

        An example is {"tokens": int32[window]}. Where documents are packed or padded, its "segment_ids", int32[window],
        number the documents from 1, 0 being padding; without them a window is one text. Of the layout "pairs" it is
        {"inputs": int32[n], "targets": int32[m]}; of "packed_pairs" the pairs are packed as documents are, each with as
        many tokens of inputs at its beginning as "num_inputs", int32[pairs], says. Random choices come from the
        function's generator only.

        Raises:
          UserError: the objective makes no sense for the architecture or the window, or lacks a special token.
        """
        ...

    @property
    def make_head(self) -> MakeHead | None:
        """Makes the objective's own parameters, which the loss finds as `model.head`; None: it has none.

        They are made by `triarch.models.parameters`, so that their axes have logical names.
        """
        ...

    def flops(self, model: ModelConfig, convention: Convention) -> float:
        """Returns the model's FLOPs for one example, "paper" or "train"."""
        ...

    def weight(self, batch: Mapping[str, jax.Array]) -> jax.Array:
        """Returns by what the summed loss of a whole batch is divided, as the number of its targets; 0 for none."""
        ...

    def loss(
        self, model: Transformer, batch: Mapping[str, jax.Array], key: jax.Array | None = None
    ) -> tuple[jax.Array, Sums]:
        """Returns the summed loss to train on, float32, and what it is made of.

        Args:
          model: the network, with the objective's head.
          batch: features of examples, which may be a part of a batch.
          key: a random key for each example, [batch], the same however the batch is split, for the model's dropout;
            None without dropout, as in evaluations.
        """
        ...


class Objective(Protocol):
    """How tokens become a loss; the values of a config's `RunConfig.objective`."""

    @property
    def name(self) -> str: ...

    @property
    def layouts(self) -> tuple[str, ...]:
        """Layouts of token stores whose examples it takes: "windows", "packed", "pairs", "packed_pairs", "groups"."""
        ...

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of its `Sums.measures`."""
        ...

    @property
    def splits_into_microbatches(self) -> bool:
        """Whether a batch's loss is the sum of its examples' losses, so that it may be computed part by part."""
        ...

    def lengths(self, architecture: str, window: int) -> dict[str, int]:
        """Returns {"encoder": E, "decoder": D} for those sides that `architecture` has, for windows of `window`.

        Features always have these lengths: what an example does not fill is padding.
        """
        ...

    def bind(
        self,
        architecture: str,
        special: SpecialTokens,
        vocab_size: int,
        window: int,
        options: LossOptions = PLAIN,
    ) -> BoundObjective:
        """Returns the objective for one architecture, vocabulary and window; what does not fit shows in its members."""
        ...


class PairObjective(Objective, Protocol):
    """An objective in two parts: inputs, which are read, and targets, which are predicted from them."""

    def pair(self, special: SpecialTokens, window: int) -> PairFunction:
        """Returns the numpy function from tokens (at most `window`, no padding) to inputs and targets.

        Both are int32, of no fixed length, complete: with mode and end-of-document tokens where the objective has
        them. `transform` lays out the same inputs and targets for an architecture.

        Raises:
          UserError: a special token is missing.
        """
        ...


def require_architecture(objective: str, architecture: str, allowed: tuple[str, ...]) -> None:
    """Raises UserError unless `objective` makes sense for `architecture`."""
    if architecture not in allowed:
        raise UserError(
            f"objective {objective} trains {' or '.join(allowed)} models, not {architecture} ones "
            f"(these train on {_SUITABLE[architecture]})"
        )


def adds_special_tokens(objective: Objective | None) -> bool:
    """Returns whether an objective, or one of a mixture, reads documents between start and end tokens."""
    parts = getattr(objective, "objectives", ())
    return bool(getattr(objective, "add_special_tokens", False)) or any(map(adds_special_tokens, parts))


def require_layout(
    objective: Objective,
    layout: str,
    store: str,
    lengths: Mapping[str, int] | None = None,
    gap: int | None = None,
) -> None:
    """Raises UserError unless `objective` takes the examples of `store`.

    Args:
      objective: that reads them.
      layout: of the store.
      store: its name, for messages.
      lengths: of pairs, how long both sides are at most.
      gap: of packed documents, tokens left free between them.
    """
    if layout not in objective.layouts:
        wanted = " or ".join(objective.layouts) or "no layout: its objectives have none in common"
        raise UserError(
            f"{store}: its layout is {layout!r}, but objective {objective.name} reads {wanted}: prepare the store with "
            "another --layout"
        )
    if layout == "packed" and not gap and adds_special_tokens(objective):
        raise UserError(f"{store}: its rows have no room for MaskedLM.add_special_tokens: prepare it with --gap=1")
    expected = getattr(objective, "pair_lengths", lengths)
    if lengths is not None and expected is not None and expected != lengths:
        raise UserError(
            f"{store}: its {_told(lengths)}, but objective {objective.name} expects that {_told(expected)}: set its "
            "inputs_length and targets_length to the store's"
        )


def _told(lengths: Mapping[str, int]) -> str:
    return f"inputs have at most {lengths['inputs']} tokens and targets {lengths['targets']}"


def largest_window(objective: Objective, architecture: str, lengths: Mapping[str, int]) -> int:
    """Returns the most tokens a window may have so that its features fit into `lengths`.

    For span corruption this is T5's `random_spans_helper`: 568 tokens make 512 inputs and 114 targets.

    Args:
      objective: whose lengths grow with the window.
      architecture: which sides there are.
      lengths: {"encoder": E, "decoder": D} for those sides.

    Raises:
      UserError: no window fits, or the objective makes no sense for the architecture.
    """

    def too_long(window: int) -> bool:
        try:
            return any(length > lengths[side] for side, length in objective.lengths(architecture, window).items())
        except UserError:
            return False  # Too short to be cut up.

    # No token is lost, so no window fits that is longer than all sides together.
    window = bisect.bisect_left(range(1, sum(lengths.values()) + 2), True, key=too_long)
    if not window:
        raise UserError(f"objective {objective.name}: no window fits into {dict(lengths)}")
    objective.lengths(architecture, window)
    return window
