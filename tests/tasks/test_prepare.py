"""A prepared store holds its corpus's tokens, all of them, once, whoever tokenized them."""

import dataclasses
import errno
import io
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import sentencepiece

from tests.tasks import huggingface
from tests.tasks.texts import Documents, kill_this_process
from triarch.data import partial, tables
from triarch.data import writer as writers
from triarch.data.batches import Batches
from triarch.data.store import TokenStore
from triarch.data.streams import Epochs
from triarch.errors import UserError
from triarch.objectives import CausalLM, SpecialTokens
from triarch.tasks import prepare as preparing
from triarch.tasks import tokenization
from triarch.tasks.documents import Document
from triarch.tasks.files import Files
from triarch.tasks.prepare import VocabularyChoice, prepare
from triarch.tasks.selection import Filters
from triarch.tasks.splits import split_of
from triarch.tasks.tokenizers import ByteTokenizer, ExtraIds, load_tokenizer

WINDOW = 64
BYTES = VocabularyChoice("bytes")
CORPUS = Documents()


def _prepare(path, corpus=CORPUS, vocabulary=BYTES, fraction=0.2, workers=1, **options):
    return prepare(corpus, "test", path, vocabulary, options.pop("window", WINDOW), fraction, workers, **options)


def _contents(path):
    files = [file for file in path.rglob("*") if file.is_file()]
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def _tokens(store, split):
    reader = store.split(split)
    return np.concatenate([reader[index]["tokens"] for index in range(len(reader))])


@pytest.mark.parametrize(
    "vocabulary", [BYTES, VocabularyChoice(size=420), VocabularyChoice(size=360, model_type="unigram")]
)
def test_the_stream_is_the_documents(tmp_path, vocabulary):
    """Every document's text, in order, each followed by one end-of-document token; only the remainder is missing."""
    store = _prepare(tmp_path / "store", vocabulary=vocabulary)
    tokenizer = load_tokenizer(store)
    eos = tokenizer.info.special["eos"]
    for split, counts in store.manifest.splits.items():
        texts = [document.text for document in Documents().documents() if split_of(document.key, 0.2) == split]
        assert counts.documents == len(texts)
        assert counts.bytes == sum(len(text.encode()) for text in texts)
        stream = _tokens(store, split)
        assert len(stream) == counts.examples * WINDOW == counts.tokens - counts.dropped_tokens
        assert 0 <= counts.dropped_tokens < WINDOW
        expected = np.concatenate([[*tokenizer.encode(text), eos] for text in texts])
        assert len(expected) == counts.tokens
        np.testing.assert_array_equal(stream, expected[: len(stream)])
        whole = np.split(stream, np.flatnonzero(stream == eos) + 1)[:-1]
        assert [tokenizer.decode(document) for document in whole] == texts[: len(whole)]


def test_bytes_add_up(tmp_path):
    """With the byte vocabulary tokens are bytes and one end each; nothing else to count."""
    for counts in _prepare(tmp_path / "store").manifest.splits.values():
        assert counts.tokens == counts.bytes + counts.documents


@pytest.mark.parametrize("vocabulary", [BYTES, VocabularyChoice(size=420)])
def test_worker_count_does_not_show(tmp_path, monkeypatch, vocabulary):
    monkeypatch.setattr(tokenization, "_CHUNK_CHARACTERS", 1000)
    alone = _contents(_prepare(tmp_path / "alone", vocabulary=vocabulary).path)
    assert _contents(_prepare(tmp_path / "shared", vocabulary=vocabulary, workers=3).path) == alone
    monkeypatch.setattr(tokenization, "_CHUNK_CHARACTERS", 2**20)
    assert _contents(_prepare(tmp_path / "chunk", vocabulary=vocabulary).path) == alone


def test_vocabulary_is_learnt_from_the_training_split_only(tmp_path):
    class Unseen(Documents):
        """The same training documents, other held-out ones."""

        def documents(self):
            for document in super().documents():
                held_out = split_of(document.key, 0.2) == "validation"
                yield dataclasses.replace(document, text=document.text * 3) if held_out else document

    choice = VocabularyChoice(size=420)
    first = _prepare(tmp_path / "a", vocabulary=choice)
    second = _prepare(tmp_path / "b", Unseen(), vocabulary=choice)
    assert first.manifest.vocabulary == second.manifest.vocabulary
    assert first.manifest.splits["validation"] != second.manifest.splits["validation"]


