"""`triarch inspect` says where examples come from, shows mixtures, and names what is empty."""

import dataclasses
import json

import pytest

from triarch.cli.main import main
from triarch.data.manifest import FILE_NAME, Split
from triarch.data.store import TokenStore

GIN = """
RunConfig.objective = @CausalLM()
RunConfig.batch_size = 8
DataConfig.store = @StoreMixture()
StoreMixture.stores = ({stores})
StoreMixture.phases = (@one/MixturePhase(), @two/MixturePhase())
one/MixturePhase.weights = (3, 1)
two/MixturePhase.start = 5
two/MixturePhase.weights = (0, 1)
"""


@pytest.fixture
def prepared(tmp_path, capsys):
    def make(name, *flags):
        corpus = tmp_path / f"{name}.jsonl"
        lines = [{"inputs": f"{n} + {n} [b]?", "text": f"{name} says {2 * n}"} for n in range(60)]
        corpus.write_text("\n".join(map(json.dumps, lines)))
        arguments = ["prepare", "--task=files", f"--files={corpus}", f"--output={tmp_path / name}", "--workers=1"]
        assert main([*arguments, "--vocabulary=bytes", "--window=32", "--validation_fraction=0", *flags]) == 0
        capsys.readouterr()
        return tmp_path / name, corpus

    return make


def _inspect(tmp_path, *arguments):
    assert main(["inspect", *map(str, arguments), f"--json={tmp_path / 'result.json'}"]) == 0
    return json.loads((tmp_path / "result.json").read_text())


@pytest.mark.parametrize(
    ("layout", "first"),
    [
        ("windows", ["1 bytes 0-48: tokens 0-13 of 13", "2 bytes 49-97: tokens 0-13 of 13"]),
        ("packed", ["1 bytes 0-48: tokens 0-13 of 13", "2 bytes 49-97: tokens 0-13 of 13"]),
        ("pairs", ["1 bytes 0-48: inputs, tokens 0-8 of 11", "1 bytes 0-48: targets, tokens 0-13 of 13"]),
        ("packed_pairs", ["1 bytes 0-48: inputs, tokens 0-8 of 11", "1 bytes 0-48: targets, tokens 0-13 of 13"]),
    ],
)
def test_an_example_says_where_it_comes_from(tmp_path, prepared, capsys, layout, first):
    flags = ["--inputs_field=inputs", "--max_inputs=8", "--max_targets=24"] if "pairs" in layout else []
    store, corpus = prepared("first", f"--layout={layout}", *flags)
    result = _inspect(tmp_path, store, "--examples=2", "--first=0")
    shown = capsys.readouterr().out
    for line in first:
        assert f"from {corpus}:{line}\n" in shown
    documents = result["examples"][0]["documents"]
    assert [document["record"] for document in documents][:2] == [int(line[0]) for line in first]
    assert {document["source"] for document in documents} == {str(corpus)}


def test_a_batch_of_a_mixture(tmp_path, prepared, capsys):
    folders = [str(prepared(name)[0]) for name in ("first", "other")]
    (tmp_path / "mixture.gin").write_text(GIN.format(stores=", ".join(map(repr, folders))))
    result = _inspect(tmp_path, f"--gin_file={tmp_path / 'mixture.gin'}", "--examples=8")
    shown = capsys.readouterr().out
    for line in (f"{folders[0]}: files", f"{folders[1]}: files", f"from step 0: 75.00% {folders[0]}, 25.00%"):
        assert line in shown
    assert f"from step 5: 100.00% {folders[1]}\n" in shown and shown.count("decoder predicts") == 8
    assert sorted(row["store"] for row in result["rows"]) == sorted([folders[0]] * 6 + [folders[1]] * 2)
    for row in result["rows"]:
        name = row["store"].rsplit("/", 1)[-1]
        assert {document["source"] for document in row["documents"]} == {f"{row['store']}.jsonl"} and name in shown
        tokens = TokenStore.open(row["store"]).split("train")[row["index"]]["tokens"]
        assert row["features"]["decoder_target_tokens"] == tokens.tolist()
    assert set(result["stores"]) == set(folders) and len(result["phases"]) == 2
    later = _inspect(tmp_path, f"--gin_file={tmp_path / 'mixture.gin'}", "--examples=8", "--step=5")
    assert {row["store"] for row in later["rows"]} == {folders[1]}
    # One of its stores by itself.
    alone = _inspect(tmp_path, folders[1], f"--gin_file={tmp_path / 'mixture.gin'}")
    assert {row["store"] for row in alone["rows"]} == {folders[1]}


def test_stores_that_do_not_fit_are_named(tmp_path, prepared, capsys):
    folders = [str(prepared(name, *flags)[0]) for name, *flags in (("first",), ("other", "--window=16"))]
    (tmp_path / "mixture.gin").write_text(GIN.format(stores=", ".join(map(repr, folders))))
    assert main(["inspect", f"--gin_file={tmp_path / 'mixture.gin'}"]) == 1
    assert f"{folders[1]}: its windows are 16 tokens long, those of {folders[0]} 32" in capsys.readouterr().err


def test_a_store_of_old_is_shown(tmp_path, prepared, capsys):
    store, corpus = prepared("first")
    manifest = dataclasses.replace(TokenStore.open(store).manifest, provenance=None)
    (store / FILE_NAME).write_text(manifest.to_json())
    assert main(["inspect", str(store)]) == 0
    assert f"from {corpus}" not in capsys.readouterr().out


def test_an_empty_split_is_named(tmp_path, prepared, capsys):
    store, _ = prepared("first")
    manifest = TokenStore.open(store).manifest
    empty = Split(examples=0, documents=0, tokens=0, dropped_tokens=0, bytes=0, files=())
    manifest = dataclasses.replace(manifest, splits={**manifest.splits, "validation": empty})
    (store / FILE_NAME).write_text(manifest.to_json())
    (tmp_path / "causal.gin").write_text("RunConfig.objective = @CausalLM()")
    assert main(["inspect", str(store)]) == 0
    assert "  validation: empty\n" in capsys.readouterr().out
    for flags in ([], [f"--gin_file={tmp_path / 'causal.gin'}"]):
        assert main(["inspect", str(store), "--split=validation", *flags]) == 1
        assert f"{store}: split 'validation' is empty" in capsys.readouterr().err


def test_nothing_to_inspect(tmp_path, capsys):
    assert main(["inspect"]) == 1
    assert "name the folder of a store, or give a --gin_file" in capsys.readouterr().err
    (tmp_path / "causal.gin").write_text("RunConfig.objective = @CausalLM()")
    assert main(["inspect", f"--gin_file={tmp_path / 'causal.gin'}"]) == 1
    assert "name the folder of a store, or give a --gin_file" in capsys.readouterr().err


def test_checking_finds_a_flipped_bit_in_what_tells_the_bytes_of_tokens(prepared, capsys):
    store, _ = prepared("first")
    assert main(["inspect", str(store), "--check"]) == 0
    path = store / "token_bytes.npy"
    content = bytearray(path.read_bytes())
    content[-200] ^= 4
    path.write_bytes(content)
    assert main(["inspect", str(store), "--check"]) == 1
    assert "token_bytes.npy: not the bytes of the vocabulary's tokens" in capsys.readouterr().err
