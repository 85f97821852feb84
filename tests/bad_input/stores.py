"""Token stores that are damaged, incomplete, or something else."""

from __future__ import annotations

from collections.abc import Iterator

from tests.bad_input.case import Case, bad_json, case, damaged, json_set, json_values

MANIFEST = "store/manifest.json"
TRAIN = "train-00000-of-00001.array_record"
DOCUMENTS = "train-documents-00000-of-00001.parquet"
NESTED = {"a": {}}
for _ in range(200):
    NESTED = {"a": NESTED}
# Places in the manifest, and values that do not belong there.
VALUES = (
    ("format", ("triarch.export", None, 1)),
    ("version", (2, 0, "1", None, 1.5, -1, 10**30)),
    ("layout", ("window", "", None, 3, ["windows"], "packed", "pairs")),
    ("window", (0, -32, "32 tokens", None, 1.5, 33, 10**18, [32], True, float("inf"), float("nan"))),
    ("dtype", ("uint8", "int64", "object", None, 16, "uint16\x00")),
    ("task", (None, 7, ["files"])),
    ("vocabulary", (5, None, [], "bytes", {})),
    ("vocabulary.kind", ("pickle", None, 7, "../bytes", "sentencepiece", "huggingface")),
    ("vocabulary.size", (0, -1, "260", None, 10**12, 259.5)),
    ("vocabulary.fingerprint", ("0" * 64, "", None, 7)),
    ("vocabulary.special", (None, [], {}, {"pad": 0}, "none")),
    ("vocabulary.special.eos", (None, -1, 10**9, "1")),
    ("vocabulary.special.mask", (-1, "259", 5000)),
    ("splits", ({}, None, [], "train", 3)),
    ("splits.train", (None, [], {}, 110)),
    ("splits.train.examples", (-1, 0, 111, "110", None, 10**15)),
    ("splits.train.files", (None, {}, [None], ["train"])),
    ("splits.train.files.0.name", ("nowhere.array_record", "/etc/passwd", "../text.txt", "", None, "a\x00b", 7)),
    ("splits.train.files.0.size", (0, -1, 131071, "131072", None, 10**30)),
    ("splits.train.files.0.examples", (-1, 111, "110", None)),
    ("provenance", (7, [], "none", {"train": None}, {"train": {"documents": 7}})),
    ("provenance.train.documents.0.rows", (0, 109)),
    ("provenance.train.pieces", ([{"name": "a", "rows": 1, "size": 0, "sha256": "0" * 64}],)),
    ("provenance.train.documents.0.name", ("nowhere.parquet", "../../etc/passwd", None)),
    ("provenance.train.documents.0.sha256", (7, None)),
    ("source", (None, 7, [], {"token_bytes": 7}, {"token_bytes": {"train": -1}})),
    ("lengths", (7, {"inputs": "many"})),
)
LACKING = (
    *("format", "version", "layout", "window", "dtype", "task", "vocabulary", "splits", "source"),
    *("vocabulary.kind", "vocabulary.size", "vocabulary.fingerprint", "vocabulary.special", "vocabulary.special.eos"),
    *("splits.train.examples", "splits.train.files", "splits.train.files.0.size", "splits.train.files.0.name"),
)
FLAGS = (
    ("inspect stoer", "stoer", "store"),
    ("inspect nowhere", "nowhere", ""),
    ("inspect .", "manifest.json", ""),
    ("inspect text.txt", "text.txt", ""),
    ("inspect store/manifest.json", "manifest.json", ""),
    ("inspect store/vocabulary", "vocabulary", ""),
    ("inspect ''", "", ""),
    ("inspect store --split=tset", "tset", "train"),
    ("inspect store --examples=-1", "--examples", ""),
    ("inspect store --first=-1", "--first", ""),
    ("inspect store --first=5000", "--first", ""),
    ("inspect store --step=-1 --gin_file=run.gin", "--step", ""),
    ("inspect --gin_file=run.gin --gin.DataConfig.store=nowhere", "nowhere", ""),
)


def cases() -> Iterator[Case]:
    """Yields the cases."""
    for command, *says in FLAGS:
        yield case(f"store: {command}", command, *says, takes="store run.gin text.txt")
    about, read = "store manifest", "inspect store"
    yield from json_values(about, MANIFEST, read, "store", takes="store", values=VALUES, lacking=LACKING)
    yield from bad_json(about, MANIFEST, read, "manifest.json", takes="store")
    yield case(
        "store manifest: nested task", "inspect store", "manifest.json", takes="store",
        make=json_set(MANIFEST, "task", NESTED),
    )  # fmt: skip
    for file in ("manifest.json", "token_bytes.npy", TRAIN, DOCUMENTS):
        command = read if file != DOCUMENTS else "order --gin_file=run.gin --steps=0"
        yield from damaged(f"store file {file}", f"store/{file}", command, "store", takes="store run.gin")
    for file in ("token_bytes.npy", TRAIN, DOCUMENTS):
        gone = lambda folder, file=file: folder.remove(f"store/{file}")  # noqa: E731
        yield case(f"store file {file}: missing", "inspect store", file, takes="store", make=gone)

        def as_folder(folder, file=file):
            folder.remove(f"store/{file}")
            (folder.path / "store" / file).mkdir()

        yield case(f"store file {file}: a folder", "inspect store", file, takes="store", make=as_folder)
