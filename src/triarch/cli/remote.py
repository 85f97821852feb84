"""Flags that name buckets: each verb reads and writes local folders, which are copied from there and sent there."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triarch.errors import UserError

if TYPE_CHECKING:
    from triarch.remote.objects import Objects

_URL = re.compile(r"[a-z][a-z0-9+.-]*://[^@,\s]+")
_PATH = re.compile(r"^([a-z][a-z0-9+.-]*):/(?!/)")
# Flags whose verbs take URLs themselves, or whose values are no places.
_THEIR_OWN = {
    "train": {"continue_with"},
    "prepare": {"files", "split_files", "data_dir", "seqio_cache_dir", "beam_folder", "beam_option"},
    "sweep": {"output", "fleet_option"},
}
# Of any verb: texts, and what gin and Python read.
_NO_PLACES = {"chat", "formula", "gin_bindings", "_gin", "instruction", "module", "passage_prompt", "prompt"}
_NO_PLACES |= {"query_prompt", "stop", "system"}
_STORES = {
    "evaluate": {"in_domain", "out_of_domain", "classification"},
    "extrapolate": {"store"},
    "attention": {"store"},
    "inspect": {"store"},
    "prepare": {"vocabulary_from"},
}
_MODELS = {verb: {"model"} for verb in ("evaluate", "extrapolate", "attention", "generate", "embed")} | {
    "export": {"workdir"}
}
_FOLDERS = {"evaluate": {"suite", "retrieval", "task_data"}, "import": {"folder", "base"}, "report": {"study"}}
# True: what is there before goes. These end with a manifest, without which nothing counts.
_NEW_FOLDERS = {
    "export": {"output": True},
    "import": {"output": True},
    "prepare": {"output": True},
    "evaluate": {"output": False},
    "extrapolate": {"output": False},
    "attention": {"output": False},
    "fit": {"output": False},
    "report": {"figures": False},
}
_NEW_FILES = {"embed": {"output"}, "report": {"output"}, "order": {"output"}, "fit": {"figure"}}
_FOLLOW_SECONDS = 10.0


class Staged:
    """Which local paths stand for which URLs, so that what is said names the URLs."""

    def __init__(self) -> None:
        self.places: dict[str, str] = {}

    def named(self, text: str) -> str:
        """Returns the text with URLs in the place of the local paths that stand for them."""
        for local, url in self.places.items():
            text = text.replace(local, url)
        return text


@contextlib.contextmanager
def staged(verb: str, args: argparse.Namespace) -> Iterator[Staged]:
    """Puts local paths in the place of URLs among a verb's flags while the context lasts; sends what is new at its end.

    Raises:
      UserError: a bucket cannot be reached, read or written, or the verb takes none in that place.
    """
    found = Staged()
    remote = {name for name, value in vars(args).items() if _holds_url(value)}
    remote -= _THEIR_OWN.get(verb, set()) | _NO_PLACES
    if not remote:
        yield found
        return
    with contextlib.ExitStack() as stack:
        ending: list[Callable[[], None]] = []
        try:
            for name in sorted(remote):
                _stage(verb, name, args, found, stack, ending)
            yield found
            for end in ending:
                end()
        except UserError as error:
            raise UserError(found.named(str(error))) from error


def _stage(
    verb: str,
    name: str,
    args: argparse.Namespace,
    found: Staged,
    stack: contextlib.ExitStack,
    ending: list[Callable[[], None]],
) -> None:
    """Puts local paths in the place of the URLs of one flag."""
    from triarch.remote import copies

    def replaced(local: Callable[[str], Path]) -> None:
        def change(match: re.Match) -> str:
            path = str(local(match[0]))
            found.places[path] = match[0]
            return path

        def changed(one: Any) -> Any:
            return type(one)(_URL.sub(change, _text(one))) if isinstance(one, str | Path) else one

        value = getattr(args, name)
        setattr(args, name, [changed(one) for one in value] if isinstance(value, list) else changed(value))

    if (verb, name) == ("train", "workdir"):
        replaced(lambda url: stack.enter_context(_run_folder(url, args)))
    elif name in _STORES.get(verb, ()):
        replaced(copies.kept_copy)
    elif name in _MODELS.get(verb, ()):
        replaced(lambda url: stack.enter_context(_model(url, getattr(args, "step", None))))
    elif name in _FOLDERS.get(verb, ()):
        replaced(lambda url: stack.enter_context(_folder(url)))
    elif name in _NEW_FOLDERS.get(verb, {}):
        is_whole = _NEW_FOLDERS[verb][name]
        replaced(lambda url: _new_folder(url, name, is_whole, getattr(args, "overwrite", False), stack, ending))
    elif name == "json" or name in _NEW_FILES.get(verb, ()):
        replaced(lambda url: _new_file(url, stack, ending))
    else:
        raise UserError(
            f"--{name}={_first_url(getattr(args, name))}: `triarch {verb}` takes no bucket here: copy it to a local "
            "folder, or mount the bucket"
        )


@contextlib.contextmanager
def _run_folder(url: str, args: argparse.Namespace) -> Iterator[Path]:
    """Gives the local copy in which a run trains, followed by the bucket."""
    from triarch.remote import Objects, copies
    from triarch.remote.claims import Claim
    from triarch.remote.runs import RunFolder
    from triarch.runtime import multihost

    if multihost.find_place(args.coordinator, args.num_processes, args.process_id, timeout=args.startup_timeout):
        raise UserError(
            f"--workdir={url}: a run of several processes needs a folder that all of them see: mount the bucket "
            "(tpu_scripts/setup.sh --bucket), or train on one host"
        )
    objects = Objects(url)
    claim = Claim(objects)
    home = copies.cache_folder() / "runs" / hashlib.sha256(url.encode()).hexdigest()[:24]

    def say(text: str) -> None:
        print(f"triarch train: {text}", file=sys.stderr, flush=True)

    def stop() -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    with RunFolder(objects, home / Path(url.rstrip("/")).name, claim, say, stop).followed(_FOLLOW_SECONDS) as folder:
        yield folder


@contextlib.contextmanager
def _model(url: str, step: Any) -> Iterator[Path]:
    """Gives a local copy of a model: of a run its newest checkpoint, or all of them where steps are asked for."""
    from triarch.remote import copies, runs

    objects = _reached(url)
    lists = runs.checkpoint_lists(objects)
    if lists:
        with copies.new_folder(url) as folder:
            newest = step in (None, [], ())
            runs.fetch_run(objects, folder, lambda steps: steps[-1:] if newest else steps, ("params",))
            yield folder
        return
    if objects.read(copies.MANIFEST) is not None:
        yield copies.kept_copy(url)
        return
    with _folder(url) as folder:
        yield folder


@contextlib.contextmanager
def _folder(url: str) -> Iterator[Path]:
    from triarch.remote import copies

    objects = _reached(url)
    sizes = {name: size for name, size in objects.sizes().items() if not name.startswith(".triarch/")}
    if not sizes:
        raise UserError(f"{url}: nothing is there")
    with copies.passing_copy(objects, sizes) as folder:
        yield folder


def _new_folder(
    url: str,
    flag: str,
    is_whole: bool,
    overwrite: bool,
    stack: contextlib.ExitStack,
    ending: list[Callable[[], None]],
) -> Path:
    from triarch.remote import Objects, copies

    objects = Objects(url)
    objects.check_writable()
    if is_whole and not overwrite and objects.sizes():
        raise UserError(f"{url}: exists already: choose another --{flag} or give --overwrite")
    folder = stack.enter_context(copies.new_folder(url))
    folder.rmdir()  # Verbs make theirs, and refuse one that is there.
    ending.append(lambda: copies.send_folder(folder, objects, is_whole) if folder.exists() else None)
    return folder


def _new_file(url: str, stack: contextlib.ExitStack, ending: list[Callable[[], None]]) -> Path:
    from triarch.remote import Objects, copies

    above, _, name = url.rpartition("/")
    if not name or above.endswith("/"):
        raise UserError(f"{url}: expected a file in a bucket")
    objects = Objects(above)
    objects.check_writable()
    folder = stack.enter_context(copies.new_folder(above))
    ending.append(lambda: objects.upload(folder / name, name) if (folder / name).exists() else None)
    return folder / name


def _reached(url: str) -> Objects:
    from triarch.remote import Objects

    objects = Objects(url)
    objects.check_reachable()
    return objects


def _holds_url(value: Any) -> bool:
    return _first_url(value) is not None


def _first_url(value: Any) -> str | None:
    values = value if isinstance(value, list) else [value]
    found = (_URL.search(_text(one)) for one in values if isinstance(one, str | Path))
    return next((match[0] for match in found if match), None)


def _text(value: str | Path) -> str:
    """Returns a flag's value as it was given: a URL that was made a path has lost a slash."""
    return _PATH.sub(r"\1://", str(value)) if isinstance(value, Path) else value
