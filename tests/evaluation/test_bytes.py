"""Bits per byte are those of the documents' text, whatever the vocabulary, the layout and the architecture."""

from __future__ import annotations

import dataclasses
import functools
import io
import math
import random
from collections.abc import Iterator

import numpy as np
import pytest
import sentencepiece

from tests.prepare.preparing import prepared
from tests.tokenizers.huggingface import write_folder
from tests.tokenizers.texts import Documents
from triarch.data.token_bytes import TokenBytes, text_starts
from triarch.evaluation.held_out import summarise
from triarch.evaluation.joined import join_windows
from triarch.evaluation.sampling import Scored, sample_windows
from triarch.evaluation.scoring import by_objective, pseudo_likelihood
from triarch.evaluation.sums import Scorer
from triarch.objectives import CausalLM, MaskedLM, PrefixLM, SpanCorruption, SpecialTokens, Supervised
from triarch.prepare.corpora.documents import Document
from triarch.prepare.pipeline import VocabularyChoice
from triarch.tokenizers import load_tokenizer

WINDOW = 24
# Every ordinary token has 3 bytes, or 2 as the first of a text.
SPACED = TokenBytes(np.array([0] * 4 + [3] * 96, np.uint16), np.array([0] * 4 + [2] * 96, np.uint16))
SPECIAL = SpecialTokens(pad=0, bos=1, eos=2, mask=3, sentinels=(99, 98, 97, 96, 95))
PREFIX = PrefixLM()


@dataclasses.dataclass(frozen=True)
class Words(Documents):
    """Documents of plain words, some much longer than a window."""

    @functools.cached_property
    def texts(self) -> list[str]:
        draw = random.Random(1)
        words = ["".join(draw.choices("abcde", k=draw.randint(1, 6))) for _ in range(60)]
        return [" ".join(draw.choices(words, k=draw.choice((1, 3, 9, 60)))) for _ in range(self.count)]

    def documents(self) -> Iterator[Document]:
        for document, text in zip(super().documents(), self.texts, strict=True):
            yield dataclasses.replace(document, text=text, key=text)


class Pairs(Words):
    """The same, and their letters turned round as inputs."""

    inputs_field = "inputs"

    def documents(self) -> Iterator[Document]:
        return (dataclasses.replace(document, inputs=document.text[::-1]) for document in super().documents())


def sentencepiece_model(path, lines: list[str], **options):
    """Writes a SentencePiece model trained on `lines`; returns its path."""
    model = io.BytesIO()
    fixed = dict(
        vocab_size=300,
        byte_fallback=True,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        **fixed | options,
    )
    path.write_bytes(model.getvalue())
    return path


def vocabulary(kind: str, folder) -> VocabularyChoice:
    """Returns a vocabulary: of SentencePiece by what it does with spaces, of a tokenizer.json by its model."""
    lines = Words().texts
    letters = ["".join(line.split()) for line in lines]
    options = {
        "puts a space": (lines, {}),
        "as it is": (lines, {"add_dummy_prefix": False, "normalization_rule_name": "identity"}),
        "space in bytes": (letters, {"add_dummy_prefix": False, "remove_extra_whitespaces": False}),
        "space unknown": (letters, {"add_dummy_prefix": False, "byte_fallback": False, "vocab_size": 40}),
    }
    if kind == "bytes":
        return VocabularyChoice("bytes")
    if kind in options:
        given, settings = options[kind]
        return VocabularyChoice(str(sentencepiece_model(folder / "m.model", given, model_type="bpe", **settings)))
    ends = {"gpt2": "<|endoftext|>", "bert": "[SEP]", "t5": "</s>", "gemma": "<eos>"}
    return VocabularyChoice(str(write_folder(folder / "tokenizer", kind, tokenizer_config={"eos_token": ends[kind]})))


