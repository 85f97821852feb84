"""Scores against the plain float64 transcription of the networks, one row at a time without padding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.interchange import exports
from tests.models import tiny
from tests.models.reference import Reference
from triarch.decoding import score_shapes
from triarch.decoding.score_batches import joined_batches, shared_batches
from triarch.decoding.score_rows import decoder_rows
from triarch.decoding.scoring import Continuation, rolling, score
from triarch.errors import UserError

BOS, MASK = 1, 3
MAX_LENGTH = 24
DECODERS = {name: config for name, config in tiny.FAMILIES.items() if config.architecture != "encoder-only"}


def slow(*case):
    return pytest.param(*case, marks=pytest.mark.slow)


def quick_or_slow(name):
    return name if name in ("decllm", "redllm") else slow(name)


def requests(config, seed: int = 0) -> list[Continuation]:
    """Returns contexts with one, two or five continuations, of one or several tokens, some to be cut."""
    rng = np.random.default_rng(seed)

    def draw(count):
        return tuple(rng.integers(4, config.vocab_size, count).tolist())

    made = []
    for context_length, lengths in ((3, [4]), (7, [1, 1, 3, 3]), (12, [6]), (30, [1, 9]), (1, [24])):
        context = draw(context_length)
        made += [Continuation(context, draw(length), words=sorted(rng.integers(0, 3, length))) for length in lengths]
    # The same but for the last token, and the same again.
    made += [Continuation(made[3].context, (*made[3].tokens[:-1], 5)), made[3]]
    return made


def reference(config, context, tokens, bidirectional=False):
    """Returns (log-likelihood, is greedy) by one full pass of the plain transcription."""
    plain = Reference(config, tiny.parameters(config))
    if config.architecture == "encoder-decoder":
        logits = plain.logits(context[-MAX_LENGTH:], [BOS, *tokens[:-1]])
    else:
        read = [*context, *tokens][-(MAX_LENGTH + 1) :][:-1]
        logits = plain.logits(None, read, len(read) + 1 - len(tokens) if bidirectional else 0)
    return summed(logits[-len(tokens) :], tokens)


def summed(logits, tokens):
    log_probabilities = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    chosen = log_probabilities[np.arange(len(tokens)), tokens]
    return chosen.sum(), bool((logits.argmax(-1) == tokens).all())


def assert_equal(found, wanted):
    assert [one.is_greedy for one in found] == [greedy for _, greedy in wanted]
    np.testing.assert_allclose([one.log_likelihood for one in found], [total for total, _ in wanted], rtol=1e-5)


@pytest.mark.parametrize("name", [quick_or_slow(name) for name in DECODERS])
def test_decoders_score_as_a_full_pass_does(name):
    config = DECODERS[name]
    made = requests(config)
    done = {}
    found = score(exports.loaded(config), made, max_length=MAX_LENGTH, batch_size=8, done=done.__setitem__)
    assert_equal(found, [reference(config, one.context, one.tokens) for one in made])
    assert [done[index] for index in range(len(made))] == found


def test_greedy_continuations_are_greedy():
    config, context = tiny.DECLLM, [4, 5, 6]
    tokens = []
    plain = Reference(config, tiny.parameters(config))
    for _ in range(3):
        tokens.append(int(plain.logits(None, context + tokens)[-1].argmax()))
    one, other = score(
        exports.loaded(config),
        [Continuation(context, tokens), Continuation(context, [*tokens[:-1], (tokens[-1] + 1) % 61])],
        max_length=MAX_LENGTH,
    )
    assert one.is_greedy and not other.is_greedy


def test_a_context_seen_both_ways():
    made = requests(tiny.DECLLM)[:4]
    model = exports.loaded(tiny.DECLLM)
    found = score(model, made, max_length=MAX_LENGTH, bidirectional_context=True)
    assert_equal(found, [reference(tiny.DECLLM, one.context, one.tokens, True) for one in made])
    assert abs(found[0].log_likelihood - score(model, made[:1], max_length=MAX_LENGTH)[0].log_likelihood) > 1e-3


def hidden_places(request, place, pseudo):
    if pseudo == "token":
        return [place]
    after = range(place, len(request.tokens))
    return [other for other in after if pseudo == "rest" or request.words[other] == request.words[place]]


@pytest.mark.parametrize(
    ("name", "pseudo"),
    [("ettin_encoder", "word"), *[slow("ettin_encoder", pseudo) for pseudo in ("token", "rest")], slow("bert", "word")],
)
def test_encoders_guess_every_token(name, pseudo):
    config = tiny.FAMILIES[name]
    made = [Continuation(one.context, one.tokens, one.words, (BOS,), (2,)) for one in requests(config)[:5]]
    made.append(Continuation((), (7, 8), (0, 0), (BOS,), (2,)))
    made.append(Continuation(tuple(range(4, 34)), (7, 8, 9), (0, 1, 1), (BOS,), (2,)))
    plain = Reference(config, tiny.parameters(config))
    wanted = []
    for one in made:
        room = MAX_LENGTH - 2 - len(one.tokens)
        context = [BOS, *(one.context[-room:])]
        total, greedy = 0.0, True
        for place, token in enumerate(one.tokens):
            tokens = np.array([*context, *one.tokens, 2], np.int32)
            tokens[[len(context) + other for other in hidden_places(one, place, pseudo)]] = MASK
            part, right = summed(plain.logits(None, tokens)[None, len(context) + place], [token])
            total, greedy = total + part, greedy and right
        wanted.append((total, greedy))
    found = score(exports.loaded(config), made, max_length=MAX_LENGTH, pseudo=pseudo, batch_size=12)
    assert_equal(found, wanted)


@pytest.mark.parametrize("spare", [0, 2e5, 1e15])
def test_batches_take_fewer_shapes_where_padding_costs_less_than_a_program(spare, monkeypatch):
    """Of a small model all batches of a kind take one shape; where programs cost nothing each keeps its own."""
    config, rng = DECODERS["decllm"], np.random.default_rng(0)
    monkeypatch.setitem(score_shapes._COMPILATION, "cpu", spare)
    lengths = [(context, count) for context in (5, 20, 60, 150) for count in (3, 30)]
    made = []
    for length, count in lengths:
        context = tuple(rng.integers(4, 20, length))
        made += [Continuation(context, rng.integers(4, 20, count - i)) for i in range(3)]
        made.append(Continuation(context[1:], rng.integers(4, 20, count)))
    rows = decoder_rows(made, 200, config.architecture)
    own = [*shared_batches(rows, config, (), False, 3), *joined_batches(rows, config, (), False, 3)]
    found = score_shapes.of_fewer_shapes(own, config, "cpu")
    shapes = {score_shapes._shape(batch) for batch in found}
    count = len({score_shapes._shape(batch) for batch in own})
    assert {0: len(shapes) == count, 2e5: 2 < len(shapes) < count, 1e15: len(shapes) <= 2}[spare]
    for before, after in zip(own, found, strict=True):
        np.testing.assert_array_equal(after.owners, before.owners)
        for name in ("scored_rows", "scored_places", "scored_targets", "context_of_row"):
            if name in before.features:
                end = len(before.features[name])
                np.testing.assert_array_equal(after.features[name][:end], before.features[name])


def test_a_shared_context_is_read_once():
    made = [Continuation(tuple(range(4, 20)), (index, index)) for index in range(4, 12)]
    rows = decoder_rows(made, 64, "decoder-only")
    (batch,) = shared_batches(rows, tiny.DECLLM, (), False, 32)
    assert batch.features["decoder_input_tokens"].shape == (1, 16)
    assert batch.features["continuation_tokens"].shape == (8, 16)
    letters = [Continuation((4, 5), (index,)) for index in range(4, 12)]
    assert len(decoder_rows(letters, 64, "encoder-decoder")) == 1


@given(st.integers(0, 60), st.integers(2, 9), st.integers(1, 9))
@settings(max_examples=200, deadline=None)
def test_rolling_windows_predict_every_token_once(length, max_length, context_length):
    context_length = min(context_length, max_length)
    tokens = list(range(1, length + 1))
    windows = rolling(tokens, 0, max_length, context_length)
    assert [token for _, part in windows for token in part] == tokens
    for number, (context, part) in enumerate(windows):
        # Consecutive, ending with the last token before the part.
        assert context == list(range(part[0] - len(context), part[0]))
        assert len(context) + len(part) - 1 <= max_length
        if number:
            assert len(context) >= context_length and len(context) + len(part) - 1 == max_length


@pytest.mark.parametrize(
    ("request_", "options", "message"),
    [
        (Continuation((4,), ()), {}, "request 2: the continuation is empty"),
        (Continuation((), (4,)), {}, "request 2: the context is empty"),
        (Continuation((4,), (5,) * 25), {}, "request 2: the continuation has 25 tokens, more than max_length=24"),
        (Continuation((4,), (61,)), {}, "request 2 holds the id 61, the model knows 0 to 60"),
        (Continuation((4,), (5,)), {"pseudo": "words"}, r"no pseudo-likelihood 'words' \(did you mean 'word'\?\)"),
        (Continuation((4,), (5,)), {"batch_size": 0}, "batch_size=0: expected at least 1"),
    ],
)
def test_bad_requests(request_, options, message):
    with pytest.raises(UserError, match=message):
        score(exports.loaded(tiny.DECLLM), [Continuation((4,), (5,)), request_], max_length=MAX_LENGTH, **options)


def test_more_than_the_positions_there_are():
    with pytest.raises(UserError, match="max_length=41: the model has positions for 40 tokens"):
        score(exports.loaded(tiny.GPT2), [Continuation((4,), (5,))], max_length=41)
