"""Beam writes the store that is written without it, byte for byte."""

import gzip
import json
import os

import numpy as np
import pytest

from tests.prepare.preparing import contents
from tests.tokenizers.texts import Documents
from triarch.cli.main import main
from triarch.errors import UserError
from triarch.prepare.corpora.documents import LeftOut
from triarch.prepare.corpora.files import Files
from triarch.prepare.corpora.selection import Filters
from triarch.prepare.pipeline import VocabularyChoice, prepare

pytest.importorskip("apache_beam")

from triarch.prepare.beam import Beam, read_bits, write_bits
from triarch.prepare.shards import tokenize_shards

DIRECT = Beam(("runner=DirectRunner",))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """JSON lines of inputs and targets in five files of different kinds, among them nothing, bad lines and copies."""
    folder = tmp_path_factory.mktemp("files")
    documents = [document.text for document in Documents(100).documents()]
    lines = [json.dumps({"inputs": text[:9], "targets": text}) + "\n" for text in documents]
    (folder / "a.jsonl").write_text("".join(lines[:40]))
    (folder / "b.jsonl.gz").write_bytes(gzip.compress("".join(lines[40:60]).encode()))
    (folder / "c.jsonl").write_text("")
    (folder / "d.jsonl").write_text("{}\n" + "".join(lines[60:70]) + "no JSON\n")
    # Some again, of this file and of others.
    (folder / "e.jsonl").write_text("".join(lines[70:] + lines[90:] + lines[38:42]))
    return folder


def _corpus(folder, **options):
    return Files.matching([str(folder)], text_field="targets", inputs_field="inputs", skip_bad_records=True, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"layout": "windows"},
        {"layout": "packed"},
        {"layout": "pairs", "lengths": {"inputs": 16, "targets": 100}},
        {"layout": "packed_pairs", "lengths": {"inputs": 40, "targets": 300}},
        {"layout": "windows", "vocabulary": VocabularyChoice(size=420), "filters": Filters(20, 500, True)},
        {"layout": "packed", "filters": Filters(deduplicate=True)},
    ],
    ids=lambda options: "-".join([options["layout"], *list(options)[2:]]),
)
def test_the_same_bytes(tmp_path, files, options):
    options = {"vocabulary": VocabularyChoice("bytes"), **options}
    vocabulary = options.pop("vocabulary")

    def run(name, **more):
        return prepare(_corpus(files), "test", tmp_path / name, vocabulary, 64, 0.2, **options, **more)

    alone = run("alone", workers=1)
    left_out = alone.manifest.source["left_out"]
    assert (left_out["field missing"]["count"], left_out["not JSON"]["count"]) == (1, 1)
    if "filters" in options:
        assert left_out["exact duplicate"]["count"] >= 4
    assert contents(run("beam", beam=DIRECT).path) == contents(alone.path)
    elsewhere = tmp_path / "shared"
    assert contents(run("shared_beam", beam=Beam(DIRECT.options, str(elsewhere))).path) == contents(alone.path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone", "beam", "shared", "shared_beam"]
    assert list(elsewhere.iterdir()) == []


def test_a_corpus_that_is_no_files(tmp_path):
    for name, beam in (("alone", None), ("beam", DIRECT)):
        prepare(Documents(), "test", tmp_path / name, VocabularyChoice("bytes"), 64, beam=beam, workers=1)
    assert contents(tmp_path / "beam") == contents(tmp_path / "alone")


def test_bad_text_is_the_same_line_and_leaves_nothing(tmp_path, files):
    corpus = Files.matching([str(files)], text_field="targets")
    messages = []
    for beam in (None, DIRECT):
        with pytest.raises(UserError, match=r"d\.jsonl:1: no field 'targets'") as error:
            prepare(corpus, "test", tmp_path / "store", VocabularyChoice("bytes"), 64, beam=beam)
        messages.append(str(error.value))
    assert messages[0] == messages[1]
    assert list(tmp_path.iterdir()) == []


class _Marking:
    """Shards that leave a line for each time they are read."""

    def __init__(self, log, fail=()):
        self._log, self._fail = log, fail

    def __call__(self, shard):
        with open(self._log, "a") as log:
            log.write(f"{shard}\n")
        if shard in self._fail:
            raise UserError(f"{shard} cannot be read")
        return iter([shard.encode(), b"", shard.encode() * 3])


def test_shards_that_are_done_are_not_done_again(tmp_path):
    log, folder = tmp_path / "log", str(tmp_path / "folder")
    with pytest.raises(UserError, match=r"^b cannot be read$"):
        DIRECT.run(_Marking(str(log), fail="bd"), list("abcd"), folder)
    assert sorted(log.read_text().split()) == list("abcd")
    log.write_text("")
    shards = DIRECT.run(_Marking(str(log)), list("abcd"), folder)
    assert [list(blocks) for blocks in shards] == [[shard, b"", shard * 3] for shard in (b"a", b"b", b"c", b"d")]
    assert sorted(log.read_text().split()) == ["b", "d"]
    assert all(name.endswith(".blocks") for name in os.listdir(folder))


def test_a_file_that_was_cut_short(tmp_path):
    folder = tmp_path / "folder"
    work = _Marking(str(tmp_path / "log"))
    DIRECT.run(work, ["a"], str(folder))
    path = folder / "shard-000000.blocks"
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match="is cut short"):
            list(*DIRECT.run(work, ["a"], str(folder)))


