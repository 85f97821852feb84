"""Examples of every layout as text: ends are named, packed documents have colours, targets are bold."""

import numpy as np
import pytest

from tests.cli.views.test_batch_view import styled
from triarch.cli.verbs import generate
from triarch.cli.views import example_view
from triarch.tokenizers import ByteTokenizer

TOKENIZER = ByteTokenizer()
END = TOKENIZER.info.special["eos"]


def ids(*texts):
    return np.concatenate([np.append(TOKENIZER.encode(text), END) for text in texts])


def packed(tokens, lengths, padding=3):
    segments = np.repeat(np.arange(1, len(lengths) + 1), lengths)
    return {"tokens": np.pad(tokens, (0, padding)), "segment_ids": np.pad(segments, (0, padding))}


ROW = packed(ids("one", "1", "two", "2", "three", "3"), [6, 6, 8])
EXAMPLES = {
    "windows": ({"tokens": ids("one", "two")[:-1]}, "one[end of document]two"),
    "packed": (packed(ids("one", "two"), [4, 4]), "one[end of document]two[end of document]"),
    "pairs": ({"inputs": ids("one"), "targets": ids("1")}, "one[end of inputs]1[end of targets]"),
    "packed_pairs": (
        ROW | {"num_inputs": np.array([4, 4, 6])},
        "one[end of inputs]1[end of targets]two[end of inputs]2[end of targets]three[end of inputs]3[end of targets]",
    ),
}


@pytest.mark.parametrize("layout", EXAMPLES)
def test_ends_are_named(layout):
    example, expected = EXAMPLES[layout]
    assert example_view.view(example, TOKENIZER).plain == expected
    tokens = example_view.text_tokens(example)
    assert TOKENIZER.decode(tokens[tokens != END]) == "".join(part.rpartition("]")[2] for part in expected.split("["))


def test_documents_have_colours_and_targets_are_bold():
    text = example_view.view(EXAMPLES["packed_pairs"][0], TOKENIZER)
    assert (styled(text, "cyan"), styled(text, "magenta"), styled(text, "bold")) == ("two2", "three3", "123")


def test_carriage_returns_are_seen():
    assert example_view.view({"tokens": ids("one\r\ntwo")}, TOKENIZER).plain == "one\u240d\ntwo[end of document]"
    assert generate._printable("one\r\n\x1b[2Jtwo") == "one\u240d\n\ufffd[2Jtwo"
