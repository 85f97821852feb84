"""Study files for `sweep` and `describe` with mistakes."""

from __future__ import annotations

from collections.abc import Iterator

from tests.bad_input.case import Case, case, damaged
from tests.bad_input.samples import SWEEP

SWEEP_IT = "sweep --study=sweep.gin --output=out"
FIELDS = (
    ("families", ("()", "'decllm'", "('decllm', 'decllm')", "('dcllm',)", "None", "(7,)")),
    ("labels", ("()", "('A', 'B')", "'DecLLM'", "None")),
    ("sizes", ("()", "('tinny_s',)", "('tiny_s', 'tiny_s')", "'tiny_s'", "7", "@Ladder")),
    ("settings", ("'nowhere.gin'", "None", "7", "''")),
    ("corpora", ("()", "'stdlib_code'", "(@Corpus,)", "None")),
    ("budget", ("1e18", "@IsoFlop", "'chinchilla'", "@Ladder()")),
    ("learning_rates", ("1e-3", "(1e-3, 1e-3)", "('high',)", "(-1e-3,)")),
    ("batch_sizes", ("8", "(8, 8)", "(0,)", "(8.5,)")),
    ("seeds", ("1", "(1, 1)", "(-1,)", "('a',)")),
    ("warmup_fraction", ("1.0", "-0.1", "'some'")),
    ("vocabulary_size", ("'4k'", "4.5")),
    ("window", ("0", "-64", "1.5")),
    ("max_windows", ("0", "'all'")),
    ("parallel", ("0", "-1", "'all'")),
    ("attempts", ("0", "1.5")),
    ("exports", ("1", "'yes'")),
    ("title", ("7", "None")),
    ("tittle", ("'A study'",)),
)
# What is found out in the runs or files that these name is told with their names.
BY_THE_RUN = ("families", "sizes", "settings", "learning_rates", "batch_sizes", "seeds")
LINES = (
    ("Ladder.targets = ()", "Ladder.targets"),
    ("Ladder.targets = (9e3, 9e3)", "Ladder.targets"),
    ("Ladder.targets = (-1.0,)", "Ladder.targets"),
    ("Ladder.targets = 'small'", "Ladder.targets"),
    ("IsoFlop.budgets = ()", "IsoFlop.budgets"),
    ("IsoFlop.budgets = (0.0,)", "IsoFlop.budgets"),
    ("IsoFlop.budgets = (1e-3,)", ""),
    ("IsoFlop.bugdets = (1e10,)", "bugdets"),
    ("Corpus.role = 'in-domain'", "Corpus.role"),
    ("Corpus.taks = 'stdlib_code'", "taks"),
    ("text/Corpus.role = 'out_of_domain'", "in_domain"),
    ("text/Corpus.store = 'nowhere'", "nowhere"),
)
FLAGS = (
    ("sweep --study=nowhere.gin --output=out", "nowhere.gin"),
    ("sweep --study=sweeep.gin --output=out", "sweeep.gin"),
    ("sweep --study= --output=out", ""),
    ("sweep --study=. --output=out", ""),
    ("sweep --study=run.gin --output=out", "Study"),
    ("sweep --study=models/redllm/1b.gin --output=out", "Study"),
    ("sweep --study=sweep.gin --output=out --parallel=0", "--parallel"),
    ("sweep --study=sweep.gin --output=out --parallel=-2", "--parallel"),
    ("sweep --study=sweep.gin --output=text.txt", "text.txt"),
    ("sweep --study=sweep.gin --output=text.txt/out", "text.txt"),
    ("sweep --study=sweep.gin --output=", "--output"),
    ("sweep --study=sweep.gin --output=out --commands=missing/list.txt", "missing"),
    ("sweep --study=sweep.gin --output=out --commands=.", "--commands"),
    ("sweep --study=sweep.gin --output=out --commands=text.txt/list", "--commands"),
    ("sweep --study=sweep.gin --output=out --gin.Study.parallel=0", "Study.parallel"),
    ("sweep --study=sweep.gin --output=out --gin.Study.paralel=2", "parallel"),
    ("describe --gin_file=sweep.gin --topology=v5p:4x4x5", "v5p:4x4x5"),
    ("describe --gin_file=sweep.gin --topology=v5p:4x4x4 --mfu=0", "--mfu"),
    ("describe --gin_file=sweep.gin --topology=v5p:4x4x4 --mfu=1.5", "--mfu"),
    ("describe --gin_file=sweep.gin --topology=v5p:4x4x4 --mfu=nan", "--mfu"),
    ("describe --gin_file=run.gin --topology=v5p:4x4x4", "--topology"),
)


def cases() -> Iterator[Case]:
    """Yields the cases."""
    for field, values in FIELDS:
        for value in values:
            files = {"sweep.gin": f"{SWEEP}Study.{field} = {value}\n"}
            says = "" if field in BY_THE_RUN else field
            yield case(f"study: {field} = {value}", SWEEP_IT, says, takes="settings.gin", files=files)
    for number, (lines, says) in enumerate(LINES):
        name = f"study line {number}: {lines.splitlines()[-1]}"
        yield case(name, SWEEP_IT, says, takes="settings.gin", files={"sweep.gin": f"{SWEEP}{lines}\n"})
    for command, says in FLAGS:
        yield case(f"study: {command}", command, says, takes="sweep.gin settings.gin run.gin text.txt")
    yield from damaged("study file", "sweep.gin", SWEEP_IT, "", takes="sweep.gin", without=("cut in half",))
