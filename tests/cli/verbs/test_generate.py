"""`triarch generate`: prompts in, text out, for each architecture; and text that is never half a character."""

from __future__ import annotations

import dataclasses
import functools
import io
import json

import numpy as np
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

import tokenizers
from tests.interchange import exports
from tests.models import tiny
from tokenizers import decoders
from triarch.cli.main import main
from triarch.cli.views.text_stream import TextStream
from triarch.decoding import Conventions, GenerationSettings, fill_masks, generate
from triarch.decoding.prompt_texts import encode
from triarch.interchange import Origin, write_export
from triarch.loading import load
from triarch.objectives import SpecialTokens
from triarch.tokenizers import ByteTokenizer, ExtraIds, HuggingFaceTokenizer, with_extra_ids

TOKENIZER = with_extra_ids(ByteTokenizer(), ExtraIds(modes=True, sentinels=4))
# Layers are compiled one by one: as few as can be.
ONE_EACH = dataclasses.replace(tiny.REDLLM, num_encoder_layers=1, num_decoder_layers=1)
MODELS = {
    "decoder": (dataclasses.replace(tiny.DECLLM, num_decoder_layers=1), {"class": "CausalLM"}),
    "both": (ONE_EACH, {"class": "PrefixLM", "append_eos": True, "mode": "S"}),
    "encoder": (dataclasses.replace(tiny.ETTIN_ENCODER, num_encoder_layers=1), {"class": "MaskedLM"}),
    "imported": (tiny.GPT2, None),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for name, (config, objective) in MODELS.items():
        config = dataclasses.replace(config, vocab_size=TOKENIZER.info.size)
        origin = Origin(objective=objective, vocabulary=dataclasses.asdict(TOKENIZER.info))
        write_export(folder / name, nnx.merge(*tiny.split(config)), origin)
    return folder


loaded = functools.cache(load)


@pytest.fixture(autouse=True)
def _loaded_once(monkeypatch):
    """The verb and its tests share a model, and with it what was compiled."""
    monkeypatch.setattr("triarch.loading.load", lambda path, step=None: loaded(path))


def run(*flags):
    return main(["generate", *flags])


def typed(content):
    return io.TextIOWrapper(io.BytesIO(content))


def answers(path):
    return json.loads(path.read_text())["completions"]


def test_one_prompt_is_continued_as_the_model_was_trained(models, tmp_path, capsys):
    assert run(f"--model={models / 'decoder'}", "--prompt=ab é", "--max_new_tokens=9", f"--json={tmp_path / 'o'}") == 0
    (answer,) = answers(tmp_path / "o")
    ids = [0, *TOKENIZER.encode("ab é").tolist()]
    settings = GenerationSettings(max_new_tokens=9, stop_tokens=((1,),))
    assert answer["tokens"] == generate(loaded(models / "decoder"), [ids], settings)[0]
    assert answer["text"] == TOKENIZER.decode(answer["tokens"])
    assert capsys.readouterr().out.rstrip("\n").isprintable()


def test_prompts_behind_an_encoder_from_a_file(models, tmp_path):
    file = tmp_path / "prompts.jsonl"
    file.write_bytes('{"prompt": "abc <extra_id_1>"}\r\n\n{"prompt": "x\u2028y"}\n'.encode())
    flags = ["--num_beams=2", "--max_new_tokens=5", f"--json={tmp_path / 'o'}"]
    assert run(f"--model={models / 'both'}", f"--prompts_file={file}", *flags) == 0
    special = TOKENIZER.info.special
    first = [special["modes"]["S"], *TOKENIZER.encode("abc ").tolist(), special["sentinels"][0] - 1, 1]
    second = [special["modes"]["S"], *TOKENIZER.encode("x\u2028y").tolist(), 1]
    settings = GenerationSettings(max_new_tokens=5, num_beams=2, stop_tokens=((1,),))
    expected = generate(loaded(models / "both"), [first, second], settings, start=(0,))
    assert [answer["tokens"] for answer in answers(tmp_path / "o")] == expected


def test_masks_of_a_prompt_are_filled(models, tmp_path, capsys):
    assert run(f"--model={models / 'encoder'}", "--prompt=a [MASK]<mask>c", f"--json={tmp_path / 'o'}") == 0
    mask = TOKENIZER.info.special["mask"]
    text = [*TOKENIZER.encode("a ").tolist(), mask, mask, *TOKENIZER.encode("c").tolist()]
    (answer,) = answers(tmp_path / "o")
    assert answer["tokens"] == fill_masks(loaded(models / "encoder"), [text], mask, GenerationSettings())[0][2:4]


def test_standard_input_and_a_stop_text(models, tmp_path, monkeypatch):
    flags = [f"--model={models / 'decoder'}", "--max_new_tokens=8", "--temperature=1.0", f"--json={tmp_path / 'o'}"]
    monkeypatch.setattr("sys.stdin", typed(b"one\n\ntwo\n"))
    assert run(*flags, "--ignore_eos") == 0
    whole = answers(tmp_path / "o")
    assert [answer["prompt"] for answer in whole] == ["one", "two"]
    stop = next(letter for letter in whole[0]["text"][1:] if letter.isascii() and letter.isprintable())
    monkeypatch.setattr("sys.stdin", typed(b"one\ntwo\n"))
    assert run(*flags, "--ignore_eos", f"--stop={stop}") == 0
    cut = answers(tmp_path / "o")
    assert cut[0]["text"] == whole[0]["text"].split(stop)[0] and cut[0]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("config", "frame", "start", "around"),
    [
        (tiny.GPT2, None, (), [5, 6]),
        (tiny.LLAMA3, ((8,), (9,)), (), [8, 5, 6]),
        (tiny.BART, ((8,), (9,)), (1,), [8, 5, 6, 9]),
        (tiny.T5, None, (1,), [5, 6, 2]),
        (tiny.BERT, ((8,), (9,)), (), [8, 5, 6, 9]),
        (tiny.BERT, None, (), [1, 5, 6, 2]),
    ],
)
def test_what_an_imported_model_is_given(config, frame, start, around):
    """What its tokenizer puts there, whatever is said of its training; by architecture where it says nothing."""
    name = "MaskedLM" if config.architecture == "encoder-only" else "CausalLM"
    objective = None if config.architecture == "encoder-decoder" else {"class": name}
    origin = Origin(objective, exports.VOCABULARY, source={"huggingface": "Name", "config": {}})
    conventions = Conventions.of(exports.loaded(config, origin), tokenizer_frame=frame)
    assert conventions.decoder_start == start and conventions.around(np.array([5, 6])) == around


