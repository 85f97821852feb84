"""Vocabularies as Hugging Face tokenizers, against transformers' AutoTokenizer: equal ids, and the text back."""

from __future__ import annotations

import dataclasses
import io
import json
import random

import pytest
import sentencepiece

from tests.interchange import exports
from tests.interchange.huggingface.families.test_expressible import SIZES, published
from tests.tokenizers.texts import HARD_TEXTS, small_sentencepiece
from triarch.cli.main import main
from triarch.errors import UserError
from triarch.prepare.labelled.framing import ends, framing
from triarch.tokenizers import (
    ByteTokenizer,
    ExtraIds,
    HuggingFaceTokenizer,
    SentencePieceTokenizer,
    given_tokenizer,
    with_extra_ids,
)
from triarch.tokenizers.as_huggingface import TextReading, huggingface_files

transformers = pytest.importorskip("transformers")

CLASSES = ("gpt2", "llama", "modernbert-decoder", "bert", "modernbert", "t5", "bart", "t5gemma", "triarch")
EXTRA = ExtraIds(modes=True, sentinels=5)
VOCABULARIES = {
    "bytes": lambda: with_extra_ids(ByteTokenizer(), EXTRA),
    "bpe": lambda: with_extra_ids(small_sentencepiece("bpe"), EXTRA),
    "unigram": lambda: with_extra_ids(small_sentencepiece("unigram"), EXTRA),
}
ALPHABET = (
    *("the", "cat", " sat", "  ", " ", "\t", "\n", "\r\n", "\0", "\x1a", "\u2581", "\u2581\u2581", "\u2028", "\ufeff"),
    *("\u00e9", "e\u0301", "\u0301", "\U0001f468\u200d\U0001f469", "\u4e2d\u6587", "\u0645\u0631\u062d", "\U0010ffff"),
    *("</s>", "<pad>", "<unk>", "<s>", "[R]", "[S]", "<0x0A>", "<0xE2>", "<", ">", "12", "3.5", "x" * 70, "Ab", "_"),
)


def tricky_texts(*more: str) -> list[str]:
    """Returns 1,000 texts."""
    draw = random.Random(0)
    made = ["".join(draw.choices([*ALPHABET, *more], k=draw.randint(1, 8))) for _ in range(1000 - len(HARD_TEXTS))]
    return [*HARD_TEXTS, *made]


def auto_tokenizer(folder, tokenizer, reading, model_type="llama"):
    files = huggingface_files(tokenizer, {}, reading)
    assert not files.differing
    folder.mkdir(exist_ok=True)
    for name, content in files.contents.items():
        (folder / name).write_bytes(content)
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    return transformers.AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("name", VOCABULARIES)
def test_ids_are_ours_for_every_class(name, tmp_path):
    tokenizer = VOCABULARIES[name]()
    names = ("<mask>", "<extra_id_0>", "<extra_id_4>")
    texts = tricky_texts(*names)
    ours = [tokenizer.encode(text).tolist() for text in texts]
    for model_type in CLASSES:
        theirs = auto_tokenizer(tmp_path / model_type, tokenizer, TextReading(), model_type)
        assert len(theirs) == tokenizer.info.size
        assert theirs(texts).input_ids == ours, model_type
    assert theirs.batch_decode(ours) == texts


@pytest.mark.parametrize("name", VOCABULARIES)
def test_texts_and_pairs_with_labels_are_framed_as_in_their_store(name, tmp_path):
    tokenizer = VOCABULARIES[name]()
    texts = [text for text in tricky_texts()[:200] if text]
    pairs = list(zip(texts, reversed(texts), strict=True))
    theirs = auto_tokenizer(tmp_path, tokenizer, TextReading(*ends(tokenizer), token_types=True))
    frame = framing(tokenizer, 2000)
    alone, together = theirs(texts), theirs([first for first, _ in pairs], [second for _, second in pairs])
    for encoded, rows in ((alone, [(text, None) for text in texts]), (together, pairs)):
        framed = list(frame(rows))
        assert not any(row.is_cut for row in framed)
        assert encoded.input_ids == [row.tokens.tolist() for row in framed]
        assert encoded.token_type_ids == [row.types.tolist() for row in framed]


@pytest.mark.parametrize("name", VOCABULARIES)
def test_an_exported_vocabulary_comes_back_as_ours(name, tmp_path):
    tokenizer = VOCABULARIES[name]()
    tokenizer.save(tmp_path)
    theirs = auto_tokenizer(tmp_path, tokenizer, TextReading())
    assert given_tokenizer(tmp_path).info == tokenizer.info
    theirs.save_pretrained(tmp_path)
    assert given_tokenizer(tmp_path).info == tokenizer.info
    theirs.add_tokens(["more"])
    theirs.save_pretrained(tmp_path)
    assert isinstance(given_tokenizer(tmp_path), HuggingFaceTokenizer)


