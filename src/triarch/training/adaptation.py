"""An encoder-decoder out of decoder-only parameters (T5Gemma, arXiv 2504.06225): which parameter begins as which.

Both sides begin as stacks of decoders: the encoder's tokens then see each other in both directions. Cross-attention
begins as the self-attention of its layer, with its norms, where the two have the same shapes (balanced sides); else it
stays fresh, and is best trained alone for a while (`RunConfig.train_only = ('*cross*',)`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import jax
import jax.numpy as jnp

from triarch.errors import UserError
from triarch.models import ModelConfig
from triarch.models.network import layer_place, specs
from triarch.models.shape import Side

# A leaf of what a side begins as, and the row of it; None for all.
Piece = tuple[Side, str, int | None]
SIDES: tuple[Side, ...] = ("encoder", "decoder")
_CROSS = {
    "cross_attention": "attention",
    "cross_norm": "attention_norm",
    "post_cross_norm": "post_attention_norm",
}


@dataclasses.dataclass(frozen=True)
class Adaptation:
    """Where each parameter of an encoder-decoder comes from; those that are not named stay fresh.

    Attributes:
      pieces: by parameter: one piece, or one for each of its rows.
      copies_cross: whether cross-attention begins as self-attention.
    """

    pieces: Mapping[str, tuple[Piece, ...]]
    copies_cross: bool

    def parameters(self, sources: Mapping[Side, Mapping[str, jax.Array]]) -> dict[str, jax.Array]:
        """Returns the parameters that are taken over, by name, from those of the sources."""

        def value(piece: Piece) -> jax.Array:
            source, leaf, row = piece
            return sources[source][leaf] if row is None else sources[source][leaf][row]

        stacked = self._stacked
        return {
            # A copy: of two parameters that begin alike, each is to be changed by itself.
            name: jnp.stack([value(piece) for piece in pieces]) if name in stacked else jnp.copy(value(pieces[0]))
            for name, pieces in self.pieces.items()
        }

    @property
    def _stacked(self) -> set[str]:
        return {name for name in self.pieces if "/scanned/" in name}


def is_adaptation(here: ModelConfig, there: ModelConfig) -> bool:
    """Whether a network begins from decoder-only parameters that are not its own."""
    return (here.architecture, there.architecture) == ("encoder-decoder", "decoder-only")


def adaptation(
    target: ModelConfig, decoder: ModelConfig, encoder: ModelConfig, names: Mapping[Side, str]
) -> Adaptation:
    """Returns where the parameters of an encoder-decoder come from.

    Args:
      target: the encoder-decoder.
      decoder: the decoder-only network that its decoder begins as.
      encoder: the one that its encoder begins as.
      names: what messages call them.

    Raises:
      UserError: numbers of layers differ, or a parameter has another shape there, is missing, or has no place.
    """
    sources: dict[Side, ModelConfig] = {"decoder": decoder, "encoder": encoder}
    for side, network in sources.items():
        wanted, found = target.num_layers(side), network.num_decoder_layers
        if wanted != found:
            raise UserError(
                f"{names[side]}: has {found} layers, ModelConfig.num_{side}_layers = {wanted}: expected as many"
            )
    shapes = {side: {name: spec.shape for name, spec in specs(network).items()} for side, network in sources.items()}
    copies = _is_balanced(target, decoder)
    pieces: dict[str, list[Piece]] = {}
    for name, piece in _pieces(target, sources, copies):
        source, leaf, row = piece
        shape = specs(target)[name].shape[1 if "/scanned/" in name else 0 :]
        stored = shapes[source].get(leaf)
        if stored is None:
            raise UserError(
                f"{names[source]}: tensor {leaf!r} {list(shape)} is missing, with which {name!r} is to begin"
            )
        if stored[0 if row is None else 1 :] != shape:
            raise UserError(
                f"{names[source]}: tensor {leaf!r} has shape {list(stored)}, {name!r} {list(shape)} a layer"
            )
        pieces.setdefault(name, []).append(piece)
    _check_all_used(pieces, shapes["decoder"], names["decoder"])
    return Adaptation({name: tuple(rows) for name, rows in pieces.items()}, copies)


def _pieces(target: ModelConfig, sources: Mapping[Side, ModelConfig], copies: bool) -> Iterator[tuple[str, Piece]]:
    """Yields each parameter, row by row, with where it comes from."""
    places: set[str] = set()
    for side in SIDES:
        for layer in range(target.num_layers(side)):
            module, _ = layer_place(target, side, layer)
            there, row = layer_place(sources[side], "decoder", layer)
            places.add(module)
            for name in specs(target):
                if not name.startswith(f"{module}/"):
                    continue
                part, *rest = name.removeprefix(f"{module}/").split("/")
                if part in _CROSS and not copies:
                    continue
                yield name, (side, "/".join([there, _CROSS.get(part, part), *rest]), row)
    for name in specs(target):
        if "/".join(name.split("/")[:3]) not in places:
            yield name, _beside_layers(name, sources["decoder"])


def _beside_layers(name: str, decoder: ModelConfig) -> Piece:
    """Returns where a parameter that is no layer's comes from."""
    if name == "embedding/encoder_table":
        return "encoder", "embedding/table", None
    if name == "embedding/output" and decoder.tied_embeddings:
        return "decoder", "embedding/table", None
    for beginning in ("encoder/", "encoder_input/"):
        if name.startswith(beginning):
            return "encoder", f"decoder{name.removeprefix('encoder')}", None
    return "decoder", name, None


def _is_balanced(target: ModelConfig, decoder: ModelConfig) -> bool:
    """Whether every parameter of cross-attention has the shape of its like in self-attention."""
    module, _ = layer_place(target, "decoder", 0)
    own = {name: spec.shape for name, spec in specs(target).items() if name.startswith(f"{module}/")}
    crossing = {name: name.removeprefix(f"{module}/").split("/") for name in own}
    return all(
        own[name] == own.get("/".join([module, _CROSS[part], *rest]))
        for name, (part, *rest) in crossing.items()
        if part in _CROSS
    )


def _check_all_used(pieces: Mapping[str, list[Piece]], shapes: Mapping[str, tuple[int, ...]], name: str) -> None:
    used = {leaf for found in pieces.values() for source, leaf, _ in found if source == "decoder"}
    for leaf, shape in shapes.items():
        if leaf not in used:
            hint = ": set ModelConfig.tied_embeddings = False" if leaf == "embedding/output" else ""
            raise UserError(f"{name}: tensor {leaf!r} {list(shape)} has no place in the encoder-decoder{hint}")
