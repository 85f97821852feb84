"""A class's config.json, read option by option: one that is in use and has no equivalent here is refused by name."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from triarch.errors import UserError, nearest
from triarch.fields import MOST_SIZE
from triarch.models import RopeScaling
from triarch.models.shape import MOST_LAYERS

_REQUIRED = object()
# Of the rotary embedding, as transformers and `RopeScaling.kind` call them.
SCALINGS = ("linear", "dynamic", "llama3", "yarn")

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}

# What BERT and BART kept of the first Transformer (arXiv 1706.03762), in the fields of `ModelConfig`.
ORIGINAL_TRANSFORMER: dict[str, Any] = {
    "gated_mlp": False,
    "mlp_bias": True,
    "norm": "layernorm",
    "norm_bias": True,
    "norm_position": "post",
    "final_norm": False,
    "attention_bias": True,
    "position_encoding": "learned",
    "embedding_norm": True,
}


@dataclasses.dataclass(frozen=True)
class TensorFacts:
    """What a class's options depend on besides config.json.

    Attributes:
      names: of the tensors beside it.
      equal: whether two of them have the same values.
      is_zero: whether one of them is all zeros.
    """

    names: frozenset[str] = frozenset()
    equal: Callable[[str, str], bool] = lambda first, second: False
    is_zero: Callable[[str], bool] = lambda name: False

    def has_own(self, name: str, tied_to: str) -> bool:
        """Returns whether there is a tensor that is not merely a copy of the one that it may be tied to."""
        return name in self.names and not (tied_to in self.names and self.equal(name, tied_to))

    def has_nonzero(self, name: str) -> bool:
        """Returns whether there is a tensor that is not all zeros."""
        return name in self.names and not self.is_zero(name)


@dataclasses.dataclass(frozen=True)
class ConfigFields:
    """Values by key; a key that is absent has the class's default, which is given with each question.

    Attributes:
      values: as in the file.
      where: what messages call the file.
      class_name: the class, for messages.
      tensors: what lies beside it.
    """

    values: Mapping[str, Any]
    where: str
    class_name: str
    tensors: TensorFacts = TensorFacts()

    def get(self, key: str, default: Any = _REQUIRED) -> Any:
        """Returns a value as it is; null is not the same as absent."""
        if key in self.values:
            return self.values[key]
        if default is _REQUIRED:
            raise UserError(f"{self.where}: {key!r} is missing")
        return default

    def with_defaults(self, defaults: Mapping[str, Any]) -> ConfigFields:
        """Returns the fields with a class's own values for keys that are absent."""
        return dataclasses.replace(self, values={**defaults, **self.values})

    def without(self, key: str) -> ConfigFields:
        """Returns the fields as if a key were absent."""
        return dataclasses.replace(self, values={name: value for name, value in self.values.items() if name != key})

    def count(self, key: str, default: Any = _REQUIRED) -> int:
        """Returns a whole number."""
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise UserError(f"{self.where}: {key} = {value!r}: expected a whole number")
        # Before anything is as long as that: all keys with numbers of layers say so.
        most = MOST_LAYERS if "layer" in key else MOST_SIZE
        if abs(value) > most:
            raise UserError(f"{self.where}: {key} = {value}: expected at most {most:,}")
        return value

    def number(self, key: str, default: Any = _REQUIRED) -> float:
        """Returns a number."""
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"{self.where}: {key} = {value!r}: expected a number")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """Returns true or false; null is the default."""
        value = self.get(key, default)
        value = default if value is None else value
        if not isinstance(value, bool):
            raise UserError(f"{self.where}: {key} = {value!r}: expected true or false")
        return value

    def pad_id(self, default: int | None) -> int:
        """Returns the padding token; 0 where there is none."""
        value = self.get("pad_token_id", default)
        return 0 if value is None or value < 0 else value

    def activation(self, key: str, default: str) -> Any:
        """Returns our name of an activation."""
        value = self.get(key, default)
        if value not in ACTIVATIONS:
            raise self.no_equivalent(key, value, ACTIVATIONS)
        return ACTIVATIONS[value]

    def only(self, key: str, *allowed: Any) -> None:
        """Refuses an option whose value is none of `allowed`; absent is the same as the first."""
        value = self.get(key, allowed[0])
        if value not in allowed:
            raise self.no_equivalent(key, value, allowed)

    def inner(self, key: str) -> ConfigFields:
        """Returns the fields of an object in the object."""
        value = self.get(key)
        if not isinstance(value, Mapping):
            raise UserError(f"{self.where}: {key} = {value!r}: expected an object")
        return dataclasses.replace(self, values=value, where=f"{self.where}: {key}")

    def _inner_or_empty(self, key: str) -> ConfigFields:
        is_there = self.get(key, None) is not None
        return self.inner(key) if is_there else dataclasses.replace(self, values={}, where=f"{self.where}: {key}")

    def no_equivalent(self, key: str, value: Any, supported: Sequence[Any] | Mapping[str, Any] = ()) -> UserError:
        """Makes the error for an option in use that is not expressed here."""
        hint = ""
        if supported:
            hint = nearest(str(value), supported) if isinstance(value, str) else f" (only {_listed(supported)})"
        return UserError(f"{self.where}: {key} = {value!r}: {self.class_name} has no equivalent here with that{hint}")

    def rope(
        self, default_base: float, layer_type: str | None = None, partial: bool = False
    ) -> tuple[float, RopeScaling | None]:
        """Returns base and scaling of the rotary embedding, wherever the file's age puts them.

        Newer files have `rope_parameters` (by layer type, in some classes), older ones `rope_theta` and
        `rope_scaling`; transformers reads both, as does this.

        Args:
          default_base: of the class.
          layer_type: key of the layer type, in classes whose layers differ.
          partial: whether `rope_fraction` is asked for as well: unless it is, heads must be rotated as a whole.
        """
        key = self._rope_key()
        inner = self._inner_or_empty(key)
        if layer_type is not None:
            inner = inner._inner_or_empty(layer_type) if key == "rope_parameters" else inner
        elif self.get("rope_theta", None) is not None:
            default_base = self.number("rope_theta")
        for one in () if partial else (self, inner):
            one.only("partial_rotary_factor", None, 1.0)
        base = inner.number("rope_theta", default_base)
        kind = inner.get("rope_type", inner.get("type", "default"))
        if kind == "default":
            return base, None
        if kind not in SCALINGS:
            raise inner.no_equivalent("rope_type", kind, ("default", *SCALINGS))
        return base, inner._scaling(kind, self.get("max_position_embeddings", 2048))

    def _scaling(self, kind: str, length: int) -> RopeScaling:
        """Returns what the fields say of a scaling of that kind; `length`: the model's `max_position_embeddings`."""
        if kind == "linear":
            return RopeScaling(self.number("factor"), kind="linear")
        if kind == "dynamic":
            return RopeScaling(self.number("factor"), original_length=length, kind="dynamic")
        original = self.count("original_max_position_embeddings", length)
        if kind == "llama3":
            low, high = self.number("low_freq_factor"), self.number("high_freq_factor")
            return RopeScaling(self.number("factor"), low, high, original)
        factor = length / original if self.get("factor", None) is None else self.number("factor")
        return RopeScaling(
            factor,
            original_length=original,
            kind="yarn",
            beta_fast=self.number("beta_fast") if self.get("beta_fast", None) else 32.0,
            beta_slow=self.number("beta_slow") if self.get("beta_slow", None) else 1.0,
            attention_factor=self._attention_factor(factor),
            truncate=self.flag("truncate", True),
        )

    def _attention_factor(self, factor: float) -> float | None:
        """Returns YaRN's factor on rotated vectors where it is not the one that follows from `factor`."""
        if self.get("attention_factor", None) is not None:
            return self.number("attention_factor")
        if not (self.get("mscale", None) and self.get("mscale_all_dim", None)):
            return None
        above, below = (0.1 * self.number(n) * math.log(max(factor, 1.0)) + 1.0 for n in ("mscale", "mscale_all_dim"))
        return above / below

    def rope_fraction(self, default: float) -> float:
        """Returns the part of a head's width that is rotated."""
        return self._inner_or_empty(self._rope_key()).number("partial_rotary_factor", default)

    def _rope_key(self) -> str:
        return "rope_scaling" if self.get("rope_scaling", None) is not None else "rope_parameters"

    def global_layers(self, num_layers: int, default: Sequence[str]) -> tuple[int, int] | None:
        """Returns (every, first): layer i is global if and only if i % every == first; None: all are.

        Args:
          num_layers: of the stack.
          default: the class's own layer types.
        """
        types = self.get("layer_types", None) or default
        known = ("full_attention", "sliding_attention")
        for one in types:
            if one not in known:
                raise self.no_equivalent("layer_types", one, known)
        if len(types) != num_layers:
            raise UserError(f"{self.where}: layer_types has {len(types)} entries, expected {num_layers}")
        are_global = [i for i, one in enumerate(types) if one == "full_attention"]
        if len(are_global) == num_layers:
            return None
        first = are_global[0] if are_global else num_layers
        # A single one, or none, is followed by the next behind the last layer.
        every = are_global[1] - first if len(are_global) > 1 else max(num_layers - first, first + 1)
        if first < every and are_global == list(range(first, num_layers, every)):
            return every, first
        raise UserError(f"{self.where}: layer_types: full attention in layers that are not evenly apart is not known")


