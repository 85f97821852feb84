"""Likelihood scoring through lm-evaluation-harness on the CPU: triarch's beside the harness's own `hf` backend.

    python benchmarks/lm_eval_throughput.py                     # a Llama of SmolLM2-135M's shape, made at random
    python benchmarks/lm_eval_throughput.py --model=SmolLM2-135M --task_data=FOLDER

Both sides answer the same requests of LAMBADA, HellaSwag, ARC-easy and COPA, zero-shot, in float32, with the same
batch size, in turns; every metric must be equal. Without --task_data the tasks' rows are made-up words of usual
lengths. Seconds are of the evaluation alone, compilation included and loading left out, by the clock and of the
processor, which says more on a machine that is shared. Needs the extras [eval] and [hf].
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TASKS = ("lambada", "hellaswag", "arc_easy", "copa")
# Words of a context at least and at most, number of choices, words of a choice; as in the published data, roughly.
ROWS = {"lambada": (55, 110, 1, 1, 1), "hellaswag": (20, 90, 4, 8, 40), "arc_easy": (8, 40, 4, 1, 8)}
ROWS["copa"] = (5, 9, 2, 4, 9)
SHAPE = {"d_model": 576, "d_ff": 1536, "layers": 30, "heads": 9, "kv_heads": 3, "vocab": 49152}
# A perplexity is the exponential of a sum of float32 numbers.
TOLERANCE = 1e-3


def main() -> None:
    """Runs both sides in turns and prints the table."""
    args = _flags()
    if args.one_side:
        print(json.dumps({"triarch": own, "hugging_face": peer}[args.one_side](args)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        if args.task_data is None:
            args.task_data = Path(scratch) / "data"
            write_data(args.task_data, args.examples)
        if args.model is None:
            args.model = Path(scratch) / "model"
            write_model(args.model, args)
        args.imported = Path(scratch) / "imported"
        command = [sys.executable, "-m", "triarch", "import", str(args.model), f"--output={args.imported}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        found: dict[str, list[dict]] = {"triarch": [], "hugging_face": []}
        for number in range(args.rounds):
            for name, sides in found.items():
                sides.append(_side(name, args))
            print(f"round {number + 1} of {args.rounds} done", file=sys.stderr, flush=True)
    report = summary(found)
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")
    if report["differences"]:
        raise SystemExit("numbers differ: " + "; ".join(report["differences"]))


def own(args: argparse.Namespace) -> dict[str, Any]:
    """Returns triarch's seconds and metrics."""
    from triarch.cli import environment

    environment.configure()
    from triarch.evaluation.few_shot import FewShotOptions, TaskSuite, evaluate_tasks
    from triarch.interchange import Placement
    from triarch.loading import load, tokenizer_of

    model = load(args.imported, placement=Placement.one_device())
    tokenizer = tokenizer_of(model)
    options = FewShotOptions(task_data=args.task_data, limit=args.examples, batch_size=args.batch_size)
    frame = getattr(tokenizer, "frame", None)
    with _Clock() as clock:
        results = evaluate_tasks(model, tokenizer, TaskSuite(dict.fromkeys(TASKS)), options, tokenizer_frame=frame)
    return clock.told | {"metrics": {f"{one.task} {one.metric}": one.value for one in results}}


def peer(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the seconds and metrics of the harness's own backend."""
    import torch
    import transformers
    from lm_eval.evaluator import evaluate
    from lm_eval.models.huggingface import HFLM

    from triarch.evaluation.few_shot.tasks import TaskFinder

    transformers.logging.set_verbosity_error()
    folder = str(args.model)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=args.batch_size, device="cpu")
    finder, metrics = TaskFinder((), args.task_data), {}
    with _Clock() as clock:
        for name in TASKS:
            found = evaluate(lm, finder.find(name, None).loaded, limit=args.examples, bootstrap_iters=1000)
            for key, value in found["results"][name].items():
                metric, _, cut = key.partition(",")
                if cut == "none" and not metric.endswith("_stderr"):
                    metrics[f"{name} {metric}"] = value
    return clock.told | {"metrics": metrics}


class _Clock:
    """Seconds between entry and exit, of the wall and of this process."""

    def __enter__(self) -> _Clock:
        self._begun = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        wall, processor = self._begun
        self.told = {"seconds": time.perf_counter() - wall, "processor": time.process_time() - processor}


