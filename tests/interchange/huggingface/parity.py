"""One network, twice: as transformers computes it and as triarch does after importing it."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

from tests.models import tiny
from triarch.interchange import LoadedModel, read_export
from triarch.interchange.huggingface import OpenedFolder, choose_family, open_folder, write_huggingface, write_import
from triarch.interchange.streamed import open_export
from triarch.models.network import flatten, parameters_of

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

VOCAB = 43
LENGTH = 13
PAD = 0
# Bounds that issue 4 sets.
LOGITS_BOUND, GRADIENT_BOUND = 1e-4, 1e-3
# What a parameter is called in a model, where transformers keeps an older name in files.
IN_MEMORY = {"embed_out.weight": "lm_head.weight"}


def cases(names: Iterable[str], *slow: str):
    """Parametrises a test by the names of its cases, some of them left to `make slow-test`."""
    return pytest.mark.parametrize(
        "name", [pytest.param(name, marks=pytest.mark.slow) if name in slow else name for name in names]
    )


def first_quick(names: Iterable[str]):
    """Parametrises a test by the names of its cases, all but the first left to `make slow-test`."""
    names = list(names)
    return cases(names, *names[1:])


@dataclasses.dataclass(frozen=True)
class Side:
    """Tokens of three rows: one full, one padded on the right, one padded on the left."""

    tokens: np.ndarray
    real: np.ndarray

    @property
    def segments(self) -> np.ndarray:
        return self.real.astype(np.int32)

    @property
    def positions(self) -> np.ndarray:
        """Counted from each row's first real token; 0 in padding."""
        return np.where(self.real, np.cumsum(self.real, axis=1) - 1, 0).astype(np.int32)

    @property
    def places(self) -> np.ndarray:
        """Counted from each row's first column, as classes do that take no positions."""
        return np.broadcast_to(np.arange(self.tokens.shape[1], dtype=np.int32), self.tokens.shape)


def side(seed: int, length: int = LENGTH, pad_id: int = PAD, left: bool = True) -> Side:
    """Returns random tokens, none of them padding; `left`: the third row's padding comes first."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(2, VOCAB, (3, length), dtype=np.int32)
    real = np.ones((3, length), bool)
    real[1, length - 4 :] = False
    real[2, : 3 if left else 0] = False
    return Side(np.where(real, tokens, pad_id), real)


def randomise(model, seed: int = 0) -> None:
    """Gives every parameter and buffer values far from where they begin."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            if value.ndim == 1:
                is_gain = name.endswith("weight") and "Gemma" not in type(model).__name__
                value.copy_(1 + 0.3 * noise if is_gain else 0.3 * noise)
            elif "embed" in name or name.endswith(("shared.weight", "wte.weight", "wpe.weight")):
                value.copy_(0.5 * noise)
            else:
                value.copy_(1.3 * noise / value.shape[-1] ** 0.5)
    model.eval()


def make(class_name: str, config_name: str, **options):
    """Returns a model of transformers with random weights; eager attention, which takes every option."""
    config = getattr(transformers, config_name)(**options)
    config._attn_implementation = "eager"
    model = getattr(transformers, class_name)(config)
    randomise(model)
    return model


@dataclasses.dataclass(frozen=True)
class Imported:
    """A model of transformers, the folder it saved, and what was imported from there."""

    model: Any
    folder: Path
    opened: OpenedFolder
    export: Path
    loaded: LoadedModel


def import_model(model, folder: Path) -> Imported:
    """Saves a model and imports it."""
    model.save_pretrained(folder / "theirs")
    opened = open_folder(folder / "theirs")
    write_import(opened, folder / "export")
    return Imported(model, folder, opened, folder / "export", read_export(folder / "export", tiny.FLOAT32))


def their_logits(model, inputs: Mapping[str, np.ndarray]) -> torch.Tensor:
    """Returns the logits of transformers, differentiable."""
    given = {name: torch.from_numpy(np.array(value)).long() for name, value in inputs.items()}
    return model(**given, use_cache=False).logits if "use_cache" in _forward(model) else model(**given).logits


def _forward(model) -> set[str]:
    return set(model.forward.__code__.co_varnames) | set(getattr(model.config, "__dict__", {}))


def check(
    imported: Imported, theirs: Mapping[str, np.ndarray], ours: Mapping[str, np.ndarray], real: np.ndarray
) -> None:
    """Compares logits, a loss and its gradient for every parameter, at the places that are no padding."""
    targets = np.random.default_rng(9).integers(2, VOCAB, real.shape)
    logits, loss, gradients = _ours(imported.loaded, ours, targets, real)
    expected = their_logits(imported.model, theirs)
    chosen = torch.from_numpy(real)
    expected_loss = torch.nn.functional.cross_entropy(expected[chosen], torch.from_numpy(targets)[chosen])
    imported.model.zero_grad()
    expected_loss.backward()
    wanted = expected.detach().numpy()[real]
    scale = np.abs(wanted).max()
    assert scale > 0.5
    assert np.abs(logits[real] - wanted).max() <= LOGITS_BOUND * scale
    assert abs(loss - expected_loss.item()) <= GRADIENT_BOUND * abs(expected_loss.item())
    _check_gradients(imported, gradients)


