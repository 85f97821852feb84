"""What one GPU does, in ten minutes at most: kernels, training steps and decoding, beside transformers.

    python benchmarks/on_gpu.py --output=on_gpu          # on_gpu.md and on_gpu.json
    python benchmarks/on_gpu.py --toy --output=toy       # the same at toy sizes, which runs on a CPU too

First the rate of plain bfloat16 matrix products is measured, of which training steps are then a share (MFU, in the
"train" convention). Then: attention kernels against the dense formula, numbers and time; the real training step of
DecLLM 1B, RedLLM 1B, an Ettin encoder of 400M and a Mamba-2 of 370M by their own recipes; decoding by DecLLM and
RedLLM; and models of transformers of the same shapes, with torch.compile and automatic bfloat16, where there is torch
that sees the GPU. Each part is a process of its own with a limit in seconds; what fails, takes longer or finds no time
left is named in the table, which is saved after each part.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from generation_throughput import machine
from gpu.table import rendered
from training_throughput import PEER_ALLOCATOR

HERE = Path(__file__).parent / "gpu"
TINY_MAMBA2 = {"d_model": 32, "num_heads": 4, "head_dim": 16, "num_decoder_layers": 2, "vocab_size": 512}
# Model file and rows; model file of a toy, and what else is bound for it.
MODELS: dict[str, tuple[str, int, str, tuple[str, ...]]] = {
    "DecLLM": ("decllm/1b", 8, "decllm/tiny_s", ()),
    "RedLLM": ("redllm/1b", 8, "redllm/tiny_s", ()),
    "Ettin encoder": ("ettin_encoder/400m", 16, "ettin_encoder/tiny_s", ("Constant.peak=1e-3",)),
    "Mamba-2": ("mamba2/370m", 8, "mamba2/130m", tuple(f"ModelConfig.{k}={v}" for k, v in TINY_MAMBA2.items())),
}
PEERS = {"DecLLM": "llama", "RedLLM": "t5", "Ettin encoder": "modernbert", "Mamba-2": "mamba2"}
TOY_ROWS, TOY_WINDOW = 2, 64
BUDGET = 600.0
# A CPU compiles slowly and may be shared: a toy takes so many times as long at most.
TOY_PATIENCE = 6
# What is left below this many seconds begins no part.
SHORTEST = 15


class Part(NamedTuple):
    """One process: which script with which flags, and how long it may take."""

    name: str
    script: str
    flags: tuple[str, ...]
    limit: float


def main() -> None:
    """Runs the parts, saving the table after each."""
    args = _flags()
    report: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "host": machine(),
        "toy": args.toy,
        "rows": [],
        "failures": [],
    }
    patience = TOY_PATIENCE if args.toy else 1
    budget = BUDGET * patience if args.budget is None else args.budget
    started, chosen = time.monotonic(), args.parts and args.parts.split(",")
    for part in parts(args):
        if chosen and not any(part.name.startswith(name) for name in chosen):
            continue
        left = budget - (time.monotonic() - started)
        if left < SHORTEST:
            report["failures"].append({"part": part.name, "reason": f"no time left of {budget:.0f} s"})
            continue
        found, reason, seconds = run(part, min(part.limit * patience, left), args)
        report["rows"] += [{"part": part.name} | row for row in found.get("rows", [])]
        report |= {key: value for key, value in found.items() if key != "rows"}
        if reason is not None:
            report["failures"].append({"part": part.name, "reason": reason})
        report["seconds"] = round(time.monotonic() - started, 1)
        print(f"{part.name}: {seconds:.0f} s{'' if reason is None else ', ' + reason}", file=sys.stderr, flush=True)
        save(report, args.output)
    save(report, args.output)
    print(rendered(report))


def parts(args: argparse.Namespace) -> Iterator[Part]:
    """Yields what is to run, what matters most first."""
    yield Part("matmul", "own.py", ("matmul",), 40)
    yield Part("kernels", "own.py", ("kernels",), 90)
    models = {name: _model(name, args.toy) for name in MODELS}
    for name, flags in models.items():
        yield Part(f"train {name}", "own.py", ("train", *flags), 90)
        if name == "DecLLM":
            yield _peer("train", name, args)
    for name in ("DecLLM", "RedLLM"):
        yield Part(f"decode {name}", "own.py", ("decode", *models[name]), 60)
    yield from (_peer("train", name, args) for name in ("Ettin encoder", "RedLLM"))
    yield from (_peer("decode", name, args) for name in ("DecLLM", "RedLLM"))
    yield _peer("train", "Mamba-2", args)


def _peer(kind: str, name: str, args: argparse.Namespace) -> Part:
    shape = json.dumps(_peer_shape(name, args.toy))
    return Part(f"{kind} {name}: transformers", "peers.py", (kind, f"--kind={PEERS[name]}", f"--shape={shape}"), 100)


def _model(name: str, toy: bool) -> tuple[str, ...]:
    file, rows, toy_file, bindings = MODELS[name]
    flags = [f"--name={name}", f"--model=models/{toy_file if toy else file}.gin"]
    own = [f"RunConfig.batch_size={TOY_ROWS if toy else rows}"]
    if toy:
        own += [f"DataConfig.window={TOY_WINDOW}", *bindings]
    return (*flags, *(f"--gin={binding}" for binding in own))


def _peer_shape(name: str, toy: bool) -> dict[str, Any]:
    from gpu.own import load

    flags = dict(flag[2:].split("=", 1) for flag in _model(name, toy) if not flag.startswith("--gin"))
    bindings = [flag.removeprefix("--gin=") for flag in _model(name, toy) if flag.startswith("--gin=")]
    config = load(flags["model"], bindings)
    names = ("vocab_size", "d_model", "d_ff", "num_heads", "head_dim", "num_encoder_layers", "num_decoder_layers")
    shape = {field: getattr(config.model, field) for field in names}
    return {"name": name} | shape | {"batch": config.batch_size, "window": config.data.window}


def run(part: Part, limit: float, args: argparse.Namespace) -> tuple[dict[str, Any], str | None, float]:
    """Returns what a part printed last, why it did not come to its end (None if it did), and its seconds."""
    own = part.script == "own.py"
    command = [sys.executable if own else args.hf_python, str(HERE / part.script), *part.flags]
    if args.toy:
        command.append("--toy")
    environment = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.92"} if own else PEER_ALLOCATOR
    started = time.monotonic()
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment | os.environ,
        start_new_session=True,
    )
    try:
        printed, complaints = process.communicate(timeout=limit)
        last = next((line for line in reversed(complaints.splitlines()) if line.strip()), "")
        reason = None if process.returncode == 0 else last.strip()[:300] or f"exit status {process.returncode}"
    except subprocess.TimeoutExpired:
        # Compilers of torch run in processes of their own.
        os.killpg(process.pid, signal.SIGKILL)
        printed, _ = process.communicate()
        reason = f"stopped after {limit:.0f} s"
    return _last(printed), reason, time.monotonic() - started


def _last(printed: str) -> dict[str, Any]:
    """Returns the last whole report among the lines; a part prints one after each row."""
    for line in reversed(printed.splitlines()):
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict):
            return found
    return {}


def save(report: dict[str, Any], output: str) -> None:
    """Writes OUTPUT.json and OUTPUT.md."""
    Path(f"{output}.json").write_text(json.dumps(report, indent=2) + "\n")
    Path(f"{output}.md").write_text(rendered(report))


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="on_gpu", help="without ending; .md and .json are added")
    parser.add_argument("--budget", type=float, help=f"seconds for everything (default: {BUDGET:.0f})")
    parser.add_argument("--parts", help="beginnings of names, by commas, as matmul,train DecLLM (default: all)")
    parser.add_argument("--hf_python", default=sys.executable, help="interpreter with torch and transformers")
    parser.add_argument("--toy", action="store_true", help="toy sizes, for a CPU")
    return parser.parse_args()


if __name__ == "__main__":
    main()
