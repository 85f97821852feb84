"""What a network has beside its layers: counted, and checked, from its shape."""

from __future__ import annotations

from triarch.fields import require
from triarch.models.shape import Shape


def num_embedding_params(shape: Shape) -> int:
    """Returns the parameters that embed tokens or map states to logits."""
    width = shape.of_side("decoder").d_model * (1 + (not shape.tied_embeddings))
    return shape.vocab_size * (width + shape.d_model * (not shape.shared_embeddings))


def num_input_params(shape: Shape) -> int:
    """Returns the parameters before the first layer of a stack: tables of positions and types, and a norm."""
    tables = shape.d_model * ((shape.learned_positions or 0) + shape.token_types)
    return tables + shape.num_norm_params(shape.d_model) * shape.embedding_norm


def num_head_params(shape: Shape) -> int:
    """Returns the parameters between the last layer and the logits, the matrix apart."""
    dense = shape.d_model**2 + shape.d_model * shape.prediction_head_bias + shape.num_norm_params(shape.d_model)
    return dense * shape.prediction_head + shape.vocab_size * shape.logits_bias


def check_ends(shape: Shape) -> None:
    """Raises UserError, naming the field, for values that do not go together."""
    has_head = shape.prediction_head or not shape.prediction_head_bias
    require(shape, "prediction_head_bias", has_head, "has no effect without prediction_head")
    two_sided = shape.architecture == "encoder-decoder"
    require(shape, "shared_embeddings", shape.shared_embeddings or two_sided, "goes with an encoder and a decoder")
    as_wide = shape.of_side("decoder").d_model == shape.d_model or not shape.shared_embeddings
    require(shape, "shared_embeddings", as_wide, "goes with sides of one d_model")
    rows = shape.learned_positions
    if shape.position_encoding != "learned":
        require(shape, "learned_positions", rows is None, "goes with position_encoding = 'learned' only")
        return
    require(shape, "learned_positions", rows is not None, "must be set for position_encoding = 'learned'")
    enough = rows is not None and rows > shape.learned_position_offset
    require(shape, "learned_positions", enough, "must exceed learned_position_offset")
    begins_anew = not two_sided or shape.decoder_positions == "restart"
    require(shape, "decoder_positions", begins_anew, "goes beyond a table of learned_positions: use 'restart'")
