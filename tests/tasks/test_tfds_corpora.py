"""A data set that TFDS itself builds, on disk, is the reference."""

import numpy as np
import pytest
import seqio
import tensorflow as tf
import tensorflow_datasets as tfds

from triarch.cli.main import main
from triarch.data.store import TokenStore
from triarch.errors import UserError
from triarch.prepare.corpora.documents import Document
from triarch.tasks.tfds_corpora import TfdsCorpus
from triarch.tokenizers import ByteTokenizer, load_tokenizer

TEXTS = {
    "train": [f"document {index} é" if index % 7 else "" for index in range(50)],
    "validation": ["held out", "NUL \0"],
}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Two data sets as TFDS writes them: several shards, and one with text that is not UTF-8."""
    folder = tmp_path_factory.mktemp("tfds")

    def write(name, splits):
        features = tfds.features.FeaturesDict(
            {"text": tfds.features.Text(), "question": tfds.features.Text(), "label": tf.int64}
        )
        tfds.dataset_builders.store_as_tfds_dataset(
            name=name,
            version="1.0.0",
            features=features,
            split_datasets={
                split: tf.data.Dataset.from_tensor_slices(
                    {"text": texts, "question": [b"q"] * len(texts), "label": np.arange(len(texts), dtype=np.int64)}
                )
                for split, texts in splits.items()
            },
            data_dir=str(folder),
            disable_shuffling=True,
        )

    write("made_up", TEXTS)
    write("broken", {"train": [b"good", b"\xff"]})
    return str(folder)


def _documents(*arguments, **options):
    return [record for record in TfdsCorpus(*arguments, **options).documents() if isinstance(record, Document)]


@pytest.mark.parametrize("split", TEXTS)
def test_every_text_in_tfds_order(data_dir, split):
    corpus = TfdsCorpus("made_up", split, data_dir=data_dir)
    reference = tfds.load("made_up", split=split, data_dir=data_dir, shuffle_files=False)
    texts = [example["text"].decode() for example in reference.as_numpy_iterator()]
    assert [document.text for document in _documents("made_up", split, data_dir=data_dir)] == [t for t in texts if t]
    assert texts == TEXTS[split] and corpus.size == len(texts)
    assert sum(record.progress for record in corpus.documents()) == corpus.size
    assert corpus.provenance() == {
        "tfds": "made_up/1.0.0",
        "split": split,
        "examples": len(texts),
        "features": ["text"],
    }
    assert corpus.version == TfdsCorpus("made_up", split, data_dir=data_dir).version


def test_slices_versions_and_inputs(data_dir):
    assert len(_documents("made_up:1.0.0", "train[:10]", data_dir=data_dir)) == 8
    documents = _documents("made_up", "validation", inputs_field="question", data_dir=data_dir)
    assert [document.whole for document in documents] == ["q\nheld out", "q\nNUL \0"]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("maid_up", {}, "tfds:maid_up: no such data set in .*--data_dir"),
        ("made_up:3.0.0", {}, "tfds:made_up:3.0.0: no such data set in"),
        ("made_up", {"split": "trian"}, r"tfds:made_up: no split 'trian' \(did you mean 'train'"),
        ("made_up", {"text_field": "txt"}, r"tfds:made_up: no feature 'txt' \(did you mean 'text'"),
        ("made_up", {"text_field": "label"}, "tfds:made_up: feature 'label' is .*, expected a string"),
        ("imdb_reviews", {}, "tfds:imdb_reviews: not prepared in .*: run `tfds build imdb_reviews`"),
        ("broken", {}, "broken:train:1: feature 'text' is not UTF-8: byte 0xff at offset 0"),
    ],
)
def test_mistakes_are_one_line(data_dir, name, options, message):
    with pytest.raises(UserError, match=message) as error:
        _documents(name, data_dir=data_dir, **options)
    assert "\n" not in str(error.value)


def test_bad_texts_are_counted_where_the_user_asks(data_dir):
    records = list(TfdsCorpus("broken", data_dir=data_dir, skip_bad_records=True).documents())
    assert [getattr(record, "reason", None) for record in records] == [None, "not UTF-8"]


def test_prepare_is_what_seqio_reads(data_dir, tmp_path):
    """SeqIO's own TFDS source, tokenized by SeqIO, gives the store's stream."""
    output = tmp_path / "store"
    arguments = ["--task=tfds:made_up", f"--data_dir={data_dir}", "--validation_fraction=0", "--vocabulary=bytes"]
    assert main(["prepare", *arguments, f"--output={output}", "--window=32", "--workers=1"]) == 0
    store = TokenStore.open(output)
    seqio.TaskRegistry.add(
        "test_tfds_reference",
        seqio.TfdsDataSource("made_up:1.0.0", tfds_data_dir=data_dir),
        preprocessors=[
            lambda dataset: dataset.filter(lambda example: tf.strings.length(example["text"]) > 0),
            lambda dataset: seqio.preprocessors.rekey(dataset, {"targets": "text"}),
            seqio.preprocessors.tokenize,
            seqio.preprocessors.append_eos,
        ],
        output_features={"targets": seqio.Feature(seqio.ByteVocabulary())},
    )
    dataset = seqio.get_mixture_or_task("test_tfds_reference").get_dataset(None, "train", shuffle=False)
    expected = np.concatenate([example["targets"] for example in dataset.as_numpy_iterator()])
    reader = store.split("train")
    tokens = np.concatenate([reader[index]["tokens"] for index in range(len(reader))])
    np.testing.assert_array_equal(tokens, expected[: len(tokens)])
    assert len(expected) == store.manifest.splits["train"].tokens
    assert store.manifest.source["left_out"]["empty"]["count"] == 8
    assert isinstance(load_tokenizer(store), ByteTokenizer)
