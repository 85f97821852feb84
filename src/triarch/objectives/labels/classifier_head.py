"""The heads of classifiers: from the states of a text, or of its tokens, to a score for each label.

What stands before the output matrix is nothing (Llama); a dense layer with tanh (BERT's pooler, RoBERTa, T5, BART) or
with relu (DistilBERT); a dense layer, the network's activation and a norm (ModernBERT), made anew ("norm") or the ones
that the network has before its vocabulary ("prediction").
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from triarch.errors import UserError
from triarch.models import ModelConfig, Transformer, parameters
from triarch.models.layers.activations import ACTIVATIONS
from triarch.models.layers.norms import Norm
from triarch.models.layers.projection import affine
from triarch.objectives.labels.label_objective import Form

# What a classifier does not need of a network.
_OF_VOCABULARY = {"logits_bias": False, "tied_embeddings": True}


@dataclasses.dataclass(frozen=True)
class HeadForm:
    """What head a classifier has; called, it makes one (`models.MakeHead`).

    Attributes:
      form: what stands before the output matrix; None for what transformers has for such a network.
      num_outputs: columns of the output matrix; 0 for none, of a pooler alone.
      bias: whether there is a bias on the outputs; None likewise.
    """

    form: Form | None
    num_outputs: int
    bias: bool | None = None

    def __call__(self, config: ModelConfig, rngs: nnx.Rngs) -> ClassifierHead:
        return ClassifierHead(config, self.of(config), rngs)

    def of(self, config: ModelConfig) -> HeadForm:
        """Returns the head that a network has, nothing left open.

        Raises:
          UserError: it needs a part that the network does not have.
        """
        form = self.form or usual_form(config)
        if form == "prediction" and not config.prediction_head:
            raise UserError(
                "head = 'prediction' is the dense layer and norm before the vocabulary, which this network does not "
                "have (ModelConfig.prediction_head): use 'norm', which makes new ones"
            )
        bias = config.architecture != "decoder-only" if self.bias is None else self.bias
        return HeadForm(form, self.num_outputs, bias)


@dataclasses.dataclass(frozen=True)
class TokenHeadForm(HeadForm):
    """The head of a classifier of tokens, as transformers' `*ForTokenClassification` have it: mostly linear."""

    def of(self, config: ModelConfig) -> HeadForm:
        form = self.form or (usual_form(config) if config.norm_position != "post" else "linear")
        return HeadForm(form, self.num_outputs, self.bias).of(config)


class ClassifierHead(nnx.Module):
    """A dense layer as the form has it, and the output matrix."""

    def __init__(self, config: ModelConfig, form: HeadForm, rngs: nnx.Rngs):
        shape = config.of_side("decoder")
        d_model = shape.d_model
        std = parameters.kernel_std(shape, d_model)
        self.form = form.form
        self.activation = {"tanh": jnp.tanh, "relu": jax.nn.relu}.get(form.form or "", ACTIVATIONS[shape.activation])
        has_dense, has_bias = form.form in ("tanh", "relu", "norm"), form.form in ("tanh", "relu")
        ratio = shape.width_ratio
        size = d_model, d_model
        self.dense = parameters.normal(rngs, size, std, ("embed", None), width_ratio=ratio) if has_dense else None
        self.dense_bias = parameters.constant(0.0, (d_model,), ("embed",)) if has_bias else None
        self.norm = Norm(shape) if form.form == "norm" else None
        outputs = form.num_outputs
        size = d_model, outputs
        self.output = parameters.normal(rngs, size, std, ("embed", None), width_ratio=ratio) if outputs else None
        self.output_bias = parameters.constant(0.0, (outputs,), (None,)) if outputs and form.bias else None

    def hidden(self, model: Transformer, states: Float[Array, "batch length d_model"]) -> jax.Array:
        """Returns what the output matrix is applied to, float32[batch, length, d_model]."""
        x = states.astype(jnp.float32)
        if self.form == "prediction":
            assert model.prediction_head is not None
            return model.prediction_head(x)
        if self.dense is None:
            return x
        x = self.activation(affine(x, self.dense, self.dense_bias))
        return x if self.norm is None else self.norm(x)

    def logits(self, hidden: Float[Array, "batch length d_model"]) -> Float[Array, "batch length labels"]:
        """Returns float32 scores."""
        assert self.output is not None
        return affine(hidden, self.output, self.output_bias)


def usual_form(config: ModelConfig) -> Form:
    """Returns the form that transformers' `*ForSequenceClassification` has for networks like this one."""
    if config.architecture == "encoder-decoder":
        return "tanh"
    if config.norm_position != "post" and config.prediction_head:
        return "prediction"
    if config.architecture == "decoder-only":
        return "linear"
    if config.norm_position == "post":
        return "tanh" if config.token_types or not config.learned_positions else "relu"
    return "norm"


def headless(config: ModelConfig, keep_prediction_head: bool = False) -> ModelConfig:
    """Returns the network without what it predicts tokens with: what is left makes no logits that mean something."""
    gone: dict[str, Any] = dict(_OF_VOCABULARY)
    if not keep_prediction_head:
        gone |= {"prediction_head": False, "prediction_head_bias": False}
    return dataclasses.replace(config, **gone)


def is_headless(name: str) -> bool:
    """Returns whether a parameter is one that `headless` takes away."""
    return name.startswith("prediction_head/") or name in ("logits_bias", "embedding/output")