def test_vocabulary_of_another_store(tmp_path):
    first = _prepare(tmp_path / "a", vocabulary=VocabularyChoice(size=420))
    other = Documents(20)
    second = _prepare(tmp_path / "b", other, VocabularyChoice(store=first.path))
    assert second.manifest.vocabulary == first.manifest.vocabulary
    np.testing.assert_array_equal(second.token_bytes, first.token_bytes)
    assert load_tokenizer(second).decode(_tokens(second, "train")[:10])
    path = tmp_path / "given.model"
    path.write_bytes((first.path / "vocabulary" / "sentencepiece.model").read_bytes())
    third = _prepare(tmp_path / "c", other, VocabularyChoice(str(path)))
    assert _contents(third.path) == _contents(second.path)


def test_a_lossy_model_is_said_so(tmp_path):
    model = io.BytesIO()
    texts = (document.text for document in Documents().documents())
    ids = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=texts, model_writer=model, vocab_size=100, minloglevel=2, **ids
    )
    (tmp_path / "lossy.model").write_bytes(model.getvalue())
    store = _prepare(tmp_path / "store", vocabulary=VocabularyChoice(str(tmp_path / "lossy.model")))
    assert store.manifest.source["lossy_documents"] > 0
    assert _prepare(tmp_path / "b").manifest.source["lossy_documents"] == 0


@pytest.mark.parametrize(("fraction", "splits"), [(0, {"train"}), (1, {"validation"})])
def test_a_store_of_one_split(tmp_path, fraction, splits):
    store = _prepare(tmp_path / "store", vocabulary=VocabularyChoice(size=420), fraction=fraction)
    assert set(store.manifest.splits) == splits
    assert sum(split.documents for split in store.manifest.splits.values()) == 60


def test_large_vocabularies_are_stored_as_int32(tmp_path, monkeypatch):
    first = _prepare(tmp_path / "a")
    monkeypatch.setattr("triarch.tasks.prepare.UINT16_IDS", 256)
    second = _prepare(tmp_path / "b")
    assert (first.manifest.dtype, second.manifest.dtype) == ("uint16", "int32")
    np.testing.assert_array_equal(_tokens(first, "train"), _tokens(second, "train"))


class Nothing(Documents):
    def documents(self):
        return iter(())


class Failing(Documents):
    def documents(self):
        yield from super().documents()
        raise UserError("corpus.jsonl:7: not JSON")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"corpus": Nothing()}, "the corpus is empty"),
        ({"corpus": Nothing(), "vocabulary": VocabularyChoice()}, "the corpus is empty"),
        ({"corpus": Failing()}, "corpus.jsonl:7: not JSON"),
        ({"corpus": Failing(), "vocabulary": VocabularyChoice(size=420)}, "corpus.jsonl:7: not JSON"),
        ({"window": 10**6}, r"split 'train' has [\d,]+ tokens \(\d+ documents\), fewer than one window of 1000000"),
        ({"window": 10**4, "fraction": 0.03}, r"split 'validation' has [\d,]+ tokens \(\d+ documents\), fewer"),
        ({"window": 0}, "window=0"),
        ({"workers": 0}, "workers=0"),
        ({"layout": "packd"}, r"layout='packd': unknown layout \(did you mean 'packed'"),
        ({"fraction": 2}, "validation_fraction=2"),
        (
            {"filters": Filters(10**6)},
            "the corpus is empty: it holds no text .left out: 60 shorter than 1,000,000 char",
        ),
        ({"vocabulary": VocabularyChoice(size=32768)}, r"vocabulary_size=32768: too large for this text: at most \d+"),
        ({"vocabulary": VocabularyChoice("byte")}, "expected bytes, sentencepiece, or the path of a .model file"),
        ({"vocabulary": VocabularyChoice("none.model")}, "none.model: cannot be read"),
        ({"vocabulary": VocabularyChoice(store=Path("nowhere"))}, "nowhere: no such token store"),
    ],
)
def test_what_goes_wrong_is_one_line_and_leaves_nothing(tmp_path, options, message):
    with pytest.raises(UserError, match=message) as error:
        _prepare(tmp_path / "store", **options)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_output_fails_before_any_work(tmp_path):
    store = _prepare(tmp_path / "store")
    with pytest.raises(UserError, match="exists already"):
        _prepare(tmp_path / "store", Failing())
    with pytest.raises(UserError, match="not JSON"):
        _prepare(tmp_path / "store", Failing(), overwrite=True)
    assert TokenStore.open(store.path).manifest == store.manifest
    assert _prepare(tmp_path / "store", window=32, overwrite=True).manifest.window == 32


