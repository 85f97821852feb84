"""Tiny runs of all three architectures on a store of synthetic text."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TextIO

import numpy as np

from triarch.data.manifest import Split, StoreManifest, Vocabulary
from triarch.data.token_bytes import TokenBytes
from triarch.data.writer import StoreWriter
from triarch.models import ModelConfig
from triarch.objectives import CausalLM, MaskedLM, PrefixLM
from triarch.training import CheckpointConfig, DataConfig, RunConfig
from triarch.training.optimizers.optimizer import AdamW
from triarch.training.optimizers.schedules import Cosine

WINDOW = 16
VOCABULARY = 32
LAYERS = {"encoder-only": (3, 0), "decoder-only": (0, 3), "encoder-decoder": (2, 2)}
OBJECTIVES = {"encoder-only": MaskedLM(), "decoder-only": CausalLM(), "encoder-decoder": PrefixLM()}


def write_store(path: Path, examples: int = 64, seed: int = 0, window: int = WINDOW, vocabulary: str = "tiny") -> Path:
    """Writes a store whose windows repeat a short motif, so that there is something to learn."""
    rng = np.random.default_rng(seed)
    special = {"pad": 0, "bos": 1, "eos": 2, "mask": 3}
    splits = {}
    with StoreWriter(path, window, "uint16") as writer:
        for name, count in (("train", examples), ("validation", 16)):
            motifs = rng.integers(4, VOCABULARY, size=(count, 4))
            writer.write(name, np.tile(motifs, window // 4))
            tokens = count * window
            splits[name] = Split(count, count, tokens, 0, tokens, writer.finish_files(name))
        described = Vocabulary("bytes", VOCABULARY, vocabulary, special)
        manifest = StoreManifest("tiny", "windows", window, "uint16", described, splits, {})
        writer.finish(manifest, TokenBytes.fixed(np.ones(VOCABULARY)))
    return path


def model(architecture: str, **changes) -> ModelConfig:
    encoder, decoder = LAYERS[architecture]
    fields = dict(vocab_size=VOCABULARY, d_model=16, d_ff=32, num_heads=4, head_dim=4)
    return ModelConfig(**fields | dict(num_encoder_layers=encoder, num_decoder_layers=decoder) | changes)


def run_config(store: Path, architecture: str = "decoder-only", **changes) -> RunConfig:
    config = RunConfig(
        model=model(architecture),
        objective=OBJECTIVES[architecture],
        data=DataConfig(WINDOW, str(store)),
        optimizer=AdamW(Cosine(3e-3, warmup_steps=5)),
        steps=12,
        batch_size=8,
        checkpoint=CheckpointConfig(every=4, keep_last=2),
        log_every=1,
        tensorboard=False,
    )
    return dataclasses.replace(config, **changes)


def losses(workdir: Path) -> dict[int, float]:
    """Returns the logged loss of every step, making sure that none is logged twice."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines]
    assert steps == sorted(set(steps))
    return {line["step"]: line["loss"] for line in lines}


def python(
    code: str,
    *arguments: object,
    devices: int = 1,
    optimise: bool = True,
    output: TextIO | None = None,
    environment: dict[str, str] | None = None,
) -> subprocess.Popen:
    """Starts Python on `code` in a process of its own that sees `devices` CPU devices.

    Args:
      code: the program.
      *arguments: its command line.
      devices: number of simulated devices.
      optimise: whether XLA takes its time over code; it does outside of tests.
      output: file for what it prints; pipes by default.
      environment: further variables.
    """
    root = Path(__file__).parents[2]
    given = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if flag.startswith("--xla_cpu")]
    level = [] if optimise else ["--xla_backend_optimization_level=0"]
    flags = [f"--xla_force_host_platform_device_count={devices}", *level, *given]
    variables = os.environ | {
        "PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": " ".join(flags),
        **(environment or {}),
    }
    command = [sys.executable, "-c", code, *map(str, arguments)]
    streams = {"stdout": output or subprocess.PIPE, "stderr": output or subprocess.PIPE}
    return subprocess.Popen(command, env=variables, cwd=root, text=True, **streams)
