"""Small whole inputs of every kind, made once, from which bad ones are made."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import shutil
from pathlib import Path

from safetensors.numpy import save_file

from tests.interchange.huggingface import folders
from tests.report import study_folder
from tests.tokenizers import huggingface
from triarch.cli.main import main

WINDOW = 32
TEXT = "".join(f"Line {number} says that {number} and {number} are {2 * number}.\n" for number in range(120))
MODEL = """ModelConfig.vocab_size = 320
ModelConfig.d_model = 16
ModelConfig.d_ff = 32
ModelConfig.num_heads = 2
ModelConfig.head_dim = 8
ModelConfig.num_decoder_layers = 1
"""
RUN = f"""include 'runs/run.gin'
include 'objectives/causal_lm.gin'
{MODEL}
DataConfig.window = {WINDOW}
DataConfig.store = 'store'
RunConfig.data = @DataConfig()
RunConfig.steps = 2
RunConfig.batch_size = 4
RunConfig.log_every = 1
RunConfig.tensorboard = False
RunConfig.optimizer = @AdamW()
AdamW.learning_rate = @Constant()
Constant.peak = 1e-3
Constant.warmup_steps = 0
"""
SWEEP = """Study.title = 'A study'
Study.question = 'Which size is best?'
Study.families = ('decllm',)
Study.labels = ('DecLLM',)
Study.sizes = @Ladder()
Study.budget = @IsoFlop()
Study.settings = 'settings.gin'
Study.corpora = (@text/Corpus(),)
Study.vocabulary = 'bytes'
Study.window = 32
Study.warmup_fraction = 0.1
text/Corpus.task = 'stdlib_prose'
Ladder.targets = (9e3, 28e3)
Ladder.between = ('tiny_s', 'tiny_m')
Ladder.measure = 'params_non_embedding'
Ladder.d_ff_multiple = 8
IsoFlop.budgets = (1e10, 2e10)
"""
SETTINGS = f"""ModelConfig.vocab_size = 320
DataConfig.window = {WINDOW}
RunConfig.batch_size = 4
"""
TABLE = "name,N,D,C,loss\n" + "".join(
    f"r{n}{d},{n * 10**6},{d * 10**8},{6 * n * d * 10**14},{1.7 + 400 / (n * 1e6) ** 0.34 + 410 / (d * 1e8) ** 0.28}\n"
    for n in (1, 3, 10, 30)
    for d in (2, 5, 20)
)


class Samples:
    """The folders and files, by name; each is made when it is first asked for.

    `store` (prepared from a text, bytes), `run` (two steps of a decoder), `export` (of that run), `hf` (a Llama with a
    tokenizer), `study` (finished), `tokenizer.json`, `spiece.model`, `run.gin`, `sweep.gin` with its
    `settings.gin`, `table.csv`, `text.txt`.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def path(self, name: str) -> Path:
        """Returns where the sample of this name lies."""
        return _made(self.folder, name)


@functools.cache
def _made(folder: Path, name: str) -> Path:
    _MAKERS[name](folder, folder / name)
    return folder / name


def _store(folder: Path, path: Path) -> None:
    text = _made(folder, "text.txt")
    flags = ("--documents=line", "--vocabulary=bytes", f"--window={WINDOW}", "--workers=1")
    _succeed("prepare", "--task=files", f"--files={text}", f"--output={path}", "--validation_fraction=0.2", *flags)


def _run(folder: Path, path: Path) -> None:
    gin, store = _made(folder, "run.gin"), _made(folder, "store")
    _succeed("train", f"--gin_file={gin}", f"--gin.DataConfig.store='{store}'", f"--workdir={path}")


def _export(folder: Path, path: Path) -> None:
    _succeed("export", f"--workdir={_made(folder, 'run')}", f"--output={path}")


def _hf(folder: Path, path: Path) -> None:
    tokenizer = huggingface.LAYOUTS["gpt2"]()
    size = tokenizer.get_vocab_size()
    tensors = folders.llama_tensors()
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        tensors[name] = tensors[name].repeat(-(-size // folders.VOCAB), 0)[:size]
    path.mkdir()
    save_file(tensors, path / "model.safetensors", {"format": "pt"})
    shutil.copy(_made(folder, "tokenizer.json"), path)
    (path / "config.json").write_text(json.dumps(folders.LLAMA | {"vocab_size": size}))
    (path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|endoftext|>"}))


def _sentencepiece(folder: Path, path: Path) -> None:
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT.splitlines()), model_writer=model, vocab_size=80, hard_vocab_limit=False,
        byte_fallback=False, minloglevel=2, normalization_rule_name="identity",
    )  # fmt: skip
    path.write_bytes(model.getvalue())


def _written(content: str):
    return lambda folder, path: path.write_text(content)


_MAKERS = {
    "store": _store,
    "run": _run,
    "export": _export,
    "hf": _hf,
    "study": lambda folder, path: study_folder.write_study(path),
    "tokenizer.json": lambda folder, path: huggingface.LAYOUTS["gpt2"]().save(str(path)),
    "spiece.model": _sentencepiece,
    "run.gin": _written(RUN),
    "sweep.gin": _written(SWEEP),
    "settings.gin": _written(SETTINGS),
    "table.csv": _written(TABLE),
    "text.txt": _written(TEXT),
}


def _succeed(*argv: str) -> None:
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        status = main(argv)
    assert status == 0, output.getvalue()


def linked(source: Path, destination: Path) -> None:
    """Gives a sample a second place by hard links; a file there is changed by writing a new one in its place."""
    if source.is_dir():
        shutil.copytree(source, destination, copy_function=os.link)
    else:
        os.link(source, destination)
