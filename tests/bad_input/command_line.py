"""Mistakes on the command line itself: verbs, flags, and values that are no numbers."""

from __future__ import annotations

from collections.abc import Iterator

from tests.bad_input.case import Case, case

# What people type, and the verb they are to be led to.
VERBS = {
    "trian": "train",
    "Train": "train",
    "training": "train",
    "eval": "evaluate",
    "evalute": "evaluate",
    "preprare": "prepare",
    "genrate": "generate",
    "sweeps": "sweep",
    "exprot": "export",
    "descibe": "describe",
    "reprot": "report",
    "fitt": "fit",
    "--workdir=run": "train",
    "": "train",
}
# A flag of each verb as people misspell it, and the right one.
FLAGS = (
    ("prepare", "--task=files --ouput=s", "--output"),
    ("prepare", "--task=files --output=s --vocabulary_sise=300", "--vocabulary_size"),
    ("prepare", "--task=files --output=s --validation-fraction=0.1", "--validation_fraction"),
    ("inspect", "store --exmaples=2", "--examples"),
    ("order", "run --steps=0 --hosts=0/1", "--host"),
    ("train", "--workdri=run", "--workdir"),
    ("train", "--workdir=run --gin_fiel=a.gin", "--gin_file"),
    ("train", "--workdir=run --num_procceses=2", "--num_processes"),
    ("evaluate", "--model=run --indomain=store", "--in_domain"),
    ("evaluate", "--model=run --batchsize=2", "--batch_size"),
    ("extrapolate", "--model=run --store=store --output=x --batchsize=2", "--batch_size"),
    ("attention", "--model=run --store=store --output=x --lenght=8", "--length"),
    ("generate", "--model=run --prompts=hello", "--prompt"),
    ("generate", "--model=run --prompt=hello --temprature=1", "--temperature"),
    ("generate", "--model=run --prompt=hello --topk=3", "--top_k"),
    ("embed", "run --input=t.txt --output=v.npy --poolnig=cls", "--pooling"),
    ("describe", "--gin_files=models/redllm/1b.gin", "--gin_file"),
    ("plan", "--gin_file=models/redllm/1b.gin --topolgy=v5p:4x4x4", "--topology"),
    ("sweep", "--studdy=a.gin --output=x", "--study"),
    ("fit", "t.csv --law=power --x_colum=N", "--x_column"),
    ("report", "--study=study --ouptut=r.html", "--output"),
    ("export", "--workdir=run --outptu=e", "--output"),
    ("export", "--workdir=run --output=e --formt=orbax", "--format"),
    ("import", "hf --output=e --overwite", "--overwrite"),
)
MISSING = (
    ("prepare", "", "--task"),
    ("prepare", "--task=files", "--output"),
    ("order", "run", "--steps"),
    ("train", "", "--workdir"),
    ("train", "--workdir=run", "--gin_file"),
    ("evaluate", "", "--model"),
    ("evaluate", "--model=run", "--in_domain"),
    ("extrapolate", "", "--model"),
    ("attention", "", "--model"),
    ("embed", "run --output=v.npy", "--input"),
    ("generate", "", "--model"),
    ("generate", "--model=run", "prompt"),
    ("describe", "", "--gin_file"),
    ("plan", "", "--topology"),
    ("plan", "--topology=v5p:4x4x4", "--gin_file"),
    ("sweep", "", "--study"),
    ("sweep", "--study=a.gin", "--output"),
    ("fit", "t.csv", "--law"),
    ("report", "--output=r.html", "--study"),
    ("report", "--study=study", "--output"),
    ("export", "", "--workdir"),
    ("export", "--workdir=run", "--output"),
    ("import", "--output=e", "FOLDER"),
    ("import", "hf", "--output"),
    ("inspect", "", "store"),
)
# Flags that hold numbers, each with a command that they belong to.
INTEGERS = (
    ("prepare --task=files --files=a.txt --output=s", "window"),
    ("prepare --task=files --files=a.txt --output=s", "vocabulary_size"),
    ("prepare --task=files --files=a.txt --output=s", "workers"),
    ("prepare --task=files --files=a.txt --output=s", "max_targets"),
    ("prepare --task=files --files=a.txt --output=s", "add_sentinels"),
    ("inspect store", "examples"),
    ("inspect store", "first"),
    ("train --workdir=run --gin_file=run.gin", "num_processes"),
    ("train --workdir=run --gin_file=run.gin", "process_id"),
    ("evaluate --model=run --in_domain=store", "batch_size"),
    ("extrapolate --model=run --in_domain=store", "trained_length"),
    ("attention --model=run --store=store", "example"),
    ("generate --model=run --prompt=hello", "max_new_tokens"),
    ("generate --model=run --prompt=hello", "num_beams"),
    ("plan --topology=v5p:4x4x4 --gin_file=models/redllm/1b.gin", "batch_size"),
    ("sweep --study=sweep.gin --output=x", "parallel"),
    ("fit table.csv --law=power --x_column=N", "bootstraps"),
    ("report --study=study --output=r.html", "seed"),
    ("export --workdir=run --output=e", "step"),
)
NO_INTEGERS = ("many", "1.5", "1e3", "0x10", "12tokens", "")
NUMBERS = (
    ("prepare --task=files --files=a.txt --output=s", "validation_fraction"),
    ("generate --model=run --prompt=hello", "temperature"),
    ("generate --model=run --prompt=hello", "top_p"),
    ("fit table.csv --law=power --x_column=N", "confidence"),
    ("attention --model=run --store=store", "rank_threshold"),
    ("train --workdir=run --gin_file=run.gin", "stall_timeout"),
)
NO_NUMBERS = ("half", "10%", "0,5")
# Without a value, or with one where none is taken.
SHAPES = (
    ("prepare --task", "--task"),
    ("prepare --task=files --output=s --overwrite=yes", "--overwrite"),
    ("train --workdir=run --gin_file", "--gin_file"),
    ("generate --model=run --prompt", "--prompt"),
    ("generate --model=run --prompt=a --ignore_eos=1", "--ignore_eos"),
    ("plan --topology=v5p:4x4x4 --search=4", "--search"),
    ("fit table.csv other.csv --law=power --x_column=N", "other.csv"),
    ("export run --output=e", "--workdir"),
    ("describe models/redllm/1b.gin", "models/redllm/1b.gin"),
    ("inspect store store", "store"),
    ("report study --output=r.html", "--study"),
    ("fit table.csv --law=linear", "linear"),
    ("fit table.csv --law=power --x_column=N --offset=none", "none"),
    ("fit table.csv --law=power --x_column=N --loss_in=nat", "nat"),
    ("plan --topology=v5p:4x4x4 --program=training", "training"),
)


def cases() -> Iterator[Case]:
    """Yields the cases."""
    for typed, meant in VERBS.items():
        name = f"command line: verb {typed or '(empty)'}"
        yield case(name, f"'{typed}'", *([] if not typed or typed.startswith("-") else [typed, meant][:1]))
    for verb, flags, meant in FLAGS:
        yield case(f"command line: {verb} {flags}, {meant}", f"{verb} {flags}", meant)
    for verb, flags, lacking in MISSING:
        yield case(f"command line: {verb} {flags or 'alone'} lacks {lacking}", f"{verb} {flags}", lacking)
    for command, flag in INTEGERS:
        for value in NO_INTEGERS:
            name = f"command line: {command.split()[0]} --{flag}={value}"
            yield case(name, f"{command} --{flag}='{value}'", f"--{flag}")
    for command, flag in NUMBERS:
        for value in NO_NUMBERS:
            name = f"command line: {command.split()[0]} --{flag}={value}"
            yield case(name, f"{command} --{flag}='{value}'", f"--{flag}")
    for command, says in SHAPES:
        yield case(f"command line: {command}", command, says)
