"""The library `tokenizers` itself is the reference for every layout of tokenizer.json."""

import json
import os
import pickle

import numpy as np
import pytest
from hypothesis import given, settings

import tokenizers
from tests.tokenizers import huggingface
from tests.tokenizers.texts import HARD_TEXTS, Documents, small_sentencepiece, texts
from tokenizers import models, processors
from triarch.errors import UserError
from triarch.tokenizers import HuggingFaceTokenizer, cuts, given_tokenizer

LAYOUTS = list(huggingface.LAYOUTS)
# Those that keep every text; Gemma's keeps all but U+2581.
BYTE_LEVEL = ["gpt2", "llama3"]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizers")
    return {layout: HuggingFaceTokenizer.load(huggingface.write_folder(folder / layout, layout)) for layout in LAYOUTS}


def _reference(layout):
    """The library's own tokenizer, told to leave special tokens, truncation and padding alone."""
    tokenizer = tokenizers.Tokenizer.from_str(huggingface.LAYOUTS[layout]().to_str())
    tokenizer.encode_special_tokens = True
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


@pytest.mark.parametrize("layout", LAYOUTS)
def test_ids_and_text_are_the_librarys(loaded, layout):
    reference, tokenizer = _reference(layout), loaded[layout]

    @settings(max_examples=60, deadline=None)
    @given(text=texts)
    def check(text):
        if layout == "t5":  # Where the library takes text for special tokens: see the test of that.
            text = text.replace("<", "")
        ids = tokenizer.encode(text)
        assert ids.dtype == np.int32
        assert ids.tolist() == reference.encode(text, add_special_tokens=False).ids
        assert tokenizer.decode(ids) == reference.decode(ids.tolist())

    check()


@pytest.mark.parametrize("layout", [*BYTE_LEVEL, "gemma"])
def test_nothing_is_lost(loaded, layout):
    tokenizer = loaded[layout]

    @settings(max_examples=100, deadline=None)
    @given(text=texts)
    def check(text):
        text = text.replace("\u2581", "") if layout == "gemma" else text
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert tokenizer.token_bytes.own[ids].sum() == len(text.encode())
        assert b"".join(tokenizer.token_texts[index] for index in ids) == text.encode()

    check()


def test_bytes_of_each_layouts_pieces(loaded):
    for layout, text, extra in [("t5", "some text", 1), ("gpt2", "some  text é", 0), ("modernbert", "a    b", 0)]:
        tokenizer = loaded[layout]
        assert tokenizer.token_bytes.own[tokenizer.encode(text)].sum() == len(text.encode()) + extra
    # A word's pieces add up to the word; the space before it is not in them.
    assert loaded["bert"].token_bytes.own[loaded["bert"].encode("Hello there")].sum() == len("hellothere")
    assert loaded["bert"].token_bytes.own[loaded["bert"].encode("\u4e00")].tolist() == [0]  # [UNK]
    gemma = loaded["gemma"]
    assert gemma.token_bytes.own[gemma.encode("\u4e00")].tolist() == [1, 1, 1]
    for layout in LAYOUTS:
        tokenizer = loaded[layout]
        special = [index for index in tokenizer.info.special.values() if isinstance(index, int)]
        assert not tokenizer.token_bytes.own[special].any()
        assert tokenizer.token_bytes.own.shape == (tokenizer.info.size,)


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ("gpt2", {"pad": "<|endoftext|>", "bos": "<|endoftext|>", "eos": "<|endoftext|>", "mask": None}),
        ("llama3", {"pad": "<|end_of_text|>", "bos": "<|begin_of_text|>", "eos": "<|end_of_text|>", "mask": None}),
        ("modernbert", {"pad": "[PAD]", "bos": "[CLS]", "eos": "[SEP]", "mask": "[MASK]"}),
        ("bert", {"pad": "[PAD]", "bos": "[CLS]", "eos": "[SEP]", "mask": "[MASK]"}),
        ("t5", {"pad": "<pad>", "bos": "<pad>", "eos": "</s>", "mask": None}),
        ("gemma", {"pad": "<pad>", "bos": "<bos>", "eos": "<eos>", "mask": None}),
    ],
)
def test_special_ids_of_a_tokenizer_that_comes_alone(loaded, layout, expected):
    special = dict(loaded[layout].info.special)
    reference = huggingface.LAYOUTS[layout]()
    if layout == "t5":
        first, count = special.pop("sentinels")
        assert [reference.id_to_token(first - index) for index in range(count)] == [
            f"<extra_id_{index}>" for index in range(10)
        ]
        assert first == loaded[layout].info.size - 1
    assert special == {role: token and reference.token_to_id(token) for role, token in expected.items()}


