"""A model and its tokenizer, ready to write behind prompts of text, or to fill their masks."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence

from triarch.decoding.conventions import Conventions
from triarch.decoding.generator import Generator
from triarch.decoding.mask_filling import check_texts, fill_masks, generate_by_masks, places_behind
from triarch.decoding.prompt_texts import encode, token_texts
from triarch.decoding.settings import GenerationSettings
from triarch.decoding.stopping import StopTexts
from triarch.errors import UserError
from triarch.interchange import LoadedModel
from triarch.objectives import SpecialTokens
from triarch.tokenizers import Tokenizer


@dataclasses.dataclass(frozen=True, eq=False)
class Writer:
    """How a model writes: a decoder behind a prompt, or answering its encoder; an encoder by masks.

    Attributes:
      model: of any architecture.
      tokenizer: of its vocabulary.
      special: ids of the vocabulary with a meaning of their own.
      conventions: what is put around prompts.
      settings: how tokens are chosen, with how the model's texts begin and end.
      stop_texts: texts that end an answer, None for none.
    """

    model: LoadedModel
    tokenizer: Tokenizer
    special: SpecialTokens
    conventions: Conventions
    settings: GenerationSettings
    stop_texts: StopTexts | None

    @classmethod
    def of(
        cls,
        model: LoadedModel,
        tokenizer: Tokenizer,
        settings: GenerationSettings,
        *,
        stops: Sequence[str] = (),
        ignore_eos: bool = False,
        mode: str | None = None,
        more_ends: Sequence[int] = (),
    ) -> Writer:
        """Returns the writer of a model.

        Args:
          model: of any architecture.
          tokenizer: of its vocabulary.
          settings: how tokens are chosen; the first token and the stop tokens are those of the model's conventions.
          stops: texts that end an answer.
          ignore_eos: whether to go on when the model ends its text.
          mode: UL2's mode token before prompts; None for that of the model's prefix LM.
          more_ends: ids that end an answer too, as those of a chat template.

        Raises:
          UserError: the model's special tokens are unknown, or it has no such mode.
        """
        conventions = Conventions.of(model, mode, getattr(tokenizer, "frame", None))
        special = SpecialTokens.from_manifest(model.known_vocabulary["special"])
        ends = () if ignore_eos else tuple((end,) for end in dict.fromkeys((*conventions.ends, *more_ends)))
        last = None if ignore_eos else conventions.last_token
        chosen = dataclasses.replace(settings, first_token=conventions.first_token, last_token=last, stop_tokens=ends)
        stop_texts = StopTexts.of(stops, token_texts(tokenizer, special)) if stops else None
        return cls(model, tokenizer, special, conventions, chosen, stop_texts)

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a prompt with what is put around it."""
        return self.conventions.around(encode(text, self.tokenizer, self.special))

    def fills(self, prompts: Sequence[Sequence[int]]) -> bool:
        """Returns whether the masks of prompts are filled, instead of the prompts being continued.

        Raises:
          UserError: the model is an encoder and its vocabulary has no mask, or some prompts have masks and some none.
        """
        if self.model.config.architecture != "encoder-only":
            return False
        if self.special.mask is None:
            raise UserError(f"{self.model.path}: an encoder writes by filling masks, and its vocabulary has no mask")
        masked = {self.special.mask in prompt for prompt in prompts}
        if len(masked) > 1:
            raise UserError("some prompts have masks to fill and some have none: give them in two calls")
        return masked == {True}

    def check(self, prompts: Sequence[Sequence[int]]) -> None:
        """Raises what `write` would raise for any of the prompts, which are to be continued."""
        if self.model.config.architecture != "encoder-only":
            self._generator.check(prompts, self.settings)
            return
        places = places_behind(self.settings.max_new_tokens, self.conventions.after)
        check_texts(self.model, self._open(prompts), self.settings, places)

    def write(self, prompts: Sequence[Sequence[int]], batch_size: int = 8, first_row: int = 0) -> list[list[int]]:
        """Returns the new tokens of each prompt; of prompts with masks to fill, their tokens with the masks filled.

        Args:
          prompts: as `encode` gives them.
          batch_size: prompts computed at once; the results do not depend on it.
          first_row: number of the first prompt, from which rows count as sampling sees them.

        Raises:
          UserError: a setting is out of range, or a prompt empty or too long.
        """
        if self.model.config.architecture != "encoder-only":
            return self._generator.generate(prompts, self.settings, batch_size, first_row)
        mask = self.special.mask
        if mask is None:
            raise UserError(f"{self.model.path}: its vocabulary has no mask token, which an encoder writes with")
        if self.fills(prompts):
            return fill_masks(self.model, prompts, mask, self.settings, batch_size)
        before, after = self._open(prompts), self.conventions.after
        return generate_by_masks(self.model, before, mask, self.settings, after, batch_size, first_row, self.stop_texts)

    def stream(self, prompts: Sequence[Sequence[int]], chunk: int) -> Iterator[list[list[int]]]:
        """Yields the new tokens of each prompt, every `chunk` steps; see `Generator.stream`."""
        return self._generator.stream(prompts, self.settings, chunk)

    @functools.cached_property
    def _generator(self) -> Generator:
        return Generator(
            self.model,
            start=self.conventions.decoder_start,
            bidirectional_prompt=self.conventions.bidirectional_prompt,
            stop_texts=self.stop_texts,
        )

    def _open(self, prompts: Sequence[Sequence[int]]) -> list[Sequence[int]]:
        """Returns prompts without what stands after them."""
        return [prompt[: len(prompt) - len(self.conventions.after)] for prompt in prompts]