def check_logits(imported: Imported, theirs: Mapping[str, np.ndarray], ours: Mapping[str, np.ndarray], real) -> None:
    """Compares logits at the places that are no padding."""
    with torch.no_grad():
        wanted = their_logits(imported.model, theirs).numpy()[real]
    found = imported.loaded.logits(ours)[real]
    assert np.abs(found - wanted).max() <= LOGITS_BOUND * np.abs(wanted).max()


def _ours(loaded: LoadedModel, batch, targets: np.ndarray, real: np.ndarray):
    graph, state = nnx.split(loaded.model)

    def run(state, batch, targets, weights):
        logits = nnx.merge(graph, state)(batch)
        losses = -jnp.take_along_axis(jax.nn.log_softmax(logits), targets[..., None], axis=-1)[..., 0]
        return jnp.sum(losses * weights) / jnp.sum(weights), logits

    compiled = tiny.fast_jit(jax.value_and_grad(run, has_aux=True))
    (loss, logits), slopes = compiled(state, dict(batch), targets, real.astype(np.float32))
    return np.asarray(logits), float(loss), flatten(parameters_of(nnx.merge(graph, slopes)))


def _check_gradients(imported: Imported, gradients: Mapping[str, jax.Array]) -> None:
    """Maps our gradients back and compares them with torch's, tensor by tensor."""
    parameters = dict(imported.model.named_parameters(remove_duplicate=False))
    compared = set()
    for link in imported.opened.links:
        pieces = [np.asarray(gradients[slot.leaf]) for slot in link.slots]
        pieces = [
            slot.of_row(piece if slot.row is None else piece[slot.row])
            for piece, slot in zip(pieces, link.slots, strict=True)
        ]
        found = link.joined(pieces)
        name, part = _in_memory(link.theirs)
        if name not in parameters:
            assert name in dict(imported.model.named_buffers()), name
            continue
        wanted = parameters[name].grad
        compared.add(id(parameters[name]))
        if wanted is None:
            assert not found.any(), link.theirs
            continue
        wanted = part(wanted.numpy())
        error, scale = np.abs(found - wanted).max(), np.abs(wanted).max()
        # The gradient of a key's bias is zero but for rounding: softmax takes no notice of it.
        assert error <= GRADIENT_BOUND * scale or scale < 1e-6 > np.abs(found).max(), (link.theirs, error, scale)
    assert compared == {id(value) for value in imported.model.parameters()}


def _in_memory(name: str) -> tuple[str, Callable[[np.ndarray], np.ndarray]]:
    """Returns the parameter that holds a file's tensor in a model, and what takes the tensor out of it."""
    found = re.fullmatch(r"(.*)\.(?:mlp|block_sparse_moe)\.experts\.(\d+)\.(\w+)\.weight", name)
    if found is None:
        return IN_MEMORY.get(name, name).replace(".block_sparse_moe.", ".mlp."), lambda values: values
    layer, expert, matrix = found[1], int(found[2]), found[3]
    if matrix in ("down_proj", "w2"):
        return f"{layer}.mlp.experts.down_proj", lambda values: values[expert]
    half = 0 if matrix in ("gate_proj", "w1") else 1
    return f"{layer}.mlp.experts.gate_up_proj", lambda values: np.split(values[expert], 2)[half]


def check_round_trip(imported: Imported, family: str) -> None:
    """Exports again: the same class, tensors equal in every bit, and transformers loads it without a complaint."""
    model, output = open_export(imported.export), imported.folder / "again"
    chosen = choose_family(model)
    assert chosen.name == family
    write_huggingface(model, output, chosen)
    assert_same_tensors(imported.folder / "theirs", output)
    again, info = type(imported.model).from_pretrained(output, output_loading_info=True, attn_implementation="eager")
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert again.config.architectures == [type(imported.model).__name__]
    state, loaded = imported.model.state_dict(), again.state_dict()
    assert state.keys() == loaded.keys()
    for name, value in state.items():
        assert torch.equal(value, loaded[name]), name
    ignored = {"architectures", "dtype", "transformers_version", "_name_or_path", "_attn_implementation"}
    old, new = imported.model.config.to_dict(), again.config.to_dict()
    changed = {key: (value, new.get(key)) for key, value in old.items() if value is not None and value != new.get(key)}
    assert not {key for key, (value, _) in changed.items() if not isinstance(value, dict)} - ignored, changed


def assert_same_tensors(first: Path, second: Path) -> None:
    """Compares every tensor of two folders bit by bit."""
    old, new = load_file(first / "model.safetensors"), load_file(second / "model.safetensors")
    assert old.keys() == new.keys()
    for name, value in old.items():
        assert value.dtype == new[name].dtype and value.shape == new[name].shape, name
        assert value.tobytes() == new[name].tobytes(), name


def config_of(folder: Path) -> dict[str, Any]:
    """Returns the config.json of a folder."""
    return json.loads((folder / "config.json").read_text())


def packed() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns tokens, segment ids and positions of two rows that hold two documents each."""
    tokens = np.random.default_rng(2).integers(2, VOCAB, (2, 9), dtype=np.int32)
    segments = np.array([[1] * 4 + [2] * 5, [1] * 6 + [2] * 3], np.int32)
    positions = np.array([[0, 1, 2, 3, 0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5, 0, 1, 2]], np.int32)
    return tokens, segments, positions


def network_of(folder: Path, fields: Mapping[str, Any] | None = None):
    """Returns the network that a folder holds, its config.json replaced if another is given."""
    if fields is not None:
        (folder / "config.json").write_text(json.dumps(fields))
    return open_folder(folder).config
