"""`triarch VERB`: finds the verb's file, runs it, and turns what goes wrong into one line."""

from __future__ import annotations

import argparse
import importlib
import json
import keyword
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from triarch.cli import environment, faults, outputs, remote, streams
from triarch.cli.modules import add_module_argument, import_modules
from triarch.errors import nearest
from triarch.files import write_whole

VERBS = {
    "prepare": "tokenize a SeqIO task into a token store",
    "inspect": "show what a token store holds",
    "order": "which documents made up any steps of a run: file, line, bytes, tokens",
    "train": "train a model, or resume a run",
    "evaluate": "held-out loss of a run or an export",
    "extrapolate": "loss on texts longer than those trained on, with figures",
    "attention": "how local, how even and of what rank attention is, with maps and figures",
    "generate": "text out of a run, an export or an imported model",
    "embed": "texts to vectors, with a run, an export or an imported model",
    "describe": "parameters, FLOPs, memory and the resolved config of a model or run",
    "plan": "whether a run fits a TPU slice, what it would cost there, by the TPU compiler",
    "coordinates": "how far activations move in the first updates, by width: muP's coordinate check",
    "sweep": "prepare, train, evaluate and export every run of a study",
    "fit": "fit a scaling law to a CSV table",
    "report": "write the one-page report of a study",
    "export": "write a run's parameters as a self-describing checkpoint, or for Hugging Face",
    "import": "take a Hugging Face model as an export",
}
# What a shell reports of a program that SIGPIPE ends.
READER_LEFT = 141
_USAGE_ERROR = 2


class _Parser(argparse.ArgumentParser):
    """Answers a misspelt flag with the nearest right one."""

    def error(self, message: str) -> NoReturn:
        prefix = "unrecognized arguments: "
        if message.startswith(prefix):
            flag = message.removeprefix(prefix).split()[0].split("=")[0]
            known = [option for action in self._actions for option in action.option_strings if len(option) > 2]
            message = f"unknown argument {flag}{nearest(flag, known)}"
        self.exit(_USAGE_ERROR, f"{self.prog}: error: {message}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb; returns the process's exit status.

    0, 1 for a user's mistake, a full disk or too little memory, 2 for a misused command line, 70 for a fault of triarch
    itself, 128 + its number for a signal.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    verb, flags = (argv[0], argv[1:]) if argv else (None, [])
    args = argparse.Namespace()
    try:
        if verb is not None and verb in VERBS:
            _run(verb, flags, args)
            return 0
        return _without_verb(verb)
    except (Exception, KeyboardInterrupt) as error:
        if isinstance(error, OSError) and streams.output_failed(error) and isinstance(error, BrokenPipeError):
            return READER_LEFT
        return faults.report(verb or "", error, flags, args)


def _without_verb(word: str | None) -> int:
    if word in (None, "-h", "--help", "help"):
        print(_overview(), flush=True)
        return 0 if word else _USAGE_ERROR
    if word == "--version":
        from triarch.version import __version__

        print(f"triarch {__version__}", flush=True)
        return 0
    print(f"triarch: error: no verb {word!r}{nearest(word, VERBS)}", file=sys.stderr)
    return _USAGE_ERROR


def parser_of(verb: str) -> tuple[Any, argparse.ArgumentParser]:
    """Returns a verb's module and the parser of its flags."""
    module = importlib.import_module(f"triarch.cli.verbs.{verb}{'_' if keyword.iskeyword(verb) else ''}")
    parser = _Parser(
        prog=f"triarch {verb}",
        description=module.HELP,
        epilog=f"example:\n{module.EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    add_module_argument(parser)
    parser.add_argument("--json", metavar="PATH", help="also write the result as JSON, to a file or to '-'")
    parser.add_argument("--debug", action="store_true", help="show where an error comes from, in full")
    return module, parser


def _run(verb: str, argv: list[str], args: argparse.Namespace) -> None:
    """Runs a verb; `args` receives its flags."""
    faults.check_texts(argv)
    module, parser = parser_of(verb)
    takes_gin = any(action.dest == "_gin" for action in parser._actions)
    bindings = [argument for argument in argv if argument.startswith("--gin.")] if takes_gin else []
    parser.parse_args([argument for argument in argv if argument not in bindings], args)
    args.gin_bindings = [binding.removeprefix("--gin.") for binding in bindings]
    outputs.check_values(parser, argv)
    outputs.check_numbers(args)
    environment.configure()
    with remote.staged(verb, args) as places:
        if args.json is not None and args.json != "-":
            outputs.check_file("json", args.json)
        os.environ.update(getattr(module, "ENVIRONMENT", {}))
        if args.module and hasattr(module, "before_modules"):
            module.before_modules()
        import_modules(args.module)
        result = module.run(args)
        if args.json and result is not None:  # Of several processes the first has a result.
            _write_json(result, args.json, places.named)
        sys.stdout.flush()


def _write_json(result: dict, path: str, named: Callable[[str], str]) -> None:
    text = named(json.dumps(_without_nan(result), indent=2, allow_nan=False, default=str)) + "\n"
    if path == "-":
        print(text, end="")
        return
    write_whole(Path(path), text)


def _without_nan(value: Any) -> Any:
    """Returns a result with None for what is infinite or no number, which JSON has no word for."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _overview() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:{width}}  {does}" for verb, does in VERBS.items())
    return (
        "triarch trains encoder-only, decoder-only and encoder-decoder language models under one recipe.\n\n"
        f"usage: triarch VERB [--flags]\n\nverbs:\n{verbs}\n\n'triarch VERB --help' explains a verb, with an example."
    )
