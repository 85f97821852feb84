"""Two processes never train in one run folder."""

import subprocess
import sys

import pytest

from triarch.errors import UserError
from triarch.runtime.lock import locked

HOLD = """
import pathlib, sys, time
from triarch.runtime.lock import locked
with locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_folder_is_held_until_its_process_ends_even_by_kill_9(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="another process is training in this run folder"), locked(tmp_path):
            pass
        holder.kill()
        holder.wait()
        with locked(tmp_path):
            pass