def write_data(folder: Path, examples: int) -> None:
    """Writes the tasks' files with made-up words."""
    rng, folder = random.Random(0), Path(folder)
    folder.mkdir()
    words = ["".join(rng.choices("etaoinshrdlucmfw", k=rng.randint(2, 8))) for _ in range(3000)]

    def text(least: int, most: int) -> str:
        return " ".join(rng.choices(words, k=rng.randint(least, most)))

    for name, (least, most, count, *choice) in ROWS.items():
        rows: list[dict[str, Any]] = []
        for _ in range(examples):
            context = text(least, most)
            if name == "lambada":
                rows.append({"text": f"{context} {text(1, 1)}"})
            else:
                choices = [text(*choice) for _ in range(count)]
                rows.append({"query": context, "choices": choices, "gold": rng.randrange(count)})
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_model(folder: Path, args: argparse.Namespace) -> None:
    """Writes a Llama made at random, with a tokenizer trained on made-up words."""
    import torch
    import transformers

    import tokenizers

    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=args.d_model,
        intermediate_size=args.d_ff,
        num_hidden_layers=args.layers,
        num_attention_heads=args.heads,
        num_key_value_heads=args.kv_heads,
        vocab_size=args.vocab,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=None,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    made = tokenizers.ByteLevelBPETokenizer()
    lines = (line for path in sorted(Path(args.task_data).glob("*.jsonl")) for line in path.read_text().splitlines())
    made.train_from_iterator(lines, min(2000, args.vocab), special_tokens=["<|endoftext|>"], show_progress=False)
    end = "<|endoftext|>"
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=made._tokenizer, bos_token=end, eos_token=end)
    fast.save_pretrained(folder)


def _side(name: str, args: argparse.Namespace) -> dict[str, Any]:
    flags = [f"--{flag}={getattr(args, flag)}" for flag in ("model", "imported", "task_data", "examples", "batch_size")]
    command = [sys.executable, __file__, f"--one_side={name}", *flags]
    # Idle threads of OpenMP would count as processor time.
    passive = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=passive)
    return json.loads(done.stdout.strip().splitlines()[-1])


def summary(found: dict[str, list[dict]]) -> dict[str, Any]:
    """Prints both sides' seconds and their ratio; returns them, and which metrics differ."""
    report: dict[str, Any] = {}
    print(f"{'side':14} {'seconds':>9} {'min':>7} {'max':>7} {'processor':>10}")
    for name, sides in found.items():
        seconds, processor = ([side[key] for side in sides] for key in ("seconds", "processor"))
        report[name] = {"seconds": statistics.median(seconds), "processor": statistics.median(processor)}
        print(
            f"{name:14} {report[name]['seconds']:9.1f} {min(seconds):7.1f} {max(seconds):7.1f} "
            f"{report[name]['processor']:10.1f}"
        )
    for key in ("seconds", "processor"):
        report[f"{key}_ratio"] = report["hugging_face"][key] / report["triarch"][key]
    print(
        f"triarch is {report['seconds_ratio']:.2f} times as fast as the hf backend, "
        f"{report['processor_ratio']:.2f} by processor time"
    )
    report["metrics"] = found["triarch"][0]["metrics"]
    report["differences"] = _differences(report["metrics"], found["hugging_face"][0]["metrics"])
    return report


def _differences(ours: dict[str, float], theirs: dict[str, float]) -> Sequence[str]:
    names = sorted(ours.keys() & theirs.keys())
    assert names, "no metric in common"
    return [
        f"{name} {ours[name]!r} and {theirs[name]!r}"
        for name in names
        if not math.isclose(ours[name], theirs[name], rel_tol=TOLERANCE if "perplexity" in name else 1e-9)
    ]


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", type=Path, help="a Hugging Face folder of a decoder (default: one made at random)")
    add("--task_data", type=Path, help="folder of lambada*.jsonl, ... (default: made-up words)")
    add("--examples", type=int, default=60, help="of each task (default: %(default)s)")
    add("--batch_size", type=int, default=32, help="default: %(default)s")
    add("--rounds", type=int, default=1, help="turns of each side (default: %(default)s)")
    for name, default in SHAPE.items():
        add(f"--{name}", type=int, default=default, help="of the model made at random (default: %(default)s)")
    add("--imported", type=Path, help=argparse.SUPPRESS)
    add("--json", type=Path, metavar="PATH")
    add("--one_side", choices=("triarch", "hugging_face"), help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
