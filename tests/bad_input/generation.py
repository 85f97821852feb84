"""Prompts and settings of `generate` that cannot be followed."""

from __future__ import annotations

from collections.abc import Iterator

from tests.bad_input.case import DAMAGES, Case, case, edited

GENERATE = "generate --model=export"
FLAGS = (
    ("--prompt=", "--prompt"),
    ("--prompt=' '", "--prompt"),
    ("--prompt=hello --prompt=", "--prompt="),
    ("--prompts_file=nowhere.txt", "nowhere.txt"),
    ("--prompts_file=.", ""),
    ("--prompts_file=prompts.txt --prompt=hello", "--prompt"),
    ("--prompts_file=prompts.txt/x", "prompts.txt"),
    ("--prompt=hello --max_new_tokens=0", "max_new_tokens"),
    ("--prompt=hello --max_new_tokens=-5", "max_new_tokens"),
    ("--prompt=hello --temperature=-1", "temperature"),
    ("--prompt=hello --temperature=nan", "temperature"),
    ("--prompt=hello --temperature=inf", "temperature"),
    ("--prompt=hello --temperature=1 --top_k=0", "top_k"),
    ("--prompt=hello --temperature=1 --top_p=0", "top_p"),
    ("--prompt=hello --temperature=1 --top_p=1.5", "top_p"),
    ("--prompt=hello --temperature=1 --top_p=nan", "top_p"),
    ("--prompt=hello --temperature=1 --min_p=-0.1", "min_p"),
    ("--prompt=hello --temperature=1 --min_p=2", "min_p"),
    ("--prompt=hello --num_beams=0", "num_beams"),
    ("--prompt=hello --num_beams=-3", "num_beams"),
    ("--prompt=hello --num_beams=4 --temperature=1", "num_beams"),
    ("--prompt=hello --num_beams=2 --length_penalty=nan", "length_penalty"),
    ("--prompt=hello --batch_size=0", "--batch_size"),
    ("--prompt=hello --seed=-1", "seed"),
    ("--prompt=hello --seed=99999999999999999999", "seed"),
    ("--prompt=hello --stop=", "--stop"),
    ("--prompt=hello --mode=R", "--mode"),
    ("--prompt=hello --mode=Q", "--mode"),
    ("--prompt=hello --step=2", "step"),
    ("--prompt='<extra_id_0>'", "<extra_id_0>"),
    ("--prompt='a <extra_id_99999999999999999999> b'", "extra_id"),
)
MODELS = (
    ("generate --model=nowhere --prompt=hello", "nowhere"),
    ("generate --model=exprot --prompt=hello", "export"),
    ("generate --model=store --prompt=hello", "store"),
    ("generate --model=hf --prompt=hello", "triarch import"),
    ("generate --model=prompts.txt --prompt=hello", "prompts.txt"),
    ("generate --model= --prompt=hello", ""),
)
FILES = {
    "an empty file": ("p.txt", "", "p.txt"),
    "blank lines": ("p.txt", "\n \n\t\n", "p.txt"),
    "not UTF-8": ("p.txt", b"caf\xe9\n", "UTF-8"),
    "UTF-16": ("p.txt", "hello\n".encode("utf-16"), "UTF-8"),
    "no JSON": ("p.jsonl", '{"prompt": "a"}\n{"prompt": \n', "line 2"),
    "plain text": ("p.jsonl", "hello\n", "line 1"),
    "a list": ("p.jsonl", '["a"]\n', "line 1"),
    "another key": ("p.jsonl", '{"text": "a"}\n', "prompt"),
    "a number": ("p.jsonl", '{"prompt": 7}\n', "prompt"),
    "null": ("p.jsonl", '{"prompt": null}\n', "prompt"),
    "an empty prompt": ("p.jsonl", '{"prompt": ""}\n', "empty"),
    "half a character": ("p.jsonl", '{"prompt": "\\ud83d"}\n', "UTF-8"),
    "nested 100,000 deep": ("p.jsonl", '{"prompt": ' + "[" * 100_000 + "\n", "line 1"),
    "an integer of 5,000 digits": ("p.jsonl", '{"prompt": ' + "9" * 5000 + "}\n", "line 1"),
}


def cases() -> Iterator[Case]:
    """Yields the cases."""
    files = {"prompts.txt": "hello\n"}
    for flags, says in FLAGS:
        yield case(f"generate: {flags}", f"{GENERATE} {flags}", says, takes="export", files=files)
    for command, says in MODELS:
        yield case(command, command, says, takes="export store hf", files=files)
    for name, (file, content, says) in FILES.items():
        command = f"{GENERATE} --prompts_file={file}"
        yield case(f"prompts {file}: {name}", command, file, says, takes="export", files={file: content})
    yield case("generate: nothing on standard input", GENERATE, "standard input", takes="export")
    vocabulary = "export/manifest.json"
    for name in ("empty", "a pickle"):
        make = edited(vocabulary, DAMAGES[name])
        yield case(
            f"generate: a manifest that is {name}", f"{GENERATE} --prompt=a", "export", takes="export", make=make
        )