def test_filtered_documents_are_counted(tmp_path):
    class Twice(Documents):
        def documents(self):
            yield Document("short", "short", 1)
            yield from super().documents()
            yield from super().documents()
            yield Document("long " * 10_000, "long", 1)

    filters = Filters(min_characters=6, max_characters=10_000, deduplicate=True)
    store = _prepare(tmp_path / "store", Twice(), filters=filters)
    assert store.manifest.source["filters"] == {"min_characters": 6, "max_characters": 10_000, "deduplicate": True}
    assert store.manifest.source["left_out"] == {
        "shorter than 6 characters": {"count": 1, "first": []},
        "longer than 10,000 characters": {"count": 1, "first": []},
        "exact duplicate": {"count": 60, "first": ["file 0:1", "file 0:2", "file 0:3"]},
    }
    once = _prepare(tmp_path / "once")
    assert store.manifest.splits == once.manifest.splits
    for name, contents in _contents(once.path).items():
        assert name == "manifest.json" or _contents(store.path)[name] == contents


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def write(self, record):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(writers.SpooledFiles, "write", write)
    with pytest.raises(UserError, match=r"store: the disk is full"):
        _prepare(tmp_path / "store")
    assert list(tmp_path.iterdir()) == []


# All under the guard: spawned workers import the script again.
_SLOW = """
if __name__ == "__main__":
    import sys, time
    from pathlib import Path
    from tests.tasks.texts import Documents
    from triarch.tasks import tokenization
    from triarch.tasks.prepare import VocabularyChoice, prepare

    class Endless(Documents):
        def documents(self):
            while True:
                yield from super().documents()
                time.sleep(0.01)

    tokenization._CHUNK_CHARACTERS = 1000
    prepare(Endless(), "test", Path(sys.argv[1]), VocabularyChoice("bytes"), 64, 0.2, workers=2)
"""


def test_kill_in_the_middle_leaves_no_store_and_no_process(tmp_path):
    script = tmp_path / "slow.py"
    script.write_text(_SLOW)
    output = tmp_path / "stores" / "store"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
    # Its own session, so that its workers can be found once it is gone.
    process = subprocess.Popen([sys.executable, script, output], env=environment, start_new_session=True)
    _wait_for(lambda: any(output.parent.glob(".store.partial/scratch/train*")))
    process.kill()
    process.wait()
    _wait_for(lambda: not _session_is_alive(process.pid))
    with pytest.raises(UserError, match="no such token store"):
        TokenStore.open(output)
    _prepare(output)
    assert list(output.parent.iterdir()) == [output]


_INTERRUPTED = """
if __name__ == "__main__":
    import os, signal, sys
    from pathlib import Path
    from tests.tasks.texts import Documents
    from triarch.data import writer
    from triarch.tasks import prepare as preparing, tokenization
    from triarch.tasks.selection import Filters
    from triarch.tasks.vocabulary_choice import VocabularyChoice

    output, kill_at, workers = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])

    class Mortal(Documents):
        def documents(self):
            for number, document in enumerate(super().documents()):
                mortal.read += 1
                if mortal.read == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                yield document

        def __repr__(self):
            return "Mortal"

    class mortal:
        read = 0

    tokenization._CHUNK_CHARACTERS = 1000
    preparing.CHECKPOINT_SECONDS = 0
    choice = VocabularyChoice(size=420)
    preparing.prepare(Mortal(), "test", output, choice, 64, 0.2, workers, filters=Filters(40, None, True))
"""


