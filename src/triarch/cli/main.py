"""`triarch VERB`: finds the verb's file, runs it, and turns what goes wrong into one line."""

from __future__ import annotations

import argparse
import errno
import importlib
import json
import keyword
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from triarch.cli import environment
from triarch.errors import UserError, nearest
from triarch.files import write_whole

VERBS = {
    "prepare": "tokenize a SeqIO task into a token store",
    "inspect": "show what a token store holds",
    "order": "which documents made up any steps of a run: file, line, bytes, tokens",
    "train": "train a model, or go on where a run stopped",
    "evaluate": "held-out loss of a run or an export",
    "extrapolate": "loss on texts longer than those trained on, with figures",
    "attention": "how local, how even and of what rank attention is, with maps and figures",
    "generate": "text out of a run, an export or an imported model",
    "describe": "parameters, FLOPs, memory and the resolved config of a model or run",
    "plan": "whether a run fits a TPU slice, what it would cost there, by the TPU compiler",
    "sweep": "prepare, train, evaluate and export every run of a study",
    "fit": "fit a scaling law to a CSV table",
    "report": "write the one-page report of a study",
    "export": "write a run's parameters as a self-describing checkpoint, or for Hugging Face",
    "import": "take a Hugging Face model as an export",
}
# What a shell reports of a program that SIGPIPE ends.
_READER_LEFT = 141
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
    """Runs one verb; returns the process's exit status: 0, 1 for a user's mistake, 2 for a misused command line."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0 if argv else _USAGE_ERROR
    if argv[0] == "--version":
        from triarch import __version__

        print(f"triarch {__version__}")
        return 0
    verb = argv[0]
    if verb not in VERBS:
        print(f"triarch: error: no verb {verb!r}{nearest(verb, VERBS)}", file=sys.stderr)
        return _USAGE_ERROR
    try:
        return _run(verb, argv[1:])
    except UserError as error:
        return _fail(verb, str(error))
    except BrokenPipeError:
        if not _reader_left():
            raise
        return _READER_LEFT
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EACCES, errno.EDQUOT, errno.EROFS):
            raise
        return _fail(verb, f"{error.strerror}: {error.filename or ''}".rstrip(": "))
    except KeyboardInterrupt:
        _fail(verb, "interrupted")
        return 130


def _run(verb: str, argv: list[str]) -> int:
    module = importlib.import_module(f"triarch.cli.verbs.{verb}{'_' if keyword.iskeyword(verb) else ''}")
    parser = _Parser(
        prog=f"triarch {verb}",
        description=module.HELP,
        epilog=f"example:\n{module.EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    parser.add_argument("--json", metavar="PATH", help="also write the result as JSON, to a file or to '-'")
    takes_gin = any(action.dest == "gin_file" for action in parser._actions)
    bindings = [argument for argument in argv if argument.startswith("--gin.")] if takes_gin else []
    args = parser.parse_args([argument for argument in argv if argument not in bindings])
    args.gin_bindings = [binding.removeprefix("--gin.") for binding in bindings]
    environment.configure()
    result = module.run(args)
    if args.json and result is not None:  # Of several processes the first has a result.
        _write_json(result, args.json)
    sys.stdout.flush()
    return 0


def _reader_left() -> bool:
    """Whether nobody reads the output any more, as after `triarch ... | head`; what is left then goes nowhere."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def _write_json(result: dict, path: str) -> None:
    text = json.dumps(result, indent=2, allow_nan=False, default=str) + "\n"
    if path == "-":
        print(text, end="")
        return
    try:
        write_whole(Path(path), text)
    except OSError as error:
        raise UserError(f"--json={path}: {error.strerror}") from error


def _fail(verb: str, message: str) -> int:
    print(f"triarch {verb}: error: {' '.join(message.split())}", file=sys.stderr)
    return 1


def _overview() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:{width}}  {does}" for verb, does in VERBS.items())
    return (
        "triarch trains encoder-only, decoder-only and encoder-decoder language models under one recipe.\n\n"
        f"usage: triarch VERB [--flags]\n\nverbs:\n{verbs}\n\n'triarch VERB --help' explains a verb, with an example."
    )
