"""`triarch prepare` and `triarch inspect` as a user types them."""

import json
import re
import subprocess
import sys

import pytest

from tests.tokenizers import huggingface
from triarch.cli.main import main
from triarch.data.store import TokenStore


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.jsonl"
    lines = (json.dumps({"body": f"document {index}\nof [bold]many[/bold] lines"}) for index in range(200))
    path.write_text("\n".join(lines))
    return path


def _prepare(tmp_path, corpus, *flags):
    output = tmp_path / "stores" / "made"
    arguments = ["prepare", "--task=files", f"--files={corpus}", "--text_field=body", f"--output={output}"]
    return main([*arguments, "--window=32", "--workers=1", *flags]), output


def test_from_text_to_windows(tmp_path, corpus, capsys):
    result = tmp_path / "result.json"
    status, output = _prepare(tmp_path, corpus, "--vocabulary=bytes", f"--json={result}")
    assert status == 0
    assert "train: " in capsys.readouterr().out
    written = json.loads(result.read_text())
    assert written["store"] == str(output)
    manifest = TokenStore.open(output).manifest
    assert written["manifest"]["splits"]["train"]["tokens"] == manifest.splits["train"].tokens
    assert sum(split.documents for split in manifest.splits.values()) == 200

    assert main(["inspect", str(output), "--examples=2", f"--json={result}"]) == 0
    shown = capsys.readouterr().out
    assert "bytes, 260 ids (" in shown and "[end of document]" in shown and "[bold]many[/bold]" in shown
    examples = json.loads(result.read_text())["examples"]
    assert [example["index"] for example in examples] == [0, 1]
    assert examples[0]["text"].startswith("document 0\nof [bold]")
    assert len(examples[0]["tokens"]) == 32


def test_vocabulary_from_another_store(tmp_path, corpus):
    status, output = _prepare(tmp_path, corpus, "--vocabulary_size=300", "--validation_fraction=0")
    assert status == 0
    other = tmp_path / "other"
    arguments = ["prepare", "--task=files", f"--files={corpus}", "--text_field=body", f"--output={other}"]
    assert main([*arguments, "--window=16", "--workers=1", f"--vocabulary_from={output}"]) == 0
    assert TokenStore.open(other).manifest.vocabulary == TokenStore.open(output).manifest.vocabulary


def test_a_hugging_face_vocabulary_with_sentinels(tmp_path, corpus, capsys):
    folder = huggingface.write_folder(tmp_path / "model", "llama3")
    status, output = _prepare(tmp_path, corpus, f"--vocabulary={folder}", "--add_sentinels=100", "--add_modes")
    assert status == 0
    size = TokenStore.open(output).manifest.vocabulary.size
    shown = capsys.readouterr().out
    assert f"mode X {size - 101}" in shown and f"100 sentinels {size - 1} to {size - 100}" in shown
    assert main(["inspect", str(output), "--examples=1"]) == 0
    assert "document 0\nof [bold]many" in capsys.readouterr().out
    assert _prepare(tmp_path, corpus, "--vocabulary=bytes", "--add_mask", "--overwrite")[0] == 1
    assert "has a mask already, id 259: leave out --add_mask" in capsys.readouterr().err


def test_text_is_tokenized_without_tensorflow(tmp_path, corpus):
    program = (
        "import sys; from triarch.cli.main import main; status = main(sys.argv[1:]);"
        "sys.exit(status or 2 * bool({'tensorflow', 'seqio'} & set(sys.modules)))"
    )
    arguments = ["prepare", "--task=files", f"--files={corpus}", "--text_field=body", f"--output={tmp_path / 's'}"]
    arguments += ["--window=32", "--workers=1", "--vocabulary=bytes"]
    subprocess.run([sys.executable, "-c", program, *arguments], check=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prepare", "--task=files", "--output=x"], "--task=files: give the text with --files=PATTERN"),
        (["prepare", "--task=stdlib_code", "--output=x", "--files=a.txt"], "--files is for --task=files"),
        (["prepare", "--task=stdlib_cod", "--output=x"], "unknown task 'stdlib_cod' (did you mean 'stdlib_code'?)"),
        (["prepare", "--task=files", "--files=none.txt", "--output=x"], "--files=none.txt: no such file"),
        (
            ["prepare", "--task=files", "--files=*.jsonl", "--output=x"],
            "--files=*.jsonl: no such file, and nothing mat",
        ),
        (["prepare", "--task=tfds:none", "--output=x"], "tfds:none: no such data set in"),
        (["inspect", "nowhere"], "nowhere: no such token store"),
    ],
)
def test_mistakes_are_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_bad_line_of_a_file(tmp_path, corpus, capsys):
    with corpus.open("a") as file:
        file.write('\n{"body": ')
    status, output = _prepare(tmp_path, corpus)
    assert status == 1 and f"{corpus}:201: not JSON" in capsys.readouterr().err
    assert not output.exists()


