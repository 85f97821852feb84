"""Writes a small study whose losses follow known power laws exactly."""

import csv
import json
from pathlib import Path

import numpy as np

FAMILIES = {
    "redllm": ("encoder-decoder", 0.20, 30.0, 1.0),
    "decllm": ("decoder-only", 0.20, 27.0, 2.0),
    "ettin_encoder": ("encoder-only", 0.22, 25.0, 2.0),
}
SIZES = {"1m": 1.0e6, "4m": 4.0e6, "16m": 1.6e7}
SHIFT = 0.5
ERROR = 0.004


def loss_of(family: str, params: float) -> float:
    _, alpha, scale, _ = FAMILIES[family]
    return scale * params**-alpha


def write_study(folder: Path, sizes=SIZES, families=tuple(FAMILIES)) -> Path:
    """Writes the study and returns its folder; in-domain losses are `loss_of`, out-of-domain ones SHIFT above."""
    results, evaluations = [], []
    for family in families:
        for size, params in sizes.items():
            _write_run(folder, family, size, params, results, evaluations)
    write_table(folder / "results.csv", results)
    write_table(folder / "evaluations.csv", evaluations)
    facts = {
        "name": "small_study",
        "title": "A small study",
        "question": "Which architecture is better?",
        "commands": ["triarch sweep --study=small.gin --output=runs/small"],
        "seconds": 100.0,
        "elapsed": 55.0,
        "hardware": "two cores",
        "labels": {"redllm": "RedLLM", "decllm": "DecLLM"},
    }
    (folder / "study.json").write_text(json.dumps(facts))
    return folder


def _write_run(folder, family, size, params, results, evaluations) -> None:
    architecture, _, _, cost = FAMILIES[family]
    name, final = f"{family}-{size}", loss_of(family, params)
    steps = np.arange(10, 401, 10)
    tokens = steps * 1000
    run = folder / "runs" / name
    run.mkdir(parents=True)
    (run / "config.gin").write_text(f"ModelConfig.architecture = '{architecture}'\n# if a < b & c\n")
    lines = []
    for step, seen in zip(steps, tokens, strict=True):
        flops = float(seen * params * cost)
        entry = {"step": int(step), "loss": final + 40.0 / step, "tokens": int(seen), "learning_rate": 0.01}
        lines.append(json.dumps(entry | {"flops_paper": flops, "flops_train": 3 * flops, "tokens_per_second": 5e3}))
    (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    total = float(tokens[-1] * params * cost)
    results.append({
        "run": name, "family": family, "architecture": architecture, "size": size, "num_params": int(params),
        "num_params_non_embedding": int(params * 0.7), "train_tokens": int(tokens[-1]),
        "target_tokens": int(tokens[-1]),
        "flops_paper": total, "flops_train": 3 * total, "final_train_loss": final + 0.1, "seconds": 10.0,
        "tokens_per_second": 40_000.0, "device": "cpu", "status": "finished",
    })  # fmt: skip
    for domain, role, shift in (("code", "in_domain", 0.0), ("prose", "out_of_domain", SHIFT)):
        scorings = ("pseudo_likelihood",) if architecture == "encoder-only" else ("paired", "native")
        for scoring in scorings:
            loss = final + shift + (0.05 if scoring == "native" else 0.0)
            evaluations.append({
                "run": name, "domain": domain, "role": role, "scoring": scoring, "nats_per_token": loss,
                "standard_error": ERROR, "bits_per_byte": loss / np.log(2) / 3.0, "perplexity": np.exp(loss),
                "num_tokens": 4096,
            })  # fmt: skip


def write_table(path: Path, rows: list[dict]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def read_table(path: Path) -> list[dict]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
