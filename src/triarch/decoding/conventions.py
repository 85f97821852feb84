"""What a model expects around a prompt, from what it was trained with."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from triarch.decoding.generator import decoder_start
from triarch.errors import UserError
from triarch.interchange import LoadedModel, StoredModel, require_tokens
from triarch.interchange.huggingface.generation import Generation
from triarch.objectives import Distill, Mixture, Objective, PrefixLM, SpecialTokens, objective_from
from triarch.objectives.base import adds_special_tokens


@dataclasses.dataclass(frozen=True)
class Conventions:
    """Which tokens are put around a prompt.

    Attributes:
      decoder_start: what a decoder reads before all else.
      before: what comes before the prompt: the mode token of UL2, the [CLS] of imported encoders.
      after: what comes after the prompt.
      bidirectional_prompt: whether a decoder-only model sees its prompt in both directions.
      first_token: what an answer begins with, whatever the model makes of it; None for its own choice.
      ends: the ids that each end a text.
      last_token: what an answer ends with that is as long as it may be, whatever the model makes of it; None for its
        own choice.
    """

    decoder_start: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    bidirectional_prompt: bool
    first_token: int | None
    ends: tuple[int, ...]
    last_token: int | None = None

    @classmethod
    def of(
        cls,
        model: LoadedModel | StoredModel,
        mode: str | None = None,
        tokenizer_frame: tuple[Sequence[int], Sequence[int]] | None = None,
    ) -> Conventions:
        """Returns the conventions of a model's training; of an imported model, those of its tokenizer.

        A model of this project reads bos first, an encoder bos and eos around the prompt if its objective adds special
        tokens; a prefix LM's mode token stands before the prompt, and the prompt ends with eos where the objective ends
        its inputs so. An imported model gets what its tokenizer puts around a text,
        but that a decoder's prompt has no end. Where the tokenizer does not say, a decoder-only model gets nothing, an
        encoder-decoder eos after the prompt, an encoder bos ([CLS]) before and eos ([SEP]) after it. How a decoder's
        text begins and ends, its generation_config.json says, even if it was trained here since: but that what training
        had the decoder read first stays.

        Args:
          model: loaded, or on disk.
          mode: name of the mode token to use; None for the one that the model's prefix LM has, if any.
          tokenizer_frame: what the model's tokenizer puts before and after a text; None if it does not say.

        Raises:
          UserError: the model's special tokens are unknown, or it has no such mode.
        """
        require_tokens(model)
        if model.vocabulary is None:
            raise UserError(f"{model.path}: its vocabulary is unknown, and with it the token that ends a text")
        special = SpecialTokens.from_manifest(model.vocabulary["special"])
        fields = model.origin.objective
        if fields is None or model.origin.is_imported:
            return _imported(model, special, special.mode(mode, "--mode").tolist(), tokenizer_frame)
        objective = objective_from(fields, str(model.path))
        before = _mode(objective, mode, special)
        if model.config.architecture == "encoder-only":
            framed = adds_special_tokens(objective)
            start, after = ((special.bos,), (special.eos,)) if framed else ((), ())
            return cls((), (*start, *before), after, False, None, (special.eos,))
        said = Generation.of(model.origin)
        has_encoder = model.config.architecture == "encoder-decoder"
        return cls(
            decoder_start=(special.bos,),
            before=before,
            after=(special.eos,) if _ends_inputs(objective) else (),
            bidirectional_prompt=not has_encoder
            and any(getattr(part, "bidirectional_prefix", False) for part in _parts(objective)),
            first_token=said.forced_first if has_encoder else None,
            ends=_ends(model, said, special) if special.eos in said.ends else (special.eos,),
            last_token=_last(model, said),
        )

    def around(self, prompt: np.ndarray) -> list[int]:
        """Returns the prompt as the model is to read it."""
        return [*self.before, *np.asarray(prompt).tolist(), *self.after]


def _imported(
    model: LoadedModel | StoredModel,
    special: SpecialTokens,
    mode: Sequence[int],
    tokenizer_frame: tuple[Sequence[int], Sequence[int]] | None,
) -> Conventions:
    architecture = model.config.architecture
    said = Generation.of(model.origin)
    has_both = architecture == "encoder-decoder"
    if tokenizer_frame is None:
        is_encoder = architecture == "encoder-only"
        tokenizer_frame = ((special.bos,) if is_encoder else ()), (special.eos,)
    before, after = tokenizer_frame
    return Conventions(
        decoder_start=_start(model, said) if has_both else (),
        before=(*before, *mode),
        after=() if architecture == "decoder-only" else tuple(after),
        bidirectional_prompt=said.bidirectional_prompt and architecture == "decoder-only",
        first_token=said.forced_first if has_both else None,
        ends=_ends(model, said, special),
        last_token=None if architecture == "encoder-only" else _last(model, said),
    )


def _start(model: LoadedModel | StoredModel, said: Generation) -> tuple[int, ...]:
    return decoder_start(model) if said.decoder_start is None else (said.decoder_start,)


def _ends(model: LoadedModel | StoredModel, said: Generation, special: SpecialTokens) -> tuple[int, ...]:
    return tuple(end for end in said.ends if 0 <= end < model.config.vocab_size) or (special.eos,)


def _last(model: LoadedModel | StoredModel, said: Generation) -> int | None:
    return said.forced_last if said.forced_last is not None and said.forced_last < model.config.vocab_size else None


def _parts(objective: Any) -> tuple[Any, ...]:
    if isinstance(objective, Mixture | Distill):
        return tuple(part for one in objective.objectives for part in _parts(one))
    return (objective,)


def _mode(objective: Objective, mode: str | None, special: SpecialTokens) -> tuple[int, ...]:
    if mode is None:
        prefix_modes = [part.mode for part in _parts(objective) if isinstance(part, PrefixLM)]
        mode = next((name for name in prefix_modes if name is not None), None)
    return tuple(special.mode(mode, "--mode").tolist())


def _ends_inputs(objective: Objective) -> bool:
    """Whether a prompt ends with eos: as a prefix LM has it, else where inputs and targets are apart."""
    parts = _parts(objective)
    prefixes = [part for part in parts if isinstance(part, PrefixLM)]
    return prefixes[-1].append_eos if prefixes else all(part.name != "causal_lm" for part in parts)