@pytest.mark.slow
def test_killed_again_and_again_it_writes_the_same_bytes(tmp_path):
    """In the passes over the documents for duplicates, for the vocabulary and for the tokens, 60 documents each."""
    script = tmp_path / "interrupted.py"
    script.write_text(_INTERRUPTED)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}

    def run(output, kill_at):
        arguments = [sys.executable, script, output, str(kill_at), "2"]
        return subprocess.run(arguments, env=environment).returncode

    # A pass that was done is not done again, so the third kill is in the third pass.
    assert [run(tmp_path / "store", kill_at) for kill_at in (30, 90, 100, 55, 0)] == [-9, -9, -9, -9, 0]
    assert run(tmp_path / "whole", 0) == 0
    assert _contents(tmp_path / "store") == _contents(tmp_path / "whole")
    assert {path.name for path in tmp_path.iterdir()} == {"store", "whole", "interrupted.py"}


class Interruption(BaseException):
    """As from the keyboard."""


class Interrupted(Documents):
    """Is interrupted once `left` documents were read."""

    left = 0

    def documents(self):
        for document in super().documents():
            Interrupted.left -= 1
            if Interrupted.left == 0:
                raise Interruption
            yield document


@pytest.mark.parametrize("layout", ["windows", "packed"])
def test_interrupted_again_and_again_it_writes_the_same_bytes(tmp_path, monkeypatch, layout):
    """As the test above, in one process; provenance fills several files, too."""
    monkeypatch.setattr(tokenization, "_CHUNK_CHARACTERS", 1000)
    monkeypatch.setattr(writers, "_FILE_ROWS", 13)
    monkeypatch.setattr(tables.TableFormat, "block_records", 5)
    monkeypatch.setattr(preparing, "CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr(partial, "KEPT_AFTER_SECONDS", 0)
    options = {"vocabulary": VocabularyChoice(size=420), "filters": Filters(40, None, True), "layout": layout}
    for Interrupted.left in (30, 90, 100, 20, 55):
        with pytest.raises(Interruption):
            _prepare(tmp_path / "store", Interrupted(), **options)
    store = _prepare(tmp_path / "store", Interrupted(), **options)
    assert _contents(store.path) == _contents(_prepare(tmp_path / "whole", **options).path)
    assert {path.name for path in tmp_path.iterdir()} == {"store", "whole"}
    documents = store.manifest.provenance["train"].documents
    assert len(documents) > 2 and [file.rows for file in documents[:-1]] == [13] * (len(documents) - 1)


def test_going_on_tokenizes_nothing_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(tokenization, "_CHUNK_CHARACTERS", 1000)
    monkeypatch.setattr(preparing, "CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr(partial, "KEPT_AFTER_SECONDS", 0)
    encoded = []

    def encode(self, text):
        if len(encoded) == 30:
            encoded.append(None)
            raise KeyboardInterrupt
        encoded.append(text)
        return original(self, text)

    original = ByteTokenizer.encode
    monkeypatch.setattr(ByteTokenizer, "encode", encode)
    with pytest.raises(KeyboardInterrupt):
        _prepare(tmp_path / "store")
    _prepare(tmp_path / "store")
    texts = [text for text in encoded if text is not None]
    # Only the chunk that was interrupted is done again.
    assert 0 < len(texts) - 60 < 8
    monkeypatch.undo()
    assert _contents(tmp_path / "store") == _contents(_prepare(tmp_path / "whole").path)


def _session_is_alive(session):
    try:
        os.killpg(session, 0)
    except ProcessLookupError:
        return False
    return True


def _wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_killed_worker_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(tokenization, "_run_worker", kill_this_process)
    with pytest.raises(UserError, match="a tokenizing process was killed"):
        _prepare(tmp_path / "store", workers=2)
    assert list(tmp_path.iterdir()) == []


def test_local_files_end_to_end(tmp_path):
    lines = [f'{{"text": "document {index} of the corpus"}}\n' for index in range(100)]
    (tmp_path / "corpus.jsonl").write_text("".join(lines))
    store = _prepare(tmp_path / "store", Files((str(tmp_path / "corpus.jsonl"),)), window=16)
    assert store.manifest.source["files"][0]["size"] == sum(map(len, lines))
    assert sum(split.documents for split in store.manifest.splits.values()) == 100


def test_equal_documents_share_a_split(tmp_path):
    """A text that occurs twice is never trained on and tested on."""

    class Twice(Documents):
        def documents(self):
            for document in super().documents():
                yield document
                yield Document(document.text, document.key, 1)

    store = _prepare(tmp_path / "store", Twice())
    once = _prepare(tmp_path / "once")
    for split in ("train", "validation"):
        assert store.manifest.splits[split].documents == 2 * once.manifest.splits[split].documents


@pytest.mark.parametrize("layout", ["gpt2", "t5"])
def test_a_hugging_face_vocabulary(tmp_path, monkeypatch, layout):
    """The folder of a model is enough; the store carries its tokenizer, with whatever number of workers."""
    folder = huggingface.write_folder(tmp_path / "model" / "vocabulary", layout, tokenizer_config={"x": 1})
    choice = VocabularyChoice(str(folder.parent), extra=ExtraIds(modes=True))
    monkeypatch.setattr(tokenization, "_CHUNK_CHARACTERS", 1000)
    store = _prepare(tmp_path / "store", vocabulary=choice, workers=2)
    assert _contents(_prepare(tmp_path / "alone", vocabulary=choice).path) == _contents(store.path)
    names = {path.name for path in store.vocabulary_folder.iterdir()}
    assert names == {"tokenizer.json", "tokenizer_config.json"}
    tokenizer = load_tokenizer(store)
    vocabulary = store.manifest.vocabulary
    assert (
        tokenizer.info == vocabulary
        and vocabulary.kind == "huggingface"
        and set(vocabulary.special["modes"]) == {*"RSX"}
    )
    assert ("sentinels" in vocabulary.special) == (layout == "t5")
    texts = [document.text for document in Documents().documents() if split_of(document.key, 0.2) == "train"]
    reference = huggingface.LAYOUTS[layout]()
    reference.encode_special_tokens = True
    if layout == "gpt2":
        first = reference.encode(texts[0], add_special_tokens=False).ids
        assert _tokens(store, "train")[: len(first) + 1].tolist() == [*first, vocabulary.special["eos"]]
        assert store.manifest.source["lossy_documents"] == 0
    again = _prepare(tmp_path / "again", vocabulary=VocabularyChoice(store=store.path))
    assert again.manifest.vocabulary == vocabulary


@pytest.mark.parametrize("vocabulary", [BYTES, VocabularyChoice(size=420)])
def test_packed_documents(tmp_path, monkeypatch, vocabulary):
    """Every document is whole in a segment of its own, but for those longer than an example."""
    monkeypatch.setattr(tokenization, "_CHUNK_CHARACTERS", 1000)
    store = _prepare(tmp_path / "store", vocabulary=vocabulary, layout="packed", window=400)
    tokenizer = load_tokenizer(store)
    assert store.manifest.layout == "packed"
    for split, counts in store.manifest.splits.items():
        reader = store.split(split)
        pieces = []
        for index in range(len(reader)):
            example = reader[index]
            assert example["tokens"].shape == example["segment_ids"].shape == (400,)
            assert (example["tokens"][example["segment_ids"] == 0] == tokenizer.info.special["pad"]).all()
            for number in range(1, example["segment_ids"].max() + 1):
                pieces.append(example["tokens"][example["segment_ids"] == number].tolist())
        assert sum(map(len, pieces)) == counts.tokens and counts.dropped_tokens == 0
        texts = [document.text for document in Documents().documents() if split_of(document.key, 0.2) == split]
        expected = [[*tokenizer.encode(text).tolist(), tokenizer.info.special["eos"]] for text in texts]
        cut = [tokens[start : start + 400] for tokens in expected for start in range(0, len(tokens), 400)]
        assert sorted(pieces) == sorted(cut)
        assert counts.documents == len(texts)
    other = _prepare(tmp_path / "other", vocabulary=vocabulary, layout="packed", window=400, workers=2)
    assert _contents(other.path) == _contents(store.path)
    assert store.manifest.fingerprint != _prepare(tmp_path / "windows", vocabulary=vocabulary).manifest.fingerprint


def test_a_packed_split_shorter_than_a_window(tmp_path):
    store = _prepare(tmp_path / "store", Documents(3), fraction=0, layout="packed", window=100_000)
    assert store.manifest.splits["train"].examples == 1
    assert store.split("train")[0]["segment_ids"].max() == 3


def test_an_objective_reads_packed_documents(tmp_path):
    """SeqIO's positions and segments, from the store to the batch."""
    store = _prepare(tmp_path / "store", layout="packed", window=400)
    special = SpecialTokens.from_manifest(store.manifest.vocabulary.special)
    transform = CausalLM().transform("decoder-only", special, store.manifest.vocabulary.size, 400)
    batch = Batches(Epochs(store.split("train"), transform, seed=0), 4).batch(0)
    segments, positions = batch["decoder_segment_ids"], batch["decoder_positions"]
    starts = np.diff(segments, prepend=0, axis=1) != 0
    assert (positions[starts] == 0).all() and segments.max() > 1
    # No end of a document predicts the beginning of the next.
    assert (batch["decoder_input_tokens"][starts & (segments > 0)] == special.bos).all()
    assert not batch["decoder_loss_weights"][segments == 0].any()


@dataclasses.dataclass(frozen=True)
class Questions(Documents):
    """Examples of inputs and targets."""

    inputs_field: str = "inputs"

    def documents(self):
        for index, document in enumerate(super().documents()):
            inputs = "" if index == 5 else f"question {index}"
            yield dataclasses.replace(document, inputs=inputs, key=f"{inputs}\n{document.text}")


@pytest.mark.parametrize("workers", [1, 2])
def test_pairs(tmp_path, monkeypatch, workers):
    """An example is a record: nothing is packed, and both sides end with the end-of-document token."""
    monkeypatch.setattr(tokenization, "_CHUNK_CHARACTERS", 1000)
    lengths = {"inputs": 11, "targets": 200}
    store = _prepare(tmp_path / "store", Questions(), layout="pairs", lengths=lengths, workers=workers)
    assert store.manifest.layout == "pairs" and store.manifest.lengths == lengths and store.manifest.window == 211
    tokenizer, cut = ByteTokenizer(), 0
    for split, counts in store.manifest.splits.items():
        reader = store.split(split)
        documents = [document for document in Questions().documents() if split_of(document.key, 0.2) == split]
        assert counts.documents == counts.examples == len(reader) == len(documents)
        assert counts.tokens == sum(len(side) for index in range(len(reader)) for side in reader[index].values())
        for index, document in enumerate(documents):
            inputs, targets = tokenizer.encode(document.inputs)[:10], tokenizer.encode(document.text)[:199]
            cut += len(document.inputs) > 10 or len(document.text.encode()) > 199
            np.testing.assert_array_equal(reader[index]["inputs"], [*inputs, 1])
            np.testing.assert_array_equal(reader[index]["targets"], [*targets, 1])
    assert store.manifest.source["cut_documents"] == cut > 0


@pytest.mark.parametrize(
    ("corpus", "lengths", "message"),
    [
        (CORPUS, {"inputs": 8, "targets": 8}, "the documents of test have no inputs: name their field with --inputs_f"),
        (Questions(), {"inputs": 0, "targets": 8}, "max_inputs=0: expected at least 1"),
        (Questions(), {"inputs": 8}, "max_targets=None: expected at least 1"),
    ],
)
def test_pairs_that_cannot_be(tmp_path, corpus, lengths, message):
    with pytest.raises(UserError, match=message):
        _prepare(tmp_path / "store", corpus, layout="pairs", lengths=lengths)
