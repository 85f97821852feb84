"""A token store in a few lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from triarch.data.manifest import Split, StoreLabels, StoreManifest
    from triarch.data.store import TokenStore


_SHOWN_TASKS = 5
# What to call the examples of each layout.
_EXAMPLES = {
    "windows": "windows",
    "packed": "rows",
    "pairs": "pairs",
    "packed_pairs": "rows",
    "labelled": "texts",
    "groups": "groups",
}


def summary(store: TokenStore) -> list[str]:
    """Returns the lines that `triarch prepare` and `triarch inspect` print of a store: what, vocabulary, splits."""
    manifest = store.manifest
    vocabulary = manifest.vocabulary
    special = ", ".join(_special(name, value) for name, value in vocabulary.special.items())
    lines = [
        f"{store.path}: {manifest.task}, {_layout(manifest)} ({manifest.dtype})",
        f"  vocabulary: {vocabulary.kind}, {vocabulary.size:,} ids ({special}), sha256 {vocabulary.fingerprint[:16]}",
    ]
    for name, split in manifest.splits.items():
        if not split.examples:
            lines.append(f"  {name}: empty")
            continue
        lines.append(
            f"  {name}: {split.documents:,} documents, {split.bytes:,} bytes, {split.tokens:,} tokens "
            f"({split.bytes / split.tokens:.3f} bytes each), {split.examples:,} {_EXAMPLES[manifest.layout]} in "
            f"{len(split.files):,} files, {_rest(manifest, split)}"
        )
    lossy = manifest.source.get("lossy_documents", 0)
    if lossy:
        lines.append(f"  {lossy:,} documents are not kept byte for byte by this vocabulary")
    if parted := manifest.source.get("parted_documents", 0):
        lines.append(f"  {parted:,} long documents were tokenized in parts where that may show in a few tokens")
    for name, tasks in manifest.source.get("tasks", {}).items():
        if tasks:
            shown = ", ".join(sorted(tasks, key=lambda task: (-tasks[task], task))[:_SHOWN_TASKS])
            lines.append(f"  {name}: {len(tasks):,} tasks ({shown}{', ...' if len(tasks) > _SHOWN_TASKS else ''})")
    if cut := manifest.source.get("cut_documents", 0):
        lines.append(f"  {cut:,} documents were cut to fit {dict(manifest.lengths or {}) or manifest.window}")
    return lines + [_left_out(reason, **entry) for reason, entry in manifest.source.get("left_out", {}).items()]


def _layout(manifest: StoreManifest) -> str:
    if manifest.layout == "groups":
        told = manifest.source["groups"]
        negatives = f", {told['num_negatives']} hard negatives" if told["num_negatives"] else ""
        scores = ", scores of a teacher" if manifest.labels is not None else ""
        return f"queries of {told['query_length']:,} tokens, passages of {told['passage_length']:,}{negatives}{scores}"
    if manifest.labels is not None:
        return f"labelled texts of at most {manifest.window:,} tokens, {_labels(manifest.labels)}"
    if manifest.lengths is None:
        kind = "rows of whole documents" if manifest.layout == "packed" else "windows"
        gap = f", {manifest.gap:,} free between documents" if manifest.gap else ""
        return f"{kind} of {manifest.window:,} tokens{gap}"
    sides = " and ".join(f"{most:,} tokens of {side}" for side, most in manifest.lengths.items())
    return f"rows of packed pairs, {sides}" if manifest.layout == "packed_pairs" else f"pairs, at most {sides}"


def _labels(labels: StoreLabels) -> str:
    if labels.names is None:
        return "labels are numbers"
    shown = ", ".join(labels.names[:10]) + (", ..." if len(labels.names) > 10 else "")
    return f"{len(labels.names)} {'classes of words' if labels.kind == 'token_classes' else 'classes'} ({shown})"


def _rest(manifest: StoreManifest, split: Split) -> str:
    if manifest.layout == "windows":
        return f"{split.dropped_tokens:,} tokens left over"
    padding = f"{1 - split.tokens / (split.examples * manifest.window):.1%} padding"
    if manifest.layout in ("pairs", "labelled", "groups"):
        return padding
    return f"{split.documents / split.examples:,.1f} documents each, {padding}"


def _left_out(reason: str, count: int, first: list[str]) -> str:
    return f"  left out: {count:,} {reason}" + (
        f" ({', '.join(first)}{', ...' * (count > len(first))})" if first else ""
    )


def _special(name: str, value: Any) -> str:
    if name == "sentinels":
        first, count = value
        return f"{count} sentinels {first} to {first - count + 1}"
    if name == "modes":
        return ", ".join(f"mode {mode} {index}" for mode, index in value.items())
    return f"{name} {'none' if value is None else value}"
