"""`python -m tests.fuzz --seconds=600`: tries bad files of every format for that long, other ones each time.

An input that fails is made as small as it can be and stored under tests/fuzz/found, where every run of the tests reads
it again. Exit status 1 if there was any.
"""

from __future__ import annotations

import argparse
import faulthandler
import itertools
import os
import random
import sys
import tempfile
import time
import traceback
from pathlib import Path

os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

from hypothesis.configuration import set_hypothesis_home_dir

from tests.bad_input.case import Folder
from tests.bad_input.samples import Samples
from tests.fuzz.fuzzing import Bench, settings
from tests.fuzz.known import KNOWN
from tests.fuzz.targets import TARGETS


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=600.0, help="to go on for (default: %(default)g)")
    parser.add_argument("--turns", type=int, help="through all formats, of other inputs each (default: as time allows)")
    parser.add_argument("--seed", type=int, help="of the inputs (default: another one each time)")
    parser.add_argument("--target", action="append", choices=[target.name for target in TARGETS], help="repeatable")
    args = parser.parse_args()
    seed = random.SystemRandom().randrange(2**32) if args.seed is None else args.seed
    chosen = [target for target in TARGETS if not args.target or target.name in args.target]
    faulthandler.enable()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as root:
        print(f"seed {seed}; should the process end, the input that ended it lies below {root}", flush=True)
        set_hypothesis_home_dir(Path(root) / "hypothesis")  # Else it writes below the current folder.
        samples = Samples(Path(root) / "samples")
        samples.folder.mkdir()
        benches = []
        for target in chosen:
            (Path(root) / target.name).mkdir()
            benches.append(Bench(target, Folder(Path(root) / target.name, samples)))
        failed = explore(benches, seed, time.monotonic() + args.seconds, args.turns)
    for bench in benches:
        print(f"{bench.target.name:36} {bench.count:8,} inputs{'   FAILED' if bench.target.name in failed else ''}")
    total, bad = sum(bench.count for bench in benches), sorted(failed - KNOWN.keys())
    verdict = f"failed: {', '.join(bad)}" if bad else "each was read or refused"
    print(f"{total:,} inputs of {len(benches)} formats: {verdict}")
    return 1 if bad else 0


def explore(benches: list[Bench], seed: int, end: float, turns: int | None) -> set[str]:
    """Tries one target after another until the time or all turns are over; returns the names of those that failed."""
    failed: set[str] = set()
    for turn in itertools.count() if turns is None else range(turns):
        if time.monotonic() >= end or len(failed) == len(benches):
            break
        for bench in benches:
            if bench.target.name in failed or time.monotonic() >= end:
                continue
            try:
                bench.explore(settings(bench.target.examples), seed + turn)
            except BaseException as error:  # A panic of a library in Rust is no Exception.
                if isinstance(error, KeyboardInterrupt | SystemExit):
                    raise
                failed.add(bench.target.name)
                error.__notes__ = []  # hypothesis notes the whole input, however long.
                traceback.print_exception(error, limit=-3)
                print(f"==> {bench.target.name}: {bench.last[:300]!r}\n    stored as {bench.store()}", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
