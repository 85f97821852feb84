"""From a task's texts to the tokens that a model reads, as lm-evaluation-harness has it for models of Hugging Face.

Spaces at the end of a context belong to its continuation. A decoder-only model's, or an encoder's, context and
continuation are tokenized together and cut where the context alone would end; an encoder-decoder's each by itself.
Where that leaves nothing (a token spans the end of the context and all of the continuation), the tokens that the
context alone does not have are the continuation.
A context that is empty is the token that begins a text.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from triarch.decoding import Conventions, decoder_start
from triarch.decoding.score_rows import cut_left
from triarch.decoding.scoring import Continuation
from triarch.errors import UserError
from triarch.interchange import LoadedModel, StoredModel
from triarch.objectives import SpecialTokens
from triarch.tokenizers import Tokenizer

Tokens = list[int]


@dataclasses.dataclass(frozen=True)
class Frame:
    """What stands around every text that a model reads.

    Attributes:
      before: the start token of a decoder without an encoder, a mode token, an encoder's [CLS].
      after: what ends an encoder's input.
      prefix: the token that stands for a context where there is none.
      decoder_start: what the decoder of an encoder-decoder reads first; () for others.
      ends: the ids that each end a text.
      first_token: what an answer begins with, whatever the model makes of it; None for its own choice.
      last_token: what an answer ends with that is as long as it may be; None for the model's own choice.
      is_imported: whether it is a tokenizer that puts these around texts: then long ones lose their beginning with it,
        and the texts of `rolling` are scored with it, as in the harness. A model of this project always reads what
        stands before its texts, as in training.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]
    prefix: int
    decoder_start: tuple[int, ...]
    ends: tuple[int, ...]
    first_token: int | None = None
    last_token: int | None = None
    is_imported: bool = False

    @classmethod
    def of(cls, model: LoadedModel | StoredModel, tokenizer_frame: tuple[Sequence[int], Sequence[int]] | None) -> Frame:
        """Returns the frame of a model's training; of an imported model, the one its tokenizer puts around texts.

        Args:
          model: loaded.
          tokenizer_frame: what the model's tokenizer puts before and after a text; None if it does not say.

        Raises:
          UserError: the vocabulary is unknown.
        """
        conventions = Conventions.of(model, tokenizer_frame=tokenizer_frame)
        assert model.vocabulary is not None  # `Conventions.of` refuses a model without.
        special = SpecialTokens.from_manifest(model.vocabulary["special"])
        architecture = model.config.architecture
        read_first = conventions.decoder_start if architecture == "decoder-only" else ()
        before = (*read_first, *conventions.before)
        otherwise = special.eos if architecture == "encoder-decoder" else special.bos
        prefix = before[0] if before else otherwise
        is_imported = tokenizer_frame is not None and model.origin.is_imported
        forced = conventions.first_token, conventions.last_token
        return cls(before, conventions.after, prefix, decoder_start(model), conventions.ends, *forced, is_imported)

    def with_bos(self, add: bool, bos: int) -> Frame:
        """Returns the frame with the token `bos` before every text, or without."""
        rest = self.before[1:] if self.before[:1] == (bos,) else self.before
        return dataclasses.replace(self, before=(bos, *rest) if add else rest)


@dataclasses.dataclass(frozen=True)
class Reader:
    """Turns texts into what `score` and `generate` take.

    Attributes:
      tokenizer: of the model.
      frame: around texts.
      architecture: of the model.
    """

    tokenizer: Tokenizer
    frame: Frame
    architecture: str

    def pair(self, context: str, continuation: str) -> Continuation:
        """Returns a context and its continuation.

        Raises:
          UserError: the continuation has no tokens of its own.
        """
        tokens, before = self._pair(context, continuation)
        if not tokens:
            raise UserError(f"the continuation {continuation!r} has no tokens of its own after {context[-40:]!r}")
        if self.architecture == "encoder-only":
            words = self._words(before, tokens)
            return Continuation(before, tokens, words, self.frame.before, self.frame.after)
        if not before:
            return Continuation([self.frame.prefix], tokens)
        if self.frame.is_imported:
            return Continuation(self.around(before), tokens)
        return Continuation([*before, *self.frame.after], tokens, before=self.frame.before)

    def text(self, text: str) -> Tokens:
        """Returns a text whose whole likelihood is asked for."""
        return self.around(self._encode(text)) if self.frame.is_imported else self._encode(text)

    def around(self, tokens: Tokens) -> Tokens:
        """Returns tokens with what stands around them."""
        return [*self.frame.before, *tokens, *self.frame.after]

    def prompt(self, text: str, room: int) -> Tokens:
        """Returns a prompt of at most `room` tokens, cut on its left.

        An encoder's goes without what stands after it: its masks come first.
        """
        tokens, before = self._encode(text), self.frame.before
        if self.architecture == "encoder-only":
            return [*before, *cut_left(tokens, room - len(before))] or [self.frame.prefix]
        if not text:
            return [self.frame.prefix]
        if self.frame.is_imported:
            return self.around(tokens)[-room:]
        return [*before, *cut_left([*tokens, *self.frame.after], room - len(before))][-room:]

    def _pair(self, context: str, continuation: str) -> tuple[Tokens, Tokens]:
        """Returns (continuation, context)."""
        bare = context.rstrip()
        continuation = context[len(bare) :] + continuation
        context = bare
        if not context:
            return self._encode(continuation), []
        before = self._encode(context)
        if self.architecture == "encoder-decoder":
            return self._encode(continuation), before
        whole = self._encode(context + continuation)
        cut = len(before)
        if len(whole) <= cut:
            cut = next((place for place, token in enumerate(whole) if token != before[place]), len(whole))
            before = whole[:cut]
        return whole[cut:], before

    def _words(self, before: Tokens, tokens: Tokens) -> list[int]:
        """Returns the number of each token's word: a new one begins where what a token adds begins with a space."""
        words, number = [], 0
        text = self.tokenizer.decode(before)
        for count in range(1, len(tokens) + 1):
            longer = self.tokenizer.decode([*before, *tokens[:count]])
            number += longer[len(text) :][:1].isspace()
            words.append(number)
            text = longer
        return words

    def _encode(self, text: str) -> Tokens:
        return self.tokenizer.encode(text).tolist()