EXACT = ("bytes", "puts a space", "as it is", "gpt2", "gemma")
# Those that have no token for some characters, or drop spaces.
LOSSY = ("space unknown", "bert")
KINDS = (*EXACT, "t5", "space in bytes", *LOSSY)


def sums(windows, scoring, text_bytes: float = 1.0):
    """Returns sums by window of what a model is scored on that finds 1 + id % 7 nats in each token."""
    scorer = Scorer(lambda batch: 1.0 + batch["scored_targets"] % 7, text_bytes, 5, lambda rows: None)
    return scorer.window_sums(windows, scoring)


@pytest.mark.parametrize("kind", KINDS)
def test_bits_per_byte_of_whole_documents(kind, tmp_path):
    """All tokens of packed documents, those over several rows included: the bytes are the files'."""
    corpus = Words()
    store = prepared(tmp_path / "s", corpus, vocabulary(kind, tmp_path), 0.0, window=WINDOW, layout="packed")
    special = SpecialTokens.from_manifest(store.manifest.vocabulary.special)
    scoring = by_objective("native", CausalLM(), "decoder-only", special, store.token_bytes, WINDOW, 0)
    reader = store.split("train")
    windows = sample_windows(reader, store, "train", WINDOW, None, 0)
    loss = summarise(Scored(sums(windows, scoring, store.text_bytes("train")), windows.sample))
    expected = sum(len(document.whole.encode()) for document in corpus.documents())
    tokens = np.concatenate(
        [row["tokens"][row["segment_ids"] > 0] for row in map(reader.__getitem__, range(len(reader)))]
    )
    assert loss.num_bytes == expected == store.manifest.splits["train"].bytes
    assert loss.bits_per_byte == pytest.approx((1.0 + tokens % 7).sum() / expected / math.log(2), rel=1e-12)
    # What keeps text byte for byte is counted token by token.
    assert (store.text_bytes("train") != 1) == (kind in LOSSY)


def surface(store, kind: str, text: str) -> list[int]:
    """Returns the bytes of each token of an ASCII text, its end included, as the libraries tell them."""
    tokenizer = load_tokenizer(store)
    if kind == "bytes":
        return [1] * len(text) + [0]
    if hasattr(tokenizer, "_processor"):
        pieces = tokenizer._processor.encode(text, return_type="proto").pieces
        return [len(piece.surface.encode()) for piece in pieces] + [0]
    offsets = tokenizer._tokenizer.encode(text, add_special_tokens=False).offsets
    return [end - start for start, end in offsets] + [0]


@pytest.mark.parametrize("layout", ["windows", "packed"])
@pytest.mark.parametrize("kind", EXACT)
def test_bytes_of_the_scored_tokens_of_every_architecture(kind, layout, tmp_path):
    corpus = Words(40)
    store = prepared(tmp_path / "s", corpus, vocabulary(kind, tmp_path), 0.0, window=WINDOW, layout=layout)
    size, special = len(store.token_bytes.own), SpecialTokens.from_manifest(store.manifest.vocabulary.special)
    if special.mask is None:
        special = dataclasses.replace(special, mask=special.pad)
    reader = store.split("train")
    windows = sample_windows(reader, store, "train", WINDOW, 20, 0)
    of_document = [surface(store, kind, document.whole) for document in corpus.documents()]
    pieces = store.provenance("train").pieces(windows.sample.numbers)
    by_place = [np.zeros(WINDOW, int) for _ in windows]
    used = [0] * len(by_place)
    for place, document, start, end in zip(
        pieces.place, pieces.document, pieces.token_start, pieces.token_end, strict=True
    ):
        part = of_document[document][start:end]
        by_place[place][used[place] : used[place] + len(part)] = part
        used[place] += len(part)

    def weighed(objective, architecture: str) -> list[float]:
        transform = objective.transform(architecture, special, size, WINDOW)
        side = "encoder" if architecture == "encoder-only" else "decoder"
        rows = [transform(example, np.random.default_rng([0, number])) for number, example in windows]
        return [float((row[f"{side}_loss_weights"] * own).sum()) for row, own in zip(rows, by_place, strict=True)]

    def found(architecture: str, objective) -> list[float]:
        scoring = by_objective("native", objective, architecture, special, store.token_bytes, WINDOW, 0)
        return sums(windows, scoring).bytes.tolist()

    # Where there is one side a target's place is that of the store's token.
    second_halves = weighed(PREFIX, "decoder-only")
    assert found("decoder-only", PREFIX) == found("encoder-decoder", PREFIX) == second_halves
    pseudo = pseudo_likelihood(PREFIX, special, store.token_bytes, WINDOW, None, 0)
    assert sums(windows, pseudo).bytes.tolist() == second_halves
    assert found("decoder-only", CausalLM()) == [float(own.sum()) for own in by_place]
    assert found("encoder-only", MaskedLM()) == weighed(MaskedLM(), "encoder-only")
    if layout == "windows":
        joined = join_windows(store, "train", 40)
        longer = sample_windows(joined, store, "train", 40, None, 0)
        scoring = by_objective("native", CausalLM(), "decoder-only", special, store.token_bytes, 40, 0)
        stream = np.concatenate(of_document)[: 40 * len(joined)]
        assert sums(longer, scoring).bytes.tolist() == stream.reshape(-1, 40).sum(axis=1).tolist()