def test_what_the_folder_says_counts_first(tmp_path):
    config = {"eos_token": {"content": "<eos>"}, "pad_token": None, "bos_token": "<bos>", "mask_token": "<unk>"}
    folder = huggingface.write_folder(tmp_path / "a", "gemma", tokenizer_config=config, config={"model_type": "x"})
    token_id = huggingface.LAYOUTS["gemma"]().token_to_id
    expected = {"pad": token_id("<pad>"), "bos": token_id("<bos>"), "eos": token_id("<eos>"), "mask": token_id("<unk>")}
    assert given_tokenizer(folder).info.special == expected
    only_map = huggingface.write_folder(tmp_path / "b", "gemma", special_tokens_map={"eos_token": "<unk>"})
    assert given_tokenizer(only_map).info.special["eos"] == token_id("<unk>")
    # As BART: the decoder starts with another token than the text.
    start = huggingface.write_folder(
        tmp_path / "c", "gemma", tokenizer_config=config, config={"decoder_start_token_id": 1}
    )
    assert given_tokenizer(start).info.special["bos"] == 1
    assert given_tokenizer(start / "tokenizer.json").info == given_tokenizer(start).info
    # As T5Gemma: config.json has one inside for each side.
    nested = {"decoder": {"decoder_start_token_id": 1}, "decoder_start_token_id": None}
    sides = huggingface.write_folder(tmp_path / "d", "gemma", tokenizer_config=config, config=nested)
    assert given_tokenizer(sides).info.special["bos"] == 1


def test_text_that_reads_like_a_special_token_is_text(loaded):
    for layout, token in [("gpt2", "<|endoftext|>"), ("bert", "[MASK]"), ("t5", "</s>"), ("t5", "<extra_id_0>")]:
        tokenizer = loaded[layout]
        ids = tokenizer.encode(f"a {token} b")
        assert huggingface.LAYOUTS[layout]().token_to_id(token) not in ids.tolist()
        if token == "</s>":
            assert tokenizer.decode(ids) == f"a {token} b"
            assert tokenizer.token_bytes.own[ids].sum() == len(f" a {token} b")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_save_and_load(loaded, layout, tmp_path):
    tokenizer = loaded[layout]
    tokenizer.save(tmp_path)
    for copy in (given_tokenizer(tmp_path), pickle.loads(pickle.dumps(tokenizer))):
        assert copy.info == tokenizer.info and len(copy.info.fingerprint) == 64
        np.testing.assert_array_equal(copy.token_bytes.own, tokenizer.token_bytes.own)
        for text in HARD_TEXTS:
            np.testing.assert_array_equal(copy.encode(text), tokenizer.encode(text))


def test_tokenizer_files_are_carried_along(tmp_path):
    folder = huggingface.write_folder(tmp_path / "a", "gpt2", tokenizer_config={"x": 1}, config={"vocab_size": 3})
    (tmp_path / "b").mkdir()
    given_tokenizer(folder).save(tmp_path / "b")
    assert {path.name for path in (tmp_path / "b").iterdir()} == {"tokenizer.json", "tokenizer_config.json"}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_long_texts_are_cut_where_it_does_not_show(loaded, layout, monkeypatch):
    tokenizer, reference = loaded[layout], _reference(layout)
    text = "".join(document.text for document in Documents(20).documents()).replace("\u2581", "").replace("<", "")
    expected = reference.encode(text, add_special_tokens=False).ids
    monkeypatch.setattr(cuts, "PART_CHARACTERS", 50)
    assert len(list(tokenizer.parts(text))) > 20
    assert tokenizer.encode(text).tolist() == expected


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"model: holds neither tokenizer\.json nor a SentencePiece model"),
        ({"tokenizer.json": "{"}, r"model: not a Hugging Face tokenizer\.json: "),
        ({"tokenizer.json": "[]"}, r"model: not a Hugging Face tokenizer\.json: "),
        ({"tokenizer_config.json": "{"}, r"model/tokenizer_config\.json: not JSON"),
        ({"tokenizer_config.json": "[]"}, r"tokenizer_config\.json: the value = \[\]: expected an object"),
        ({"tokenizer_config.json": '{"eos_token": "<end>"}'}, r"names '<end>' as eos_token, which is not in tokenizer"),
        ({"manifest.json": "{}"}, r"a store's vocabulary is taken with --vocabulary_from="),
    ],
)
def test_unusable_folders(tmp_path, files, message):
    folder = tmp_path / "model"
    folder.mkdir()
    if any(name.startswith("tokenizer_config") for name in files):
        huggingface.write_folder(folder, "gpt2")
    for name, text in files.items():
        (folder / name).write_text(text)
    with pytest.raises(UserError, match=message) as error:
        given_tokenizer(folder)
    assert "\n" not in str(error.value)


def test_a_vocabulary_without_an_end(tmp_path):
    fields = json.loads(huggingface.LAYOUTS["gpt2"]().to_str())
    fields["added_tokens"] = []
    (tmp_path / "tokenizer.json").write_text(json.dumps(fields))
    with pytest.raises(UserError, match=r'no token ends a document: name one as "eos_token" in a tokenizer_config\.js'):
        given_tokenizer(tmp_path)


