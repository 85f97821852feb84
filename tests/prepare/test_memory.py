"""Long documents take memory of a few times the longest one, whatever their number."""

import json
import os
import random
import string
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tokenizers.huggingface import write_folder
from tests.tokenizers.texts import Documents, small_sentencepiece

_MEGABYTES = 12
# Prints the peak in KiB after short documents and after long ones. One process tokenizes too: a new one's peak begins
# with what its parent holds.
_MEASURED = """
if __name__ == "__main__":
    import resource, sys
    from pathlib import Path
    from triarch.prepare.corpora.files import Files
    from triarch.prepare.pipeline import VocabularyChoice, prepare

    folder, vocabulary = Path(sys.argv[1]), VocabularyChoice(sys.argv[2])
    for name in ("short", "long"):
        files = Files((str(folder / f"{name}.jsonl"),))
        prepare(files, name, folder / name, vocabulary, 512, 0.0, workers=1)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def _measured(folder, vocabulary, long, short):
    """The peaks in MB after three long documents, less that after the same text in short ones."""
    for name, texts in (("short", [short] * (3 * len(long) // len(short))), ("long", [long] * 3)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    script = folder / "measured.py"
    script.write_text(_MEASURED)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
    command = [sys.executable, script, folder, vocabulary]
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    before, after = (int(line) * 1024 / 10**6 for line in output.split())
    return after - before


@pytest.mark.slow
@pytest.mark.parametrize("vocabulary", ["bytes", "bpe"])
def test_long_documents_do_not_pile_up(tmp_path, vocabulary):
    """Tokenized whole, one would take more than twenty times its bytes."""
    if vocabulary == "bpe":
        small_sentencepiece().save(tmp_path)
        vocabulary = str(next(tmp_path.glob("*.model")))
    text = "\n".join(document.text for document in Documents().documents()).encode("ascii", "ignore").decode()
    count = _MEGABYTES * 10**6 // len(text)
    # The reader holds about five copies.
    assert _measured(tmp_path, vocabulary, text * count, text) < 10 * _MEGABYTES


@pytest.mark.slow
def test_one_word_is_taken_apart_too(tmp_path):
    """Tokenized whole, one of these would take 260 MB more."""
    files = write_folder(tmp_path / "gpt2", "gpt2")
    text = "".join(random.Random(0).choices(string.ascii_letters, k=12 * 10**5))
    assert _measured(tmp_path, str(files / "tokenizer.json"), text, text[:20_000]) < 120
