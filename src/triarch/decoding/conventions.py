"""What a model expects around a prompt, from what it was trained with."""

from __future__ import annotations

import dataclasses

import numpy as np

from triarch.errors import UserError
from triarch.interchange import LoadedModel
from triarch.objectives import Mixture, Objective, SpecialTokens, objective_from


@dataclasses.dataclass(frozen=True)
class Conventions:
    """Which tokens are put around a prompt.

    Attributes:
      decoder_start: what a decoder reads before all else.
      before: what comes before the prompt: the mode token of UL2, the [CLS] of imported encoders.
      after: what comes after the prompt.
      bidirectional_prompt: whether a decoder-only model sees its prompt in both directions.
      eos: what ends a text.
    """

    decoder_start: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    bidirectional_prompt: bool
    eos: int

    @classmethod
    def of(cls, model: LoadedModel, mode: str | None = None) -> Conventions:
        """Returns the conventions of a model's training, or those of Hugging Face if that is unknown.

        A model of this project reads bos first; a prefix LM's mode token stands before the prompt, and the prompt ends
        with eos where the objective ends its inputs so. Of an imported model a decoder-only one gets nothing, an
        encoder-decoder eos after the prompt, an encoder bos ([CLS]) before and eos ([SEP]) after it.

        Args:
          model: loaded.
          mode: name of the mode token to use; None for the one that the model's prefix LM has, if any.

        Raises:
          UserError: the model's special tokens are unknown, or it has no such mode.
        """
        if model.vocabulary is None:
            raise UserError(f"{model.path}: its vocabulary is unknown, and with it the token that ends a text")
        special = SpecialTokens.from_manifest(model.vocabulary["special"])
        fields = model.origin.objective
        objective = None if fields is None else objective_from(fields, str(model.path))
        before = _mode(objective, mode, special)
        if model.config.architecture == "encoder-only":
            ends = () if objective is not None else (special.eos,)
            return cls((), before if objective is not None else (special.bos, *before), ends, False, special.eos)
        has_encoder = model.config.architecture == "encoder-decoder"
        return cls(
            decoder_start=(special.bos,) if has_encoder or objective is not None else (),
            before=before,
            after=(special.eos,) if _ends_inputs(objective, has_encoder) else (),
            bidirectional_prompt=not has_encoder
            and any(getattr(part, "bidirectional_prefix", False) for part in _parts(objective)),
            eos=special.eos,
        )

    def around(self, prompt: np.ndarray) -> list[int]:
        """Returns the prompt as the model is to read it."""
        return [*self.before, *np.asarray(prompt).tolist(), *self.after]


def _parts(objective: Objective | None) -> tuple[Objective, ...]:
    if isinstance(objective, Mixture):
        return tuple(part for one in objective.objectives for part in _parts(one))
    return () if objective is None else (objective,)


def _mode(objective: Objective | None, mode: str | None, special: SpecialTokens) -> tuple[int, ...]:
    if mode is None:
        prefix_modes = [part.mode for part in _parts(objective) if part.name == "prefix_lm"]
        mode = next((name for name in prefix_modes if name is not None), None)
    return tuple(special.mode(mode, "--mode").tolist())


def _ends_inputs(objective: Objective | None, has_encoder: bool) -> bool:
    """Whether a prompt ends with eos: as a prefix LM has it, else where inputs and targets are apart."""
    parts = {part.name: part for part in _parts(objective)}
    if "prefix_lm" in parts:
        return parts["prefix_lm"].append_eos
    return has_encoder if objective is None else "causal_lm" not in parts
