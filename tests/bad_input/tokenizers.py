"""Vocabularies for `prepare` that are damaged, of another kind, or do not go together with flags."""

from __future__ import annotations

from collections.abc import Iterator

from tests.bad_input.case import Case, bad_json, case, damaged, json_values

PREPARE = "prepare --task=files --files=text.txt --output=new --window=32 --workers=1 --documents=line"
OTHER = f"{PREPARE} --vocabulary=tokenizer.json"
FLAGS = (
    ("--vocabulary=byte", "byte"),
    ("--vocabulary=sentence_piece", "sentence_piece"),
    ("--vocabulary=gpt2", "gpt2"),
    ("--vocabulary=nowhere.model", "nowhere.model"),
    ("--vocabulary=nowhere/tokenizer.json", "tokenizer.json"),
    ("--vocabulary=text.txt", "text.txt"),
    ("--vocabulary=store", "--vocabulary_from"),
    ("--vocabulary=empty", "empty"),
    ("--vocabulary=", "--vocabulary"),
    ("--vocabulary=table.csv", "table.csv"),
    ("--vocabulary=table.json", "table.json"),
    ("--vocabulary_from=nowhere", "nowhere"),
    ("--vocabulary_from=tokenizer.json", "tokenizer.json"),
    ("--vocabulary_from=store --vocabulary=bytes", "--vocabulary"),
    ("--vocabulary=bytes --add_mask", "--add_mask"),
    ("--vocabulary=bytes --add_sentinels=-1", "add_sentinels"),
    ("--vocabulary=bytes --add_sentinels=100000000", "sentinels"),
    ("--vocabulary_size=0", "vocabulary"),
    ("--vocabulary_size=-5", "vocabulary"),
    ("--vocabulary_size=99999999999", "vocabulary_size"),
    ("--vocabulary_size=10", "10"),
    ("--vocabulary_size=10000000", "10000000"),
    ("--vocabulary_model=word", "word"),
    ("--vocabulary_model=BPE", "BPE"),
)
# Places in a tokenizer.json, and values that do not belong there.
VALUES = (
    ("model", (None, 7, [], {}, "BPE")),
    ("model.type", ("WordLevel2", None, 7)),
    ("model.vocab", ({}, None, [], {"a": -1}, {"a": "b"}, {"a": 2**40})),
    ("model.merges", (None, 7, ["a"], [["a", "zz"]])),
    ("model.unk_token", (7, [])),
    ("added_tokens", (None, 7, [{}], [{"id": -1, "content": "x"}], "none")),
    ("added_tokens.0.id", (-1, "0", None, 10**12)),
    ("added_tokens.0.content", (None, 7)),
    ("normalizer", (7, {"type": "Unknown"}, [])),
    ("pre_tokenizer", (7, {"type": "Split"}, {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated"})),
    ("post_processor", (7, {"type": "TemplateProcessing"})),
    ("decoder", (7, {"type": "Unknown"})),
    ("truncation", (7, "longest")),
    ("padding", (7,)),
)


def cases() -> Iterator[Case]:
    """Yields the cases."""
    takes = "text.txt store tokenizer.json table.csv"
    for flags, says in FLAGS:
        make = lambda folder: (folder.path / "empty").mkdir()  # noqa: E731
        files = {"table.json": {"a": [1, 2]}}
        yield case(f"tokenizer: {flags}", f"{PREPARE} {flags}", says, takes=takes, make=make, files=files)
    name, lacking = "tokenizer.json", ("model", "model.vocab", "added_tokens.0.content")
    yield from json_values(name, name, OTHER, name, takes=f"text.txt {name}", values=VALUES, lacking=lacking)
    yield from bad_json(name, name, OTHER, name, takes="text.txt")
    for file in (name, "spiece.model"):
        yield from damaged(file, file, f"{PREPARE} --vocabulary={file}", file, takes=f"text.txt {file}")