def test_missing_files(tmp_path):
    for name in ("none.json", "none.model", "none"):
        with pytest.raises(UserError, match=rf"{name}: cannot be read: No such file"):
            given_tokenizer(tmp_path / name)


def test_files_of_older_versions(tmp_path):
    """bert-base-uncased's does not say which type its model has."""
    expected = HuggingFaceTokenizer.load(huggingface.write_folder(tmp_path, "bert"))
    fields = json.loads((tmp_path / "tokenizer.json").read_text())
    del fields["model"]["type"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(fields))
    old = given_tokenizer(tmp_path)
    assert old.encode("Hello there").tolist() == expected.encode("Hello there").tolist()
    assert old.token_bytes.own.tolist() == expected.token_bytes.own.tolist()


def test_what_stands_around_a_text_is_found_without_a_letter_a(tmp_path):
    """A vocabulary of four letters, no token for others, and a post-processor of each kind."""
    names = {"<s>": 0, "</s>": 1, "C": 2, "G": 3, "CG": 4}
    around = {
        ((0,), ()): processors.TemplateProcessing("<s> $A", "<s> $A $B", [("<s>", 0)]),
        ((), (1,)): processors.TemplateProcessing("$A </s>", "$A $B </s>", [("</s>", 1)]),
        ((0,), (1,)): processors.BertProcessing(("</s>", 1), ("<s>", 0)),
        ((0, 2), (2,)): processors.TemplateProcessing("<s> C $A C", "$A $B", [("<s>", 0), ("C", 2)]),
        ((), ()): processors.ByteLevel(),
    }
    for frame, processor in around.items():
        library = tokenizers.Tokenizer(models.BPE(names, [("C", "G")]))
        library.add_special_tokens(["<s>", "</s>"])
        library.post_processor = processor
        library.save(str(tmp_path / "tokenizer.json"))
        assert HuggingFaceTokenizer.load(tmp_path).frame == frame


def test_a_vocabulary_is_what_it_does(tmp_path):
    """Saved again, with truncation and another layout, it is the same; with another normalizer it is not."""
    library = huggingface.bert()
    library.save(str(tmp_path / "tokenizer.json"))
    first = HuggingFaceTokenizer.load(tmp_path).info
    fields = json.loads((tmp_path / "tokenizer.json").read_text())
    library.enable_truncation(8)
    library.enable_padding()
    (tmp_path / "tokenizer.json").write_text(library.to_str())
    assert HuggingFaceTokenizer.load(tmp_path).info == first
    shuffled = dict(reversed(fields.items())) | {"model": dict(reversed(fields["model"].items()))}
    (tmp_path / "tokenizer.json").write_text(json.dumps(shuffled))
    assert HuggingFaceTokenizer.load(tmp_path).info == first
    for part, change in (
        ("normalizer", None),
        ("decoder", {"type": "Fuse"}),
        ("pre_tokenizer", {"type": "Whitespace"}),
    ):
        (tmp_path / "tokenizer.json").write_text(json.dumps(fields | {part: change}))
        assert HuggingFaceTokenizer.load(tmp_path).info.fingerprint != first.fingerprint


def word_level(vocab):
    """Returns the text of a tokenizer.json of whole words, one of which ends documents."""
    end = {"id": vocab["</s>"], "content": "</s>", "special": True}
    end |= dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    model = {"type": "WordLevel", "vocab": vocab, "unk_token": "</s>"}
    return json.dumps(
        {"version": "1.0", "added_tokens": [end], "pre_tokenizer": {"type": "Whitespace"}, "model": model}
    )


def test_an_id_beyond_all_vocabularies(tmp_path):
    """The library would allocate 17 GB for it, and abort the process where there is less."""
    (tmp_path / "tokenizer.json").write_text(word_level({"</s>": 0, "a": 2**32 - 6}))
    with pytest.raises(UserError, match=r"its tokenizer\.json has id 4,294,967,290, expected ids below 67,108,864"):
        given_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text(word_level({"</s>": 0, "a": 9}))
    assert given_tokenizer(tmp_path).info.size == 10


@pytest.mark.parametrize("kind", ["link", "device", "FIFO"])
def test_what_stands_beside_a_sentencepiece_model_is_its_folders(kind, tmp_path):
    """T5's sentinels stand there: without them the vocabulary would be another one."""
    folder = tmp_path / "model"
    folder.mkdir()
    small_sentencepiece().save(folder)
    config = folder / "tokenizer_config.json"
    if kind == "FIFO":
        os.mkfifo(config)
    else:
        (tmp_path / "secret.json").write_text('{"extra_ids": 100}')
        config.symlink_to("../secret.json" if kind == "link" else "/dev/zero")
    with pytest.raises(UserError, match=r"tokenizer_config\.json: (a link out of|is a FIFO)"):
        given_tokenizer(folder)
    config.unlink()
    config.write_text('{"extra_ids": 100}')
    assert given_tokenizer(folder).info.special["sentinels"][1] == 100
