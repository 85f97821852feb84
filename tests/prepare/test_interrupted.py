"""Whatever ends `prepare` early leaves no store and no process, and it resumes there."""

import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.prepare.preparing import contents, hand_over_in_parts, prepared
from tests.tokenizers.texts import Documents, kill_this_process
from triarch.data import partial, tables
from triarch.data import writer as writers
from triarch.data.store import TokenStore
from triarch.errors import UserError
from triarch.prepare import pipeline as preparing
from triarch.prepare import tokenization
from triarch.prepare.corpora.selection import Filters
from triarch.prepare.pipeline import VocabularyChoice
from triarch.tokenizers import ByteTokenizer

# All under the guard: spawned workers import the script again.
_SLOW = """
if __name__ == "__main__":
    import sys, time
    from pathlib import Path
    from tests.tokenizers.texts import Documents
    from triarch.prepare import tokenization
    from triarch.prepare.pipeline import VocabularyChoice, prepare

    class Endless(Documents):
        def documents(self):
            while True:
                yield from super().documents()
                time.sleep(0.01)

    tokenization._CHUNK_CHARACTERS = 1000
    prepare(Endless(), "test", Path(sys.argv[1]), VocabularyChoice("bytes"), 64, 0.2, workers=2)
"""


@pytest.mark.slow
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
    prepared(output)
    assert list(output.parent.iterdir()) == [output]


_INTERRUPTED = """
if __name__ == "__main__":
    import os, signal, sys
    from pathlib import Path
    from tests.tokenizers.texts import Documents
    from triarch.data import writer
    from triarch.prepare import pipeline as preparing
    from triarch.prepare import tokenization
    from triarch.prepare.corpora.selection import Filters
    from triarch.prepare.vocabulary_choice import VocabularyChoice

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
    assert contents(tmp_path / "store") == contents(tmp_path / "whole")
    assert {path.name for path in tmp_path.iterdir()} == {"store", "whole", "interrupted.py"}


class Interruption(BaseException):
    """As from the keyboard."""


class Interrupted(Documents):
    """Is interrupted once `left` documents were read."""

    left = 0
    inputs_field = "inputs"

    def documents(self):
        for index, document in enumerate(super().documents()):
            Interrupted.left -= 1
            if Interrupted.left == 0:
                raise Interruption
            yield dataclasses.replace(document, inputs=f"question {index % 7}")


@pytest.mark.parametrize("layout", ["windows", "packed", "packed_pairs"])
def test_interrupted_again_and_again_it_writes_the_same_bytes(tmp_path, monkeypatch, layout):
    """As the test above, in one process; provenance fills several files, too, and most documents come in parts."""
    hand_over_in_parts(monkeypatch)
    monkeypatch.setattr(tokenization, "_CHUNK_CHARACTERS", 1000)
    monkeypatch.setattr(writers, "_FILE_ROWS", 13)
    monkeypatch.setattr(tables.TableFormat, "block_records", 5)
    monkeypatch.setattr(preparing, "CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr(partial, "KEPT_AFTER_SECONDS", 0)
    options = {"vocabulary": VocabularyChoice(size=420), "filters": Filters(40, None, True), "layout": layout}
    options["lengths"] = {"inputs": 20, "targets": 150}
    for Interrupted.left in (30, 90, 100, 20, 55):
        with pytest.raises(Interruption):
            prepared(tmp_path / "store", Interrupted(), **options)
    store = prepared(tmp_path / "store", Interrupted(), **options)
    # Nothing interrupts this one.
    assert contents(store.path) == contents(prepared(tmp_path / "whole", Interrupted(), **options).path)
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
        prepared(tmp_path / "store")
    prepared(tmp_path / "store")
    texts = [text for text in encoded if text is not None]
    # Only the chunk that was interrupted is done again.
    assert 0 < len(texts) - 60 < 8
    monkeypatch.undo()
    assert contents(tmp_path / "store") == contents(prepared(tmp_path / "whole").path)


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
        prepared(tmp_path / "store", workers=2)
    assert list(tmp_path.iterdir()) == []
