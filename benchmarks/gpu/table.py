"""The report of `on_gpu.py` as a page of markdown."""

from __future__ import annotations

from typing import Any

_TITLES = {
    "matmul": "Matrix products in bfloat16",
    "kernel": "Attention kernels",
    "train": "Training steps",
    "decode": "Decoding, greedy",
}
# Heading, key and format of each column, by the kind of row.
_COLUMNS: dict[str, list[tuple[str, str, str]]] = {
    "matmul": [("size", "size", ","), ("TFLOP/s", "tflops", ".1f")],
    "kernel": [
        ("case", "case", ""),
        ("kernel", "kernel", ""),
        ("forward ms", "forward_ms", ".3f"),
        ("forward + backward ms", "both_ms", ".3f"),
        ("x dense", "times_dense", ".2f"),
        ("error", "error", ".1e"),
        ("gradients' error", "gradient_error", ".1e"),
        ("as exact as dense", "is_exact", ""),
    ],
    "train": [
        ("model", "model", ""),
        ("side", "side", ""),
        ("parameters", "parameters", ","),
        ("rows x tokens", "batch", ""),
        ("s/step", "seconds", ".4f"),
        ("tokens/s", "tokens_per_second", ",.0f"),
        ("MFU of measured", "mfu_measured", ".1%"),
        ("MFU of data sheet", "mfu_sheet", ".1%"),
        ("x transformers", "ratio", ".2f"),
        ("loss", "losses", ""),
        ("how", "how", ""),
    ],
    "decode": [
        ("model", "model", ""),
        ("side", "side", ""),
        ("rows x prompt + new", "batch", ""),
        ("prefill s", "prefill", ".3f"),
        ("new tokens/s", "tokens_per_second", ",.0f"),
        ("x transformers", "ratio", ".2f"),
    ],
}


def rendered(report: dict[str, Any]) -> str:
    """Returns the page: what it ran on, a table for each kind of row, and what did not run."""
    rows = compared(report["rows"])
    device = report.get("device", "no device told")
    lines = [
        f"# One GPU, {report['date'][:10]}",
        "",
        f"{device}; {report['host']}; {report.get('versions', '')}".rstrip("; ") + ".",
        f"{'Toy sizes: times mean nothing. ' if report['toy'] else ''}Took {report.get('seconds', 0):.0f} s.",
    ]
    for kind, columns in _COLUMNS.items():
        of_kind = [row for row in rows if row["kind"] == kind]
        if of_kind:
            lines += ["", f"## {_TITLES[kind]}", "", _line(heading for heading, _, _ in columns)]
            lines.append("|" + "---|" * len(columns))
            lines += [_line(_shown(row.get(key), form) for _, key, form in columns) for row in of_kind]
    if report["failures"]:
        lines += ["", "## What did not come to its end", ""]
        lines += [f"- {failure['part']}: {failure['reason']}" for failure in report["failures"]]
    return "\n".join(lines) + "\n"


def compared(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the rows with what two of them make together: shares of the measured rate, and ratios of sides."""
    best = max((row["tflops"] for row in rows if row["kind"] == "matmul"), default=None)
    peers = {(row["kind"], row["model"]): row["tokens_per_second"] for row in rows if row.get("side") == "transformers"}
    found = []
    for row in rows:
        added: dict[str, Any] = {}
        if row["kind"] == "train" and best is not None and "flops" in row:
            added["mfu_measured"] = row["flops"] / row["seconds"] / (best * 1e12)
        peer = peers.get((row["kind"], row.get("model")))
        if row.get("side") == "triarch" and peer is not None:
            added["ratio"] = row["tokens_per_second"] / peer
        found.append(row | added)
    return found


def _line(cells: Any) -> str:
    return "| " + " | ".join(cells) + " |"


def _shown(value: Any, form: str) -> str:
    if value is None:
        return ""
    return "yes" if value is True else "no" if value is False else format(value, form)