@pytest.mark.parametrize("kind", ["bytes", "puts a space", "space in bytes"])
@pytest.mark.parametrize("layout", ["pairs", "packed_pairs"])
def test_targets_are_texts_of_their_own(kind, layout, tmp_path):
    lengths = {"inputs": 1200, "targets": 1200}
    corpus = Pairs(30)
    store = prepared(tmp_path / "s", corpus, vocabulary(kind, tmp_path), 0.0, layout=layout, lengths=lengths)
    special = SpecialTokens.from_manifest(store.manifest.vocabulary.special)
    windows = sample_windows(store.split("train"), store, "train", 2400, None, 0)
    for architecture in ("decoder-only", "encoder-decoder"):
        scoring = by_objective("n", Supervised(1200, 1200), architecture, special, store.token_bytes, 2400, 0)
        assert sums(windows, scoring).bytes.sum() == sum(map(len, corpus.texts))


def scored(objective, architecture: str, example: dict[str, list[int]], special=SPECIAL) -> list[int]:
    """Returns the bytes of the scored tokens, those without any left out."""
    example = {name: np.array(values, bool if name == "starts" else np.int32) for name, values in example.items()}
    window = sum(len(values) for name, values in example.items() if name in ("tokens", "inputs", "targets"))
    (row,) = by_objective("native", objective, architecture, special, SPACED, window, 0).rows(example, 0)
    return [int(found) for found in row["scored_bytes"] * row["scored_weights"] if found]


# A row: the end of a document that began in another, and a whole one.
ROW = {"tokens": [10, 11, 12, 2, 13, 14, 15, 16, 17, 2], "segment_ids": [1] * 4 + [2] * 6}
STARTS = {"starts": [0] * 4 + [1] + [0] * 5}


