"""Stages that are Python code, and a worker that runs them: what the runner's tests share."""

import sys

from triarch.sweeps import runner
from triarch.sweeps.ledger import Ledger
from triarch.sweeps.stages import Stage
from triarch.sweeps.workers import Worker

WRITE = "import pathlib; pathlib.Path(result).open('a').write('x')"
# Reads a request a line as `triarch.cli.worker` does, and like it ends when its input does, whatever it is doing.
CODE = """
import contextlib, json, os, queue, sys, threading, traceback
waiting = queue.SimpleQueue()
def listen():
    for line in sys.stdin:
        waiting.put(line)
    os._exit(1)
threading.Thread(target=listen, daemon=True).start()
while True:
    request = json.loads(waiting.get())
    code, result = request["arguments"]
    status = 0
    with open(request["log"], "a") as log, contextlib.redirect_stdout(log):
        try:
            exec(code, {"result": result})
        except SystemExit as stop:
            status = stop.code
        except Exception:
            status = 1
            traceback.print_exc(file=log)
    print(json.dumps({"status": status}), flush=True)
"""


def stage(folder, owner, name, code=WRITE):
    result = folder / f"{owner}.{name}.result"
    return Stage(owner, name, (code, str(result)), result, folder / f"{owner}.{name}.log")


def sweep(folder, chains, parallel=2, attempts=1, show=lambda progress: None):
    def worker(cores):
        return Worker(cores, folder / "cache", (sys.executable, "-c", CODE))

    ledger = Ledger(folder / "ledger.jsonl")
    one = runner.Sweep(parallel, attempts, ledger, folder / "claims", worker, show)
    one.run(chains, dict.fromkeys(chains, 1.0))