def test_a_mask_takes_the_space_before_it():
    """As in the library: a masked word's token has the space within."""
    folder_special = {"mask_token": "[MASK]", "eos_token": "[SEP]"}
    library = tokenizers.Tokenizer(tokenizers.models.BPE({letter: i for i, letter in enumerate("ab\u0120.")}, []))
    library.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.add_special_tokens([tokenizers.AddedToken("[MASK]", lstrip=True), "[SEP]"])
    files = {"tokenizer.json": library.to_str().encode(), "tokenizer_config.json": json.dumps(folder_special).encode()}
    ours = HuggingFaceTokenizer(files, "tiny")
    special = SpecialTokens.from_manifest(ours.info.special)
    for text in ("a b [MASK].", "[MASK] b", "a [MASK] [MASK]"):
        assert encode(text, ours, special).tolist() == library.encode(text).ids


def test_a_mistake_is_told_before_anything_is_written(models, capsys):
    prompts = ["--prompt=a", "--prompt=b", "--prompt=" + 60 * "c"]
    flags = [f"--model={models / 'imported'}", "--batch_size=1", "--max_new_tokens=2"]
    assert run(*flags, *prompts) == 1
    shown = capsys.readouterr()
    assert "prompt 3 has 60 tokens" in shown.err and not shown.out


def test_a_prompt_does_not_steer_the_terminal(models, capsys):
    assert run(f"--model={models / 'decoder'}", "--prompt=a\x1b[2Jb", "--prompt=b", "--max_new_tokens=1") == 0
    assert "==> a\ufffd[2Jb\n" in capsys.readouterr().out