@pytest.mark.parametrize(
    ("objective", "architecture", "example", "expected"),
    [
        (CausalLM(), "decoder-only", ROW | STARTS, [3, 3, 3, 2, 3, 3, 3, 3]),
        (CausalLM(), "decoder-only", ROW, [2, 3, 3, 2, 3, 3, 3, 3]),
        # Tokens 12 and 16 are the first that a decoder predicts, of no text.
        (PREFIX, "encoder-decoder", ROW | STARTS, [3, 3, 3]),
        (PREFIX, "decoder-only", ROW, [3, 3, 3]),
        # Inputs end in the middle of a text, with an end put there; the cut may also fall on a true one.
        (PrefixLM(append_eos=True), "encoder-decoder", {"tokens": [10, 11, 12, 13]}, [3, 3]),
        (PrefixLM(append_eos=True), "decoder-only", {"tokens": [10, 11, 12, 13]}, [3, 3]),
        (PrefixLM(append_eos=True), "encoder-decoder", {"tokens": [10, 2, 12, 13]}, [2, 3]),
        (PrefixLM(append_eos=True), "decoder-only", {"tokens": [10, 2, 12, 13]}, [2, 3]),
        (PREFIX, "encoder-decoder", {"tokens": [10, 2, 12, 13]}, [2, 3]),
        # SeqIO's examples need not end in an end, nor have inputs.
        (Supervised(2, 2), "encoder-decoder", {"inputs": [10, 11], "targets": [12, 13]}, [2, 3]),
        (Supervised(2, 2), "decoder-only", {"inputs": [10, 11], "targets": [12, 13]}, [2, 3]),
        (
            Supervised(2, 3),
            "encoder-decoder",
            {"tokens": [10, 11, 12, 13, 14], "segment_ids": [1, 1, 1, 2, 2], "num_inputs": [2, 0]},
            [2, 2, 3],
        ),
        (
            Supervised(2, 3),
            "decoder-only",
            {"tokens": [10, 11, 12, 13, 0], "segment_ids": [1, 1, 1, 1, 0], "num_inputs": [2]},
            [2, 3],
        ),
        (MaskedLM(0.8, 1.0, 0.0, add_special_tokens=True), "encoder-only", {"tokens": [10, 2, 12, 13]}, [2, 3]),
        (CausalLM(), "decoder-only", {"tokens": [10, 11], "previous_token": 9}, [3, 3]),
        (CausalLM(), "decoder-only", {"tokens": [10, 11], "previous_token": 2}, [2, 3]),
    ],
)
def test_which_tokens_begin_a_text(objective, architecture, example, expected):
    special = SPECIAL
    assert scored(objective, architecture, example, special) == expected


def test_a_space_in_bytes_is_one_byte_in_whatever_order_its_tokens_are():
    """Spans take the space apart: its bytes are counted once, the same bytes elsewhere as they are."""
    ones = (np.arange(100) >= 4).astype(np.uint16)
    counts = TokenBytes(ones, ones, (50, 51, 52))
    tokens = np.array([10, 50, 51, 52, 11, 50, 51, 12, 52, 51, 50, 51, 52, 13, 14, 15], np.int32)
    nothing = np.zeros(len(tokens), bool)
    assert counts.less(tokens, nothing).nonzero()[0].tolist() == [2, 3, 11, 12]
    assert counts.count(tokens, nothing) == 12
    scoring = by_objective("n", SpanCorruption(0.3, 1.5), "encoder-decoder", SPECIAL, counts, len(tokens), 0)
    totals = [
        sum(row["scored_bytes"][row["scored_targets"] < 60])
        for s in range(60)
        for row in scoring.rows({"tokens": tokens}, s)
    ]
    # A third of 12 bytes on average, to within five of its standard deviations.
    assert min(totals) > 0 and abs(np.mean(totals) - 12 * 5 / 16) < 5 * np.std(totals) / math.sqrt(60)


def test_rows_of_counts_come_back():
    for space in ((), (7, 3, 5)):
        counts = TokenBytes(np.arange(10, dtype=np.uint16), np.arange(10, dtype=np.uint16) // 2, space)
        again = TokenBytes.from_rows(counts.rows())
        assert (again.own.tolist(), again.first.tolist(), again.space) == (
            counts.own.tolist(), counts.first.tolist(), space
        )  # fmt: skip


def test_texts_of_padding_begin_nowhere():
    example = {"tokens": np.array([4, 2, 0, 0], np.int32), "segment_ids": np.array([1, 1, 0, 0], np.int32)}
    assert text_starts(example, 2)["tokens"].tolist() == [True, False, False, False]
