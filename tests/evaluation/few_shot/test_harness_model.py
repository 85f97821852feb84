"""What is written when the harness asks for text."""

from __future__ import annotations

import dataclasses

import pytest

pytest.importorskip("lm_eval")

from lm_eval.api.instance import Instance

from tests.interchange import exports
from tests.models import tiny
from triarch.decoding import GenerationSettings, generate_by_masks
from triarch.errors import UserError
from triarch.evaluation.few_shot.answers import Answers
from triarch.evaluation.few_shot.harness_model import HarnessModel
from triarch.evaluation.few_shot.reading import Frame, Reader
from triarch.interchange import Origin
from triarch.progress import Progress
from triarch.tokenizers import ByteTokenizer

BYTES = ByteTokenizer()
FRAME = Frame(before=(7,), after=(2,), prefix=7, decoder_start=(), ends=(1,))


def asked(config, max_length=32):
    vocabulary = dataclasses.asdict(BYTES.info) | {"special": exports.VOCABULARY["special"]}
    model = exports.loaded(dataclasses.replace(config, vocab_size=260), Origin(None, vocabulary))
    frame = FRAME if config.architecture == "encoder-only" else dataclasses.replace(FRAME, after=())
    return HarnessModel(
        model,
        Reader(BYTES, frame, config.architecture),
        Answers(None, {}),
        max_length=max_length,
        batch_size=2,
        bidirectional=False,
        pseudo="token",
        progress=Progress(False),
    )


def request(text, index, **options):
    arguments = (text, {"max_gen_toks": 6, "until": []} | options)
    return Instance("generate_until", {}, arguments, index, metadata=("task", index, 1))


def test_every_draw_is_its_own():
    """The same prompt again and again, over several batches."""
    same = [request("ab", index, do_sample=True, temperature=1.0) for index in range(5)]
    drawn = asked(dataclasses.replace(tiny.DECLLM, num_decoder_layers=1)).generate_until(same)
    assert len(set(drawn)) == 5


def test_an_encoder_writes_between_the_prompt_and_its_end():
    config = dataclasses.replace(tiny.ETTIN_ENCODER, num_encoder_layers=1)
    one = asked(config)
    (text,) = one.generate_until([request("abc", 0)])
    settings = GenerationSettings(max_new_tokens=6, stop_tokens=((1,),))
    prompt = [7, *BYTES.encode("abc").tolist()]
    assert text == BYTES.decode(generate_by_masks(one.model, [prompt], 3, settings, (2,))[0])
    with pytest.raises(UserError, match="up to 6 tokens, and --max_length=9 leaves none for the prompt"):
        asked(config, 9).generate_until([request("abc", 0)])
