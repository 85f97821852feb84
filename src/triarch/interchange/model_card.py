"""The README.md of an export: what the network is and how it was trained, from the run's own record."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from triarch.interchange.manifest import Origin
from triarch.models import ModelConfig
from triarch.version import __version__

# Key of `Origin.source` under which exports keep what a run recorded.
RECORD = "record"
_TASKS = {
    "encoder-only": "fill-mask",
    "decoder-only": "text-generation",
    "encoder-decoder": "text2text-generation",
}
_NOT_SAID = ("class", "module")


@dataclasses.dataclass(frozen=True)
class Usage:
    """How what lies in a folder is loaded.

    Attributes:
      library: that loads it, as the front matter names it.
      code: Python that does.
      notes: a paragraph on the folder's files; "" for none.
    """

    library: str
    code: str
    notes: str = ""


ORBAX = Usage(
    library="triarch",
    code='import triarch\n\nmodel = triarch.load("this folder")',
    notes=(
        "`manifest.json` describes the network and every tensor; `parameters/` is an Orbax checkpoint, which "
        "`orbax.checkpoint.StandardCheckpointer().restore` reads without triarch."
    ),
)


def model_card(config: ModelConfig, origin: Origin, usage: Usage) -> str:
    """Returns Markdown with YAML front matter.

    Args:
      config: the network.
      origin: where its parameters come from, with what the run recorded (`RECORD`), if a run is known.
      usage: how it is loaded.
    """
    record = (origin.source or {}).get(RECORD)
    facts = record if isinstance(record, Mapping) else {}
    sections = [
        _front_matter(config, origin, usage),
        f"# {_text(_name(origin) or config.architecture)}",
        f"{_article(config.architecture)} of {config.num_params():,} parameters, written by triarch {__version__}.",
        f"## Loading\n\n```python\n{usage.code}\n```" + (f"\n\n{usage.notes}" if usage.notes else ""),
        "## Network\n\n" + _table(_network(config)),
        "## Training\n\n" + (_table(_training(origin, facts)) or "Nothing is recorded of it."),
    ]
    return "\n\n".join(sections) + "\n"


def _front_matter(config: ModelConfig, origin: Origin, usage: Usage) -> str:
    # A JSON string is one of YAML, whatever it holds.
    lines = [f"library_name: {usage.library}", f"pipeline_tag: {_TASKS[config.architecture]}", "tags:", "- triarch"]
    lines += [f"- {config.architecture}"]
    name = _name(origin)
    lines += [f"model_name: {json.dumps(name)}"] if name else []
    return "\n".join(["---", *lines, "---"])


def _name(origin: Origin) -> str | None:
    source = origin.source or {}
    name = source.get("run") or source.get("folder")
    return name if isinstance(name, str) else None


def _article(architecture: str) -> str:
    return f"{'A' if architecture.startswith('d') else 'An'} {architecture} Transformer"


def _network(config: ModelConfig) -> dict[str, Any]:
    sides = {side: config.num_layers(side) for side in ("encoder", "decoder") if config.num_layers(side)}
    own = config.of_side("decoder") if config.num_decoder_layers else config
    rows: dict[str, Any] = {
        "architecture": config.architecture,
        "parameters": f"{config.num_params():,}",
        "without embeddings": f"{config.num_params_non_embedding():,}",
        "layers": ", ".join(f"{count} ({side})" for side, count in sides.items()),
        "width": _both(config.d_model, own.d_model),
        "feed-forward width": _both(config.d_ff, own.d_ff),
        "heads": f"{_both(config.num_heads, own.num_heads)} of {_both(config.head_dim, own.head_dim)}",
        "key and value heads": _both(config.kv_heads, own.kv_heads),
        "vocabulary": f"{config.vocab_size:,}",
        "positions": config.position_encoding,
    }
    if config.num_params_active() != config.num_params():
        rows["parameters active for a token"] = f"{config.num_params_active():,}"
    return rows


def _both(encoder: int, decoder: int) -> str:
    return str(encoder) if encoder == decoder else f"{encoder} (encoder), {decoder} (decoder)"


def _training(origin: Origin, facts: Mapping[str, Any]) -> dict[str, Any]:
    source = origin.source or {}
    vocabulary = origin.vocabulary or {}
    rows: dict[str, Any] = {
        "objective": _told(origin.objective),
        "steps": None if origin.step is None else f"{origin.step:,}",
        "imported from": source.get("huggingface"),
        "began from": facts.get("init_from"),
        "data": facts.get("data"),
        "fingerprint of the data": source.get("store_fingerprint"),
        "window": source.get("window"),
        "batch size": facts.get("batch_size"),
        "tokens": None if facts.get("tokens") is None else f"{facts['tokens']:,}",
        "optimizer": _told(facts.get("optimizer")),
        "seed": facts.get("seed"),
    }
    rows |= {name.replace("_", " "): value for name, value in (facts.get("metrics") or {}).items()}
    rows["vocabulary"] = vocabulary and f"{vocabulary.get('kind')}, {vocabulary.get('size'):,} tokens"
    rows["fingerprint of the vocabulary"] = vocabulary.get("fingerprint")
    return {name: value for name, value in rows.items() if value not in (None, "", {})}


def _told(value: Any) -> str | None:
    """Returns a part of a config as it would be called: its class with the fields that say something."""
    if not isinstance(value, Mapping) or "class" not in value:
        return None if value is None or isinstance(value, Mapping) else str(value)
    # Where a teacher lies is nobody else's concern.
    value = {**value, "teacher": Path(str(value["teacher"])).name} if "teacher" in value else value
    fields = {key: item for key, item in sorted(value.items()) if key not in _NOT_SAID and item is not None}
    return f"{value['class']}({', '.join(f'{key}={_argument(item)}' for key, item in fields.items())})"


def _argument(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_argument, value))}]"
    return str(_told(value)) if isinstance(value, Mapping) else repr(value)


def _table(rows: Mapping[str, Any]) -> str:
    if not rows:
        return ""
    shown = {name: f"{value:.6g}" if isinstance(value, float) else str(value) for name, value in rows.items()}
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {_text(value)} |" for name, value in shown.items())])


def _text(value: str) -> str:
    """Returns text that is one line and one cell, whatever a folder or a store is called."""
    return " ".join(value.split()).replace("|", "\\|").replace("<", "&lt;")
