"""The program in a process of its own: its streams and the signals it gets."""

import io
import os
import signal
import subprocess
import sys
import time

import pytest

from triarch.cli.views.console import OutputConsole

COMMAND = [sys.executable, "-m", "triarch"]
VERB = [*COMMAND, "describe", "--gin_file=models/redllm/1b.gin"]
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


@pytest.fixture(autouse=True)
def interrupts_heard():
    """A shell that runs the tests in the background ignores SIGINT, and so would what they start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def run(command, **options):
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, timeout=120, **options)


@pytest.mark.parametrize("argv", [["--help"], ["describe", "--help"], VERB[3:]], ids=["overview", "help", "verb"])
def test_a_reader_that_left(argv):
    reading, writing = os.pipe()
    os.close(reading)
    done = run([*COMMAND, *argv], stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_console_whose_reader_left_leaves_the_end_to_the_program():
    class Left(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        OutputConsole(file=Left()).print("a line")


def test_before_it_looks_after_signals_the_program_imports_next_to_nothing():
    code = "import sys; before = {*sys.modules}; import triarch.__main__; print(*sorted({*sys.modules} - before))"
    done = run([sys.executable, "-c", code], stdout=subprocess.PIPE)
    # What Python's own start-up has imported depends on the environment.
    assert {*done.stdout.split()} - {"__future__"} == {"triarch", "triarch.__main__", "triarch.version"}


def test_a_full_disk_behind_the_output():
    with open("/dev/full", "w") as full:
        done = run(VERB, stdout=full)
    assert done.returncode == 1
    assert done.stderr == "triarch describe: error: standard output: No space left on device\n"


def test_closed_streams():
    done = subprocess.run(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *VERB], timeout=120, env=ENVIRONMENT)
    assert done.returncode == 0


def test_ascii_streams():
    environment = {**ENVIRONMENT, "PYTHONIOENCODING": "ascii"}
    command = [*COMMAND, "describe", "--gin_file=modèle"]
    done = subprocess.run(command, stderr=subprocess.PIPE, encoding="ascii", env=environment, timeout=120)
    assert done.returncode == 1 and r"mod\xe8le" in done.stderr


def test_messages_that_nobody_reads_end_nothing():
    """Standard error whose reader has gone, for good and in the middle of the work."""
    code = (
        "from triarch.cli import streams; streams.open_all(); import sys, os, rich.console;"
        "print('a', file=sys.stderr, flush=True); rich.console.Console(stderr=True).print('b');"
        "os.write(1, b'still here')"
    )
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-c", code], stderr=writing, stdout=subprocess.PIPE, timeout=120)
    os.close(writing)
    assert (done.returncode, done.stdout) == (0, b"still here")


IMPORTING = """
import os, signal, sys, threading
from triarch.cli import interrupts
interrupts.install()
number = int(sys.argv[1])
threading.Timer({delay}, os.kill, (os.getpid(), number)).start()
{work}
"""


@pytest.mark.parametrize("number, status, word", [(2, 130, "interrupted"), (15, 143, "terminated")])
def test_a_signal_in_the_middle_of_an_import(number, status, word, tmp_path):
    """A module that swallows whatever is raised, as native code does."""
    (tmp_path / "greedy.py").write_text(
        "import time\nwhile True:\n    try:\n        time.sleep(60)\n    except BaseException:\n        pass\n"
    )
    code = IMPORTING.format(delay=0.1, work="sys.path.insert(0, sys.argv[2]); import greedy")
    done = run([sys.executable, "-c", code, str(number), str(tmp_path)], stdout=subprocess.DEVNULL)
    assert (done.returncode, done.stderr) == (status, f"triarch: {word}\n")


def test_a_signal_that_a_library_swallows_still_counts():
    code = """
import os, signal
from triarch import __main__
from triarch.cli import main
def swallow(argv=None):
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        return 0
main.main = swallow
__main__.program()
"""
    done = run([sys.executable, "-c", code])
    assert (done.returncode, done.stderr) == (130, "triarch: interrupted\n")


@pytest.mark.slow
@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_at_any_moment_of_the_start(number, status, tmp_path):
    # What is frozen is found out from the network, so that this imports everything.
    command = [*COMMAND, "describe", "--gin_file=models/redllm/1b.gin", "--gin.RunConfig.frozen=('embedding',)"]
    for delay in (0.15, 0.3, 0.6, 1.0):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        time.sleep(delay)
        process.send_signal(number)
        said = process.communicate(timeout=60)[1]
        # Before the program's own first line, and after its last, the system ends it.
        assert process.returncode in (status, -number, 0), said
        assert "Traceback" not in said