def test_bad_lines_are_counted_and_shown(tmp_path, corpus, capsys):
    with corpus.open("a") as file:
        file.write('\n{"body": \n{"body": ""}\n{"body": 1}\n{"body": 2}\n')
    status, output = _prepare(tmp_path, corpus, "--vocabulary=bytes", "--skip_bad_records")
    assert status == 0
    lines = [
        f"  left out: 1 empty ({corpus}:202)",
        f"  left out: 1 not JSON ({corpus}:201)",
        f"  left out: 2 not a string ({corpus}:203, {corpus}:204)",
    ]
    assert "\n".join(lines) in capsys.readouterr().out
    assert main(["inspect", str(output)]) == 0
    assert "\n".join(lines) in capsys.readouterr().out
    left_out = TokenStore.open(output).manifest.source["left_out"]
    assert left_out["not a string"] == {"count": 2, "first": [f"{corpus}:203", f"{corpus}:204"]}


def test_filters_are_counted_and_shown(tmp_path, corpus, capsys):
    lines = corpus.read_text()
    corpus.write_text(f'{lines}\n{lines}\n{{"body": "x"}}\n{{"body": "{"x" * 100}"}}')
    flags = ["--vocabulary=bytes", "--deduplicate", "--min_characters=2", "--max_characters=99"]
    status, output = _prepare(tmp_path, corpus, *flags)
    assert status == 0 and main(["inspect", str(output)]) == 0
    shown = capsys.readouterr().out
    for line in (
        f"200 exact duplicate ({corpus}:201, {corpus}:202, {corpus}:203, ...)",
        f"1 longer than 99 characters ({corpus}:402)",
        f"1 shorter than 2 characters ({corpus}:401)",
    ):
        assert shown.count(f"  left out: {line}\n") == 2
    assert sum(split.documents for split in TokenStore.open(output).manifest.splits.values()) == 200


def test_packed_documents_are_shown_whole(tmp_path, corpus, capsys):
    folder = huggingface.write_folder(tmp_path / "model", "gpt2")
    status, output = _prepare(tmp_path, corpus, f"--vocabulary={folder}", "--layout=packed", "--window=100")
    made = r"train: .* rows in 1 files, \d\.\d documents each, \d+\.\d% padding"
    assert status == 0 and re.search(made, capsys.readouterr().out)
    assert main(["inspect", str(output), "--examples=1"]) == 0
    shown = capsys.readouterr().out
    # GPT-2 pads with its end of document, which is no end of one here.
    assert "rows of whole documents of 100 tokens" in shown and "document 0\nof [bold]many" in shown
    assert shown.count("[end of document]") == shown.count("lines")


@pytest.mark.parametrize(
    ("layout", "made", "shown"),
    [
        ("pairs", "pairs, at most 6 tokens of inputs and 9 tokens of targets (uint16)", ""),
        (
            "packed_pairs",
            "rows of packed pairs, 6 tokens of inputs and 9 tokens of targets (uint16)",
            "10 + [end of inputs]",
        ),
    ],
)
def test_pairs_from_the_command_line(tmp_path, capsys, layout, made, shown):
    corpus = tmp_path / "pairs.jsonl"
    corpus.write_text("".join(f'{{"inputs": "{n} + {n}", "body": "{2 * n}"}}\n' for n in range(50)))
    flags = ["--vocabulary=bytes", f"--layout={layout}", "--inputs_field=inputs", "--max_inputs=6", "--max_targets=9"]
    status, output = _prepare(tmp_path, corpus, *flags, "--validation_fraction=0")
    assert status == 0 and "40 documents were cut to fit {'inputs': 6, 'targets': 9}" in capsys.readouterr().out
    assert main(["inspect", str(output), "--examples=50"]) == 0
    printed = capsys.readouterr().out
    assert made in printed and "0 + 0[end of inputs]0[end of targets]" in printed and shown in printed
    assert ("50 pairs in 1 files" if layout == "pairs" else "rows in 1 files, 1.0 documents each") in printed
    assert _prepare(tmp_path, corpus, "--vocabulary=bytes", f"--layout={layout}", "--overwrite")[0] == 1
    assert "the documents of files have no inputs: name their field with --inputs_field" in capsys.readouterr().err


def test_a_published_corpus_in_its_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("TRIARCH_DATA_DIR", raising=False)
    output = tmp_path / "store"
    arguments = ["prepare", "--task=redpajama_arxiv", f"--output={output}", "--vocabulary=bytes", "--window=8"]
    arguments += ["--workers=1", "--validation_fraction=0"]
    assert main(arguments) == 1
    assert "expected at DATA_DIR/redpajama_v1/arxiv/*.jsonl*" in capsys.readouterr().err
    arguments.append(f"--data_dir={tmp_path}")
    assert main(arguments) == 1
    assert f"{tmp_path}/redpajama_v1/arxiv/*.jsonl*: no such files: download 'arxiv'" in capsys.readouterr().err
    (tmp_path / "redpajama_v1" / "arxiv").mkdir(parents=True)
    (tmp_path / "redpajama_v1" / "arxiv" / "arxiv_0.jsonl").write_text('{"text": "a paper", "meta": {}}\n' * 3)
    assert main(arguments) == 0
    assert TokenStore.open(output).manifest.splits["train"].documents == 3


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--split=trian", "did you mean 'train'"),
        ("--first=100000", "holds examples 0 to"),
        ("--examples=-1", "0 or more"),
    ],
)
def test_inspecting_what_is_not_there(tmp_path, corpus, capsys, flag, message):
    _, output = _prepare(tmp_path, corpus, "--vocabulary=bytes")
    assert main(["inspect", str(output), flag]) == 1
    assert message in capsys.readouterr().err
