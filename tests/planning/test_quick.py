"""What a stopped compiler leaves in a folder, and what becomes of a plan where it is not whole or the process dies."""

import multiprocessing
import signal
import sys

import pytest

from triarch.errors import UserError
from triarch.planning.compiler import Compiled, OutOfMemory
from triarch.planning.quick import _assigned, _followed
from triarch.planning.topology import parse

STEM = "module_0000.jit_update"
PROGRAM = "HloModule jit_update\n\nENTRY %main (a: f32[256]) -> f32[256] {\n  ROOT %a = f32[256]{0} parameter(0)\n}\n"
# As libtpu 0.0.42 and as libtpu 0.0.51 write it.
OLD = """BufferAssignment:
allocation 0: size 512, thread-local:
 value: <7 a @0> (size=512,offset=0): f32[128]{0}
allocation 1: size 1024, parameter 0, shape |f32[256]| at ShapeIndex {}, maybe-live-out:
allocation 2: size 2048, parameter 1, shape |f32[512]| at ShapeIndex {}:
allocation 3: size 64, output shape is |(f32[256])|, maybe-live-out:
allocation 4: size 32, constant:
allocation 5: size 90000, color 1, preallocated-temp:
allocation 6: size 4096, preallocated-temp:
"""
NEW = OLD.replace(", ", ", page 0, ").replace("size=512, page 0, offset", "size=512,offset")
TOTAL = 512 + 1024 + 2048 + 64 + 32 + 4096
EXPECTED = Compiled(PROGRAM, 1024 + 2048 + 64 + 32 + 4096, 1024 + 2048, 64, 32 + 4096)


def leave(folder, program=PROGRAM, assignment=OLD, total=TOTAL):
    parts = {
        "": program,
        "-buffer-assignment": assignment,
        "-memory-usage-report": f"Memory Space: default (color=0)\nTotal bytes: {total} (7.59KiB)\n",
        "_after_buffer_assignment": program,
    }
    for part, text in parts.items():
        (folder / f"{STEM}.after_optimizations{part}.txt").write_text(text)


@pytest.mark.parametrize("assignment", [OLD, NEW, OLD.replace(", para", ", color 0, para")])
def test_buffers_are_those_assigned_in_hbm(tmp_path, assignment):
    leave(tmp_path, assignment=assignment)
    assert _assigned(tmp_path, STEM) == EXPECTED


WRONG = {
    "another_form": {"assignment": OLD.replace("size ", "bytes ")},
    "another_name_of_parameters": {"assignment": OLD.replace("parameter", "argument")},
    "a_part_of_the_buffers": {"assignment": OLD[: OLD.index("allocation 6")]},
    "another_total": {"total": TOTAL + 512},
    "no_buffers": {"assignment": "", "total": 0},
    "a_part_of_the_program": {"program": PROGRAM[:-3]},
    "no_program": {"program": ""},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_does_not_come_to_the_compilers_own_total_is_no_answer(tmp_path, wrong):
    leave(tmp_path, **WRONG[wrong])
    assert _assigned(tmp_path, STEM) is None


@pytest.mark.parametrize("part", ["", "-buffer-assignment", "-memory-usage-report"])
def test_a_missing_stage_is_no_answer(tmp_path, part):
    leave(tmp_path)
    (tmp_path / f"{STEM}.after_optimizations{part}.txt").unlink()
    assert _assigned(tmp_path, STEM) is None


class Ended:
    """Stands in for a process that has ended."""

    def __init__(self, exitcode):
        self.exitcode = exitcode

    def join(self):
        pass


def followed(folder, *messages, exitcode=0):
    receiver, sender = multiprocessing.Pipe(duplex=False)
    for message in messages:
        sender.send(message)
    sender.close()
    said = []
    return *_followed(receiver, Ended(exitcode), folder, parse("v5e:2x2"), said.append, 60.0), said


def test_stages_are_taken_before_the_compilers_end(tmp_path):
    leave(tmp_path)
    prepared, found, effort, _, said = followed(tmp_path, ("say", "tracing"), ("prepared", "it"))
    assert (prepared, found, effort) == ("it", EXPECTED, "quick")
    assert said == ["tracing", "compiling for v5e:2x2 (v5e-4, 4 chips), without machine code"]


@pytest.mark.parametrize("left", [{}, WRONG["another_form"]])
def test_where_stages_cannot_be_read_the_compiler_goes_on_to_the_end(tmp_path, left):
    if left:
        leave(tmp_path, **left)
    whole = Compiled(PROGRAM, 5, 4, 3, 2)
    _, found, effort, _, said = followed(tmp_path, ("prepared", "it"), ("compiled", whole))
    assert (found, effort) == (whole, "full")
    assert sum("cannot be read" in line for line in said) == bool(left)


def test_no_room_is_an_answer(tmp_path):
    text = "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 16.50G of 15.75G hbm."
    _, found, _, _, _ = followed(tmp_path, ("prepared", "it"), ("no room", text))
    assert isinstance(found, OutOfMemory) and found.needed == 16.5 * 2**30


@pytest.mark.parametrize(
    ("messages", "exitcode", "message"),
    [
        ([], 1, "the process of the compiler ended early, with status 1"),
        ([("prepared", "it")], -signal.SIGSEGV, "the process of the compiler was ended by SIGSEGV"),
        ([("say", "x")], -signal.SIGKILL, "was ended by SIGKILL: this machine may have run out of memory"),
        ([("refused", "batch_size 6 is odd")], 0, "batch_size 6 is odd"),
    ],
)
def test_a_process_that_dies_is_one_line(tmp_path, messages, exitcode, message):
    with pytest.raises(UserError) as caught:
        followed(tmp_path, *messages, exitcode=exitcode)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.skipif(sys.platform != "linux", reason="as libtpu")
def test_an_early_end_is_told_by_a_real_process(tmp_path):
    """The end of the pipe is seen although this process made it, and the signal is that of the process."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=signal.raise_signal, args=(signal.SIGKILL,))
    child.start()
    sender.close()
    with pytest.raises(UserError, match="ended by SIGKILL"):
        _followed(receiver, child, tmp_path, parse("v5e:2x2"), lambda line: None, 60.0)