MISTAKES = {
    "--prompt number 1 is empty": ("decoder", ["--prompt= "]),
    "temperature=-1.0: expected a number from 0 on": ("decoder", ["--prompt=a", "--temperature=-1"]),
    "num_beams=0: expected a whole number from 1 on": ("decoder", ["--prompt=a", "--num_beams=0"]),
    "is not UTF-8 text: invalid start byte at byte 2": ("decoder", ["--prompts_file={}/bytes.txt"]),
    "expected UTF-8 without NUL characters": ("decoder", ["--prompt=a\udcff"]),
    "line 1: not read: half a character": ("decoder", ["--prompts_file={}/half.jsonl"]),
    "has 4 sentinels": ("decoder", ["--prompt=<extra_id_4>"]),
    "did you mean": ("decoder", ["--prompt=a", "--mode=s"]),
    "--stop=: expected a value": ("decoder", ["--prompt=a", "--stop="]),
    "stop texts have 600 bytes together, at most 511": ("decoder", ["--prompt=a", "--stop=" + 600 * "a"]),
    "has 60 tokens, the model has positions for 40": ("imported", ["--prompt=" + 60 * "a"]),
    "line 1: not JSON": ("decoder", ["--prompts_file={}/broken.jsonl"]),
    'line 1: expected an object with a text under "prompt"': ("decoder", ["--prompts_file={}/other.jsonl"]),
    "exclude each other": ("decoder", ["--prompt=a", "--prompts_file={}/other.jsonl"]),
    "cannot be read: No such file": ("decoder", ["--prompts_file={}/none.txt"]),
    "give them in two calls": ("encoder", ["--prompt=a [MASK]", "--prompt=b"]),
    "no such run or export": ("decoders", ["--prompt=a"]),
}


@pytest.mark.parametrize("message", MISTAKES)
def test_a_mistake_is_one_line(message, models, tmp_path, capsys):
    (tmp_path / "broken.jsonl").write_text("{prompt\n")
    (tmp_path / "other.jsonl").write_text('{"text": "a"}\n')
    (tmp_path / "half.jsonl").write_text('{"prompt": "\\ud800"}\n')
    (tmp_path / "bytes.txt").write_bytes(b"ab\xff\n")
    model, flags = MISTAKES[message]
    assert run(f"--model={models / model}", *(flag.format(tmp_path) for flag in flags)) == 1
    error = capsys.readouterr().err
    assert message in error or (message == "did you mean" and "one of: R, S, X" in error)
    assert error.count("\n") == 1


@given(st.text(max_size=12), st.lists(st.text(min_size=1, max_size=3), max_size=2), st.data())
def test_a_stream_says_what_the_whole_text_says(text, stops, data):
    """However the bytes come: no half a character, nothing of a stop text, nothing unsaid at the end."""
    ids = ByteTokenizer().encode(text).tolist()
    stream = TextStream(ByteTokenizer().decode, ByteTokenizer().encode("né").tolist(), stops)
    said = ""
    while ids and not stream.stopped:
        count = data.draw(st.integers(1, len(ids)))
        piece = stream.push(ids[:count])
        assert "\ufffd" not in piece or "\ufffd" in text
        said += piece
        ids = ids[count:]
    said += stream.end()
    ends = [text.find(stop) for stop in stops if stop in text]
    assert said == stream.text == (text[: min(ends)] if ends else text)


@given(st.lists(st.integers(0, 260), max_size=12), st.text(max_size=3))
def test_a_stream_ends_as_the_whole_text_whatever_the_decoder(ids, prompt):
    """A decoder that takes back all bytes in a row once one is no character, as those of Llama do."""
    names = {f"<0x{byte:02X}>": byte for byte in range(256)} | {
        "a": 256,
        "\u2581b": 257,
        "\u2581": 258,
        ",": 259,
        "c": 260,
    }
    library = tokenizers.Tokenizer(tokenizers.models.BPE(names, [], byte_fallback=True))
    replace, fallback = decoders.Replace("\u2581", " "), decoders.ByteFallback()
    library.decoder = decoders.Sequence([replace, fallback, decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    context = list(prompt.encode())
    stream = TextStream(library.decode, context, probes=[0xE2])
    said = "".join(stream.push([index]) for index in ids)
    assert "\ufffd" not in said[:1] or len(ids) > 1
    said += stream.end()
    before, whole = library.decode(context), library.decode([*context, *ids])
    assert said == stream.text == (whole[len(before) :] if whole.startswith(before) else library.decode(ids))