def own_sizes(encoder: Mapping[str, int], decoder: Mapping[str, int]) -> dict[str, Any]:
    """Returns the sizes of a decoder that differ from the encoder's, as fields of `ModelConfig`."""
    return {f"decoder_{name}": size for name, size in decoder.items() if size != encoder[name]}


def layer_types(num_layers: int, every: int, first: int) -> list[str]:
    """Returns Hugging Face's list for layers of which i is global if and only if i % every == first."""
    return ["full_attention" if i % every == first else "sliding_attention" for i in range(num_layers)]


def rope_parameters(base: float, scaling: RopeScaling | None) -> dict[str, Any]:
    """Returns what `ConfigFields.rope` reads."""
    if scaling is None:
        return {"rope_type": "default", "rope_theta": base}
    fields: dict[str, Any] = {"rope_type": scaling.kind, "rope_theta": base, "factor": scaling.factor}
    if scaling.kind in ("llama3", "yarn"):
        fields["original_max_position_embeddings"] = scaling.original_length
    if scaling.kind == "llama3":
        fields |= {name: getattr(scaling, name) for name in ("low_freq_factor", "high_freq_factor")}
    if scaling.kind == "yarn":
        fields |= {name: getattr(scaling, name) for name in ("beta_fast", "beta_slow", "truncate")}
        if scaling.attention_factor is not None:
            fields["attention_factor"] = scaling.attention_factor
    return fields


def original_length(scaling: RopeScaling | None) -> dict[str, Any]:
    """Returns the key beside `rope_parameters` that the one scaling needs which counts from the model's own length."""
    if scaling is None or scaling.kind != "dynamic":
        return {}
    return {"max_position_embeddings": scaling.original_length}


def activation_name(ours: str, tanh: str = "gelu_pytorch_tanh") -> str:
    """Returns Hugging Face's name of an activation; `tanh` is what a class calls the approximated GELU."""
    return tanh if ours == "gelu_tanh" else ours


def _listed(values: Any) -> str:
    return ", ".join(repr(value) for value in values)
