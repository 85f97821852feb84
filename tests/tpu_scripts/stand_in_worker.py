"""Plays the programs of a worker: hostname, gcsfuse, uv, and the Python that would train.

$STAND_IN/training.json is a list of what happens at each start of the training, the last for all further ones: "hang",
"stubborn" (hangs and ignores SIGTERM), "complete" (writes summary.json), "unfinished" (ends with 0 and no summary) or
{"WORKER": EXIT_STATUS}, others hanging.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

from stand_in import provide

HOME = Path.home()
ROOT = Path(os.environ["STAND_IN"])
WORKER = os.environ["STAND_IN_WORKER"]


def main(program: str, argv: list[str]) -> int:
    with open(ROOT / "worker_calls.jsonl", "a") as file:
        file.write(json.dumps([WORKER, program, *argv]) + "\n")
    if program == "hostname":
        print(f"host-{WORKER.replace('-', '-w-')}")
    elif program == "mountpoint":
        return not (HOME / "mounted").exists()
    elif program == "gcsfuse":
        (HOME / "mounted").touch()
    elif program == "uv":
        return uv(argv)
    elif program == "python":
        return train(argv)
    elif program == "triarch":
        print("triarch 0.0.0")
    return 0


def uv(argv: list[str]) -> int:
    if argv[0] == "venv":
        programs = Path(argv[-1]) / "bin"
        programs.mkdir(parents=True)
        for name in ("python", "triarch"):
            provide(programs / name, "stand_in_worker.py")
    elif WORKER in json.loads((ROOT / "scenario.json").read_text()).get("install_fails", []):
        print("error: no space left", file=sys.stderr)
        return 1
    return 0


def train(argv: list[str]) -> int:
    counter = ROOT / f"starts-{WORKER}"
    starts = int(counter.read_text()) if counter.exists() else 0
    counter.write_text(str(starts + 1))
    (ROOT / f"argv-{WORKER}.json").write_text(json.dumps({"argv": argv, "environ": dict(os.environ)}))
    actions = json.loads((ROOT / "training.json").read_text())
    action = actions[min(starts, len(actions) - 1)]
    print(f"start {starts}: {action}", flush=True)
    named = next(word for word in argv if word.startswith("--workdir=")).removeprefix("--workdir=")
    workdir = Path(named.replace("gs://my-bucket", str(ROOT / "bucket")))
    if action == "complete":
        workdir.mkdir(parents=True, exist_ok=True)
        (workdir / "summary.json").write_text('{"status": "complete"}')
        return 0
    if isinstance(action, dict) and WORKER in action:
        return action[WORKER]
    if action != "unfinished":
        wait(stubborn=action == "stubborn")
    return 0


def wait(stubborn: bool) -> None:
    """Goes on as training does: ends at SIGTERM unless it is stubborn, and traces at SIGUSR1."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN if stubborn else lambda number, frame: sys.exit(0))
    pid_file = Path(os.environ["TRIARCH_PID_FILE"])
    request = Path(f"{pid_file}.request")
    signal.signal(signal.SIGUSR1, lambda number, frame: request.replace(ROOT / f"traced-{WORKER}"))
    pid_file.write_text(str(os.getpid()))
    end = time.time() + 600
    while time.time() < end:
        time.sleep(60)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