def test_models_read_what_they_were_trained_on(tmp_path):
    tokenizer = VOCABULARIES["bpe"]()
    special = tokenizer.info.special
    ours = tokenizer.encode("the cat").tolist()
    decoder = auto_tokenizer(tmp_path, tokenizer, TextReading(before=(special["bos"], special["modes"]["S"])))
    assert decoder("the cat").input_ids == [0, special["modes"]["S"], *ours]
    assert decoder.decode(decoder("the cat").input_ids, skip_special_tokens=True) == "the cat"
    seq2seq = auto_tokenizer(tmp_path, tokenizer, TextReading(after=(special["eos"],), sentinels=True), "t5")
    first = special["sentinels"][0]
    assert seq2seq("the<extra_id_1></s>").input_ids == [
        *(*tokenizer.encode("the"), first - 1, *tokenizer.encode("</s>"), special["eos"])
    ]
    encoder = auto_tokenizer(tmp_path, tokenizer, TextReading(mask=True), "bert")
    assert encoder("the<mask></s><pad>[R]").input_ids == [
        *(*tokenizer.encode("the"), special["mask"], *tokenizer.encode("</s><pad>[R]"))
    ]
    assert (encoder.mask_token_id, encoder.pad_token_id, encoder.eos_token_id) == (special["mask"], 0, special["eos"])
    assert decoder("</s>[R]", split_special_tokens=False).input_ids[2:] == [special["eos"], special["modes"]["R"]]


def test_given_models_are_compared(tmp_path):
    """Of SentencePiece's normalizers the library lacks a few cases, which are told."""

    def files(**options):
        model = io.BytesIO()
        lines = iter(["the cat sat on a mat, " * 3, "caf\u00e9 (12)  a\u0301", "<ud> it is"] * 20)
        fixed = dict(vocab_size=70, hard_vocab_limit=False, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2)
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=lines, model_writer=model, **fixed | options)
        tokenizer = SentencePieceTokenizer(model.getvalue(), "given")
        return huggingface_files(tokenizer, {}, TextReading())

    for kind in ("unigram", "bpe", "char"):
        for dummy in (True, False):
            for extra in (True, False):
                options = dict(add_dummy_prefix=dummy, remove_extra_whitespaces=extra)
                found = files(model_type=kind, normalization_rule_name="identity", **options)
                assert not found.differing, (kind, options)
    assert files(normalization_rule_name="nmt_nfkc").tried > 1000
    with pytest.raises(UserError, match="texts tried would get other ids"):
        files(user_defined_symbols=["<ud>"])
    with pytest.raises(UserError, match="type WORD"):
        files(model_type="word")


def test_a_given_tokenizer_gets_its_extra_ids(tmp_path):
    base = huggingface_files(ByteTokenizer(), {}, TextReading(before=(0,))).contents
    for name, content in base.items():
        (tmp_path / name).write_bytes(content)
    given = HuggingFaceTokenizer.load(tmp_path)
    assert huggingface_files(given, base, TextReading(before=(0,))).contents == base
    extended = with_extra_ids(given, EXTRA)
    files = huggingface_files(extended, base, TextReading(after=(1,)))
    assert not files.differing
    for name, content in files.contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5"}))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert theirs("ab").input_ids == [100, 101, 1]
    assert theirs.convert_tokens_to_ids("<extra_id_0>") == extended.info.special["sentinels"][0]


MODELS = {
    "text-generation": ("CausalLM", "gpt2", dict(num_decoder_layers=1)),
    "fill-mask": ("MaskedLM", "bert", dict(num_encoder_layers=1)),
    "text2text": ("SpanCorruption", "t5", dict(num_encoder_layers=1, num_decoder_layers=1)),
}


@pytest.mark.slow
@pytest.mark.parametrize("task", MODELS)
def test_an_exported_model_reads_and_writes_text(task, tmp_path):
    """A model of bytes with random parameters: what transformers makes of a text is what `generate` does."""
    pytest.importorskip("torch")
    tokenizer = VOCABULARIES["bytes"]()
    objective, family, layers = MODELS[task]
    origin = exports.Origin({"class": objective}, dataclasses.asdict(tokenizer.info), 7, {"run": "tiny"})
    sizes = dict(vocab_size=tokenizer.info.size, d_model=16, d_ff=32, num_heads=2, head_dim=8)
    config = dataclasses.replace(
        published(family, next(size for one, size in SIZES if one == family)), **sizes, **layers
    )
    stored, hf = exports.export(tmp_path, config, origin), tmp_path / "hf"
    assert main(["export", f"--workdir={stored}", f"--output={hf}", "--format=huggingface"]) == 0
    if task == "text2text":
        tokens = transformers.AutoTokenizer.from_pretrained(hf)("the <extra_id_0>").input_ids
        assert tokens == [*tokenizer.encode("the "), tokenizer.info.special["sentinels"][0], 1]
        return
    pipeline = transformers.pipeline(task, str(hf), device="cpu")
    if task == "fill-mask":
        assert len(pipeline("the <mask>at")) == 5
        return
    result = tmp_path / "result.json"
    options = ["--max_new_tokens=8", "--temperature=0", "--ignore_eos"]
    assert main(["generate", f"--model={stored}", "--prompt=the cat", *options, f"--json={result}"]) == 0
    ours = json.loads(result.read_text())["completions"][0]["tokens"]
    theirs = pipeline("the cat", max_new_tokens=8, do_sample=False, return_tensors=True, eos_token_id=None)
    assert theirs[0]["generated_token_ids"][8:] == ours
