"""Mistakes in gin files and bindings."""

from __future__ import annotations

from collections.abc import Iterator

from tests.bad_input.case import DAMAGES, Case, case, edited
from tests.bad_input.samples import RUN

# A line added to a run's file, and what the answer must mention.
LINES = {
    "a misspelt class": ("ModleConfig.d_model = 16", "ModleConfig"),
    "a class in lower case": ("modelconfig.d_model = 16", "modelconfig"),
    "a misspelt field": ("ModelConfig.d_modle = 16", "d_modle"),
    "a field of another framework": ("ModelConfig.hidden_size = 16", "hidden_size"),
    "a misspelt reference": ("RunConfig.objective = @CasualLM()", "CasualLM"),
    "an unknown optimizer": ("RunConfig.optimizer = @Lion()", "Lion"),
    "an unknown macro": ("ModelConfig.d_model = %WIDTH", "WIDTH"),
    "no value": ("ModelConfig.d_model =", "line"),
    "no name": ("= 16", "line"),
    "no equals sign": ("ModelConfig.d_model 16", "line"),
    "two equals signs": ("ModelConfig.d_model == 16", "line"),
    "a colon": ("ModelConfig.d_model: 16", "line"),
    "an open string": ("DataConfig.store = 'store", "line"),
    "an open list": ("DataConfig.store = (1, 2", "line"),
    "a bare word": ("ModelConfig.norm = rmsnorm", "line"),
    "a sum": ("ModelConfig.d_model = 8 + 8", "line"),
    "a call": ("ModelConfig.d_model = int('16')", "line"),
    "a comparison": ("ModelConfig.d_model = 16 > 8", "line"),
    "a file of Python": ("import os", "import"),
    "an import of a module": ("import subprocess", "import"),
    "from a module": ("from subprocess import getoutput", "line"),
    "dynamic registration": ("from __gin__ import dynamic_registration\nimport subprocess", "line"),
    "a function of the system": ("ModelConfig.d_model = @os.getpid()", "os.getpid"),
    "a shell's output": ("DataConfig.store = @subprocess.getoutput()", "subprocess.getoutput"),
    "a function of gin": ("ModelConfig.d_model = @gin.query_parameter()", "query_parameter"),
    "a missing file": ("include 'runs/nowhere.gin'", "nowhere.gin"),
    "a misspelt file": ("include 'runs/rnu.gin'", "rnu.gin"),
    "a folder": ("include 'runs'", "runs"),
    "no file's name": ("include ''", "gin"),
    "a file without quotes": ("include runs/run.gin", "line"),
    "a file of the system": ("include '/etc/passwd'", "/etc/passwd"),
    "a file above": ("include '../../../../../../../etc/passwd'", "passwd"),
    "itself": ("include 'run.gin'", "run.gin"),
    "a URL": ("include 'https://example.org/run.gin'", "example.org"),
    "JSON": ('{"ModelConfig": {"d_model": 16}}', "line"),
    "YAML": ("ModelConfig:\n  d_model: 16", "line"),
    "a decorator": ("@gin.configurable\ndef f(): pass", "line"),
    "a control character": ("ModelConfig.d_model = \x01", "line"),
    "a NUL": ("ModelConfig.d_model = 1\x006", ""),
    "a no-break space": ("ModelConfig.d_model\xa0= 16", "line"),
    "a typographic quote": ("DataConfig.store = \u2018store\u2019", "line"),
    "nested lists": ("DataConfig.store = " + "[" * 3000 + "]" * 3000, ""),
    "an integer of 5,000 digits": (f"ModelConfig.d_model = {'9' * 5000}", ""),
    "an integer of 30 digits": (f"ModelConfig.d_model = {'9' * 30}", "d_model"),
    "10^9 layers": ("ModelConfig.num_decoder_layers = 1000000000", "num_decoder_layers"),
    "a learning rate of infinity": ("Constant.peak = 1e999", "peak"),
    "a scope that nothing has": ("RunConfig.model = @tiny/ModelConfig", "RunConfig.model"),
    "a value that refers to itself": ("ModelConfig.rope_scaling = @RopeScaling()", "RopeScaling"),
    "a class as a value": ("RunConfig.model = @ModelConfig", "RunConfig.model"),
    "a merge conflict": ("<<<<<<< HEAD\nModelConfig.d_model = 16\n=======", "line"),
    "a shell's variable": ("DataConfig.store = $STORE", "line"),
    "two values": ("ModelConfig.d_model = 16, 32", "d_model"),
    "a very long line": (f"ModelConfig.{'d' * 100_000} = 16", "ModelConfig"),
}
# A binding of the command line, and what the answer must mention.
BINDINGS = (
    ("ModelConfig.d_modle=16", "d_modle"),
    ("ModleConfig.d_model=16", "ModleConfig"),
    ("steps=7", "steps"),
    ("batch_size=2", "batch_size"),
    ("RunConfig=3", "RunConfig"),
    ("RunConfig.steps", "RunConfig.steps"),
    ("RunConfig.steps=", "RunConfig.steps"),
    ("=7", ""),
    ("RunConfig.=7", ""),
    (".steps=7", ""),
    ("RunConfig.steps=many", "RunConfig.steps"),
    ("RunConfig.steps=1e3", "RunConfig.steps"),
    ("RunConfig.steps=[7", ""),
    ("RunConfig.steps=@os.getpid()", "os.getpid"),
    ("RunConfig.steps=%STEPS", "STEPS"),
    ("RunConfig.steps=__import__('os').getpid()", ""),
    ("RunConfig.steps=7;import os", ""),
    ("RunConfig steps=7", ""),
    ("RunConfig..steps=7", ""),
    ("a/b/RunConfig.stepps=7", "stepps"),
    ("runconfig.steps=7", "runconfig"),
    ("RunConfig.model.d_model=7", ""),
    ("ModelConfig.activation=gleu", "gleu"),
    ("AxisRules.paramters=7", "paramters"),
    ("MeshConfig.fsdp2=7", "fsdp2"),
    ("Study.sizes=('1b',)", ""),
)
# What a file needs and lacks: the line without which it is incomplete.
LACKING = (
    ("ModelConfig.vocab_size", "ModelConfig.vocab_size"),
    ("ModelConfig.d_model", "ModelConfig.d_model"),
    ("ModelConfig.head_dim", "ModelConfig.head_dim"),
    ("DataConfig.window", "DataConfig.window"),
    ("RunConfig.data", "RunConfig.data"),
    ("RunConfig.steps", "RunConfig.steps"),
    ("RunConfig.batch_size", "RunConfig.batch_size"),
    ("RunConfig.optimizer", "RunConfig.optimizer"),
    ("AdamW.learning_rate", "AdamW.learning_rate"),
    ("Constant.peak", "Constant.peak"),
    ("include 'objectives", "RunConfig.objective"),
)
FILES = (
    ("describe --gin_file=nowhere.gin", "nowhere.gin"),
    ("describe --gin_file=models/redllm/1bn.gin", "1b"),
    ("describe --gin_file=models/redlm/1b.gin", "redllm"),
    ("describe --gin_file=models", "models"),
    ("describe --gin_file=", "gin"),
    ("describe --gin_file=.", ""),
    ("describe --gin_file=model.json", "model.json"),
    ("describe --gin_file=objectives/causal_lm.gin", "RunConfig.model"),
    ("train --workdir=run --gin_file=models/redllm/9b.gin", "9b.gin"),
    ("plan --topology=v5p:2x2x1 --gin_file=nowhere.gin", "nowhere.gin"),
    ("inspect store --gin_file=nowhere.gin", "nowhere.gin"),
    ("order --steps=0 --gin_file=nowhere.gin", "nowhere.gin"),
)


def cases() -> Iterator[Case]:
    """Yields the cases."""
    for name, (line, says) in LINES.items():
        yield case(f"gin line: {name}", "describe --gin_file=run.gin", says, files={"run.gin": f"{RUN}{line}\n"})
    for binding, says in BINDINGS:
        command = f'describe --gin_file=run.gin "--gin.{binding}"'
        yield case(f"gin binding: {binding}", command, says, takes="run.gin")
    for start, says in LACKING:
        text = "\n".join(line for line in RUN.splitlines() if not line.startswith(start))
        yield case(f"gin file without {start}", "describe --gin_file=run.gin", says, files={"run.gin": text})
    for command, says in FILES:
        yield case(f"gin: {command}", command, says)
    for name, damage in DAMAGES.items():
        make = edited("run.gin", damage)
        if name not in ("cut in half",):
            says = "run.gin" if name != "empty" else "RunConfig.objective"
            yield case(f"gin file: {name}", "describe --gin_file=run.gin", says, takes="run.gin", make=make)
