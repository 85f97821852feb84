"""What of a task's texts a model reads."""

from __future__ import annotations

import dataclasses

import pytest

import tokenizers
from tests.interchange import exports
from tests.models import tiny
from tests.tokenizers.huggingface import write_folder
from triarch.decoding.score_rows import decoder_rows
from triarch.errors import UserError
from triarch.evaluation.few_shot.reading import Frame, Reader
from triarch.interchange import Origin
from triarch.tokenizers import ByteTokenizer, HuggingFaceTokenizer

BYTES = ByteTokenizer()
FRAME = Frame(before=(7,), after=(), prefix=7, decoder_start=(), ends=(1,))


def ids(text):
    return BYTES.encode(text).tolist()


def model(config, objective, source=None):
    vocabulary = dataclasses.asdict(BYTES.info)
    return exports.loaded(dataclasses.replace(config, vocab_size=260), Origin(objective, vocabulary, 1, source))


@pytest.mark.parametrize("architecture", ["decoder-only", "encoder-decoder"])
def test_spaces_at_the_end_of_a_context_belong_to_the_continuation(architecture):
    made = Reader(BYTES, FRAME, architecture).pair("ab \n", "cd")
    assert (made.before, made.context, made.tokens) == ((7,), ids("ab"), ids(" \ncd"))


@pytest.mark.parametrize("context", ["", "  "])
def test_a_context_of_nothing_is_the_token_that_begins_texts(context):
    made = Reader(BYTES, dataclasses.replace(FRAME, before=()), "decoder-only").pair(context, "cd")
    assert (made.context, made.tokens) == ([7], ids(context + "cd"))


def test_together_or_apart(tmp_path):
    tokenizer = HuggingFaceTokenizer.load(write_folder(tmp_path, "bert"))
    frame = dataclasses.replace(FRAME, before=(), prefix=2)
    together = Reader(tokenizer, frame, "decoder-only").pair("the ho", "use")
    apart = Reader(tokenizer, frame, "encoder-decoder").pair("the ho", "use")
    assert apart.tokens == tokenizer.encode("use").tolist()
    assert together.context == apart.context and together.tokens != apart.tokens


def test_words_of_an_encoders_continuation(tmp_path):
    made = Reader(BYTES, FRAME, "encoder-only").pair("ab", " cd  ef")
    assert made.before == (7,) and made.context == ids("ab")
    assert list(made.words) == [1, 1, 1, 2, 3, 3, 3]
    tokenizer = HuggingFaceTokenizer.load(write_folder(tmp_path, "bert"))
    made = Reader(tokenizer, FRAME, "encoder-only").pair("the", " ohter ohter")
    half = len(made.tokens) // 2
    assert half > 1 and list(made.words) == [1] * half + [2] * half, made.tokens


def test_prompts_lose_their_beginning_but_for_what_stands_before_them():
    """The start token and UL2's mode token, as in training; an imported model's prompts as in the harness."""
    reader = Reader(BYTES, dataclasses.replace(FRAME, before=(7, 9)), "decoder-only")
    assert reader.prompt("abcd", 4) == [7, 9, *ids("cd")] and reader.prompt("abcd", 6) == [7, 9, *ids("abcd")]
    assert reader.prompt("", 3) == [7] and reader.prompt("abcd", 1) == [9]
    two_sided = Reader(BYTES, dataclasses.replace(FRAME, before=(9,), after=(2,)), "encoder-decoder")
    assert two_sided.prompt("abcd", 4) == [9, *ids("cd"), 2]
    imported = Reader(BYTES, dataclasses.replace(FRAME, is_imported=True), "decoder-only")
    assert imported.prompt("abcd", 3) == ids("bcd")


@pytest.mark.parametrize("architecture", ["decoder-only", "encoder-decoder"])
def test_contexts_lose_their_beginning_but_for_what_stands_before_them(architecture):
    after = (2,) if architecture == "encoder-decoder" else ()
    frame = dataclasses.replace(FRAME, before=(7, 9), after=after)
    (row,) = decoder_rows([Reader(BYTES, frame, architecture).pair("abcd", "xy")], 5, architecture)
    assert list(row.context) == [7, 9, *(ids("cd") if architecture == "decoder-only" else [*ids("cd"), 2])]
    frame = dataclasses.replace(frame, is_imported=True)
    (row,) = decoder_rows([Reader(BYTES, frame, architecture).pair("abcd", "xy")], 5, architecture)
    assert list(row.context) == (ids("abcd") if architecture == "decoder-only" else [*ids("abcd"), 2])


def test_an_encoders_prompts_are_open_at_their_end():
    """Masks follow, and behind them what ends a text."""
    reader = Reader(BYTES, dataclasses.replace(FRAME, after=(2,)), "encoder-only")
    assert reader.prompt("abcd", 9) == [7, *ids("abcd")] and reader.prompt("abcd", 3) == [7, *ids("cd")]


def test_frames():
    trained = Frame.of(model(tiny.DECLLM, {"class": "CausalLM"}), None)
    assert (trained.before, trained.after, trained.prefix) == ((0,), (), 0) and not trained.is_imported
    source = {"huggingface": "LlamaForCausalLM", "config": {}}
    imported = Frame.of(model(tiny.LLAMA3, {"class": "CausalLM"}, source), ((5,), (6,)))
    assert (imported.before, imported.after, imported.prefix) == ((5,), (), 5) and imported.is_imported
    bare = Frame.of(model(tiny.GPT2, {"class": "CausalLM"}, source), ((), ()))
    assert (bare.before, bare.prefix) == ((), 0)
    assert bare.with_bos(True, 0).before == (0,) and trained.with_bos(False, 0).before == ()
    two_sided = Frame.of(model(tiny.T5, None, source), ((), (1,)))
    assert (two_sided.before, two_sided.after, two_sided.prefix, two_sided.decoder_start) == ((), (1,), 1, (0,))


def test_a_continuation_of_nothing():
    with pytest.raises(UserError, match="the continuation '' has no tokens of its own after 'ab'"):
        Reader(BYTES, FRAME, "decoder-only").pair("ab", "")


def test_a_token_that_spans_context_and_continuation_is_the_continuation(tmp_path):
    library = tokenizers.Tokenizer(tokenizers.models.BPE({"</s>": 0, "A": 1, "C": 2, "AC": 3}, [("A", "C")]))
    library.add_special_tokens(["</s>"])
    library.save(str(tmp_path / "tokenizer.json"))
    for architecture in ("decoder-only", "encoder-only"):
        reader = Reader(HuggingFaceTokenizer.load(tmp_path), FRAME, architecture)
        made = reader.pair("CA", "C")
        assert (list(made.context), list(made.tokens)) == ([2], [3])
        assert list(reader.pair("CA", "CC").tokens) == [2]  # As the harness cuts it.
    made = Reader(HuggingFaceTokenizer.load(tmp_path), FRAME, "decoder-only").pair("A", "C")
    assert (list(made.context), list(made.tokens)) == ([7], [3])