def test_bits_that_were_cut_short(tmp_path):
    bits = np.arange(9, dtype=np.uint8)
    write_bits(str(tmp_path / "folder"), bits)
    np.testing.assert_array_equal(read_bits(str(tmp_path / "folder"), 3, 9), bits[3:])
    with pytest.raises(UserError, match=r"bits: is cut short"):
        read_bits(str(tmp_path / "folder"), 3, 10)
    with pytest.raises(UserError, match=r"^Beam: "):
        read_bits(str(tmp_path / "nowhere"), 0, 1)


class _Damaged:
    def run(self, work, shards, folder, name):
        return [iter([b"junk"])]


def test_a_damaged_file_is_one_line():
    with pytest.raises(UserError, match=r"^folder: damaged block: .*: remove the folder and start again$"):
        list(tokenize_shards(Documents(), Filters(), None, _Damaged(), "folder"))


class _Broken:
    def __call__(self, shard):
        raise ZeroDivisionError("a fault of the program")


def test_a_pipeline_that_fails_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"^Beam: .*a fault of the program") as error:
        DIRECT.run(_Broken(), ["a"], str(tmp_path / "folder"))
    assert "\n" not in str(error.value)


def test_workers_that_write_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr("triarch.prepare.beam._write", lambda path, blocks: None)
    with pytest.raises(UserError, match="what the workers wrote is not here"):
        DIRECT.run(_Marking(str(tmp_path / "log")), ["a"], str(tmp_path / "folder"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--beam_option=runer=DirectRunner"], "runer=DirectRunner: Beam has no option 'runer' (did you mean 'runner'"),
        (["--beam_option=num_workers=x"], "beam_option=num_workers=x: argument --num_workers: invalid int value: 'x'"),
        (["--beam_option=runner=NoRunner"], "Beam: ValueError: Unexpected pipeline runner: NoRunner"),
        (["--beam_option==3"], "beam_option==3: expected NAME=VALUE"),
        (["--beam_folder=foo://x"], "Beam: ValueError: Unable to get filesystem from specified path"),
        (["--workers=2"], "--workers is for --runner=local"),
    ],
)
def test_bad_options_are_one_line(tmp_path, files, capsys, options, message):
    command = ["prepare", "--task=files", f"--files={files}", "--text_field=targets", "--skip_bad_records"]
    command += [f"--output={tmp_path / 'store'}", "--runner=beam", "--vocabulary=bytes", "--window=64"]
    assert main([*command, *options]) != 0
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_left_out_records_keep_their_places(files):
    shards = _corpus(files).shards()
    records = [record for shard in shards for record in shard.documents()]
    assert records == list(_corpus(files).documents())
    assert sum(isinstance(record, LeftOut) for record in records) == 2
