"""Tiny networks of every family, parameters far from their initial values, and documents laid out in batches."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from triarch.models import Execution, ModelConfig, RopeScaling, abstract, build
from triarch.models.parameters import kind_of

FLOAT32 = Execution(compute_dtype="float32")
# Compiles two to three times faster than the default, which is where the time of tiny networks goes.
fast_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

# Not offered to users: for checks within `jax.enable_x64`.
FLOAT64 = Execution(compute_dtype="float64")

REDLLM = ModelConfig(
    vocab_size=61,
    d_model=16,
    d_ff=24,
    num_heads=2,
    head_dim=8,
    num_encoder_layers=2,
    num_decoder_layers=3,
    norm_scale="none",
    qkv_norm=True,
    attention_output_norm="per_head",
)
DECLLM = dataclasses.replace(REDLLM, num_encoder_layers=0, attention_output_norm="none")
ETTIN_ENCODER = ModelConfig(
    vocab_size=67,
    d_model=12,
    d_ff=20,
    num_heads=3,
    head_dim=4,
    num_encoder_layers=7,
    activation="gelu",
    norm="layernorm",
    norm_eps=1e-5,
    rope_base=160_000.0,
    local_rope_base=10_000.0,
    sliding_window=2,
    global_every=3,
    first_attention_norm=False,
    embedding_norm=True,
    prediction_head=True,
    logits_bias=True,
    kernel_init="fixed",
)
ETTIN_DECODER = dataclasses.replace(ETTIN_ENCODER, num_encoder_layers=0, num_decoder_layers=7)
BERT = ModelConfig(
    vocab_size=53,
    d_model=12,
    d_ff=16,
    num_heads=3,
    head_dim=4,
    num_encoder_layers=2,
    activation="gelu",
    gated_mlp=False,
    mlp_bias=True,
    norm="layernorm",
    norm_bias=True,
    norm_eps=1e-12,
    norm_position="post",
    final_norm=False,
    attention_bias=True,
    position_encoding="learned",
    learned_positions=40,
    token_types=2,
    embedding_norm=True,
    logits_bias=True,
    prediction_head=True,
    prediction_head_bias=True,
)
BART = dataclasses.replace(
    BERT,
    num_decoder_layers=2,
    learned_position_offset=2,
    decoder_positions="restart",
    token_types=0,
    logits_bias=False,
    prediction_head=False,
    prediction_head_bias=False,
)
GPT2 = dataclasses.replace(
    BERT,
    num_encoder_layers=0,
    num_decoder_layers=2,
    activation="gelu_tanh",
    norm_position="pre",
    final_norm=True,
    token_types=0,
    embedding_norm=False,
    logits_bias=False,
    prediction_head=False,
    prediction_head_bias=False,
)
LLAMA3 = ModelConfig(
    vocab_size=59,
    d_model=16,
    d_ff=24,
    num_heads=4,
    num_kv_heads=2,
    head_dim=6,
    num_decoder_layers=2,
    rope_base=500.0,
    rope_scaling=RopeScaling(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_length=64),
    tied_embeddings=False,
)
T5 = ModelConfig(
    vocab_size=47,
    d_model=14,
    d_ff=20,
    num_heads=3,
    head_dim=5,
    num_encoder_layers=2,
    num_decoder_layers=2,
    activation="relu",
    gated_mlp=False,
    attention_scale=1.0,
    position_encoding="relative_bias",
    relative_buckets=8,
    relative_max_distance=10,
    logits_scale="rsqrt_d_model",
)
T5GEMMA = ModelConfig(
    vocab_size=71,
    d_model=16,
    d_ff=24,
    num_heads=4,
    num_kv_heads=2,
    head_dim=6,
    num_encoder_layers=3,
    num_decoder_layers=2,
    activation="gelu_tanh",
    norm_scale="one_plus_gain",
    norm_position="pre_and_post",
    attention_scale=0.3,
    attention_softcap=5.0,
    sliding_window=2,
    decoder_sliding_window=1,
    global_every=2,
    first_global=1,
    decoder_positions="restart",
    cross_attention_rope=False,
    embedding_scale="sqrt_d_model",
    shared_embeddings=False,
    logits_softcap=3.0,
)
# Trained from scratch by this project's recipes; the others are published elsewhere and imported.
OWN_FAMILIES = {
    "redllm": REDLLM,
    "decllm": DECLLM,
    "ettin_encoder": ETTIN_ENCODER,
    "ettin_decoder": ETTIN_DECODER,
}
FAMILIES = OWN_FAMILIES | {
    "bert": BERT,
    "bart": BART,
    "gpt2": GPT2,
    "llama3": LLAMA3,
    "t5": T5,
    "t5gemma": T5GEMMA,
}


@dataclasses.dataclass(frozen=True)
class Document:
    """One training example by itself: `inputs` are read by the scored side, `source` by the encoder before it."""

    source: np.ndarray | None
    inputs: np.ndarray
    targets: np.ndarray
    weights: np.ndarray


@dataclasses.dataclass(frozen=True)
class Layout:
    """Documents in one batch; `spans[i]` is the (row, first column) of document i on the scored side."""

    documents: Sequence[Document]
    batch: dict[str, np.ndarray]
    spans: Sequence[tuple[int, int]]

    def of(self, array: jax.Array, index: int) -> np.ndarray:
        """Returns the part of `array` [batch, length, ...] that belongs to document `index`."""
        row, start = self.spans[index]
        return np.asarray(array)[row, start : start + len(self.documents[index].inputs)]


def document(config: ModelConfig, source: int, inputs: int, seed: int) -> Document:
    """Returns random tokens, none of which is padding, with random positive weights."""
    rng = np.random.default_rng(seed)

    def tokens(count):
        return rng.integers(1, config.vocab_size, count, dtype=np.int32)

    two_sided = config.architecture == "encoder-decoder"
    weights = rng.uniform(0.5, 1.5, inputs).astype(np.float32)
    return Document(tokens(source) if two_sided else None, tokens(inputs), tokens(inputs), weights)


def documents(config: ModelConfig, seed: int = 0) -> list[Document]:
    """Returns three documents, whose lengths all differ."""
    return [document(config, s, t, seed + s) for s, t in ((7, 5), (3, 8), (4, 6))]


def lay_out(
    config: ModelConfig, rows: Sequence[Sequence[Document]], length: int | None = None, left: Collection[int] = ()
) -> Layout:
    """Puts documents one after another in rows, with segment ids; what is missing is padding.

    Args:
      config: decides which sides there are.
      rows: the documents of each row.
      length: columns on each side, None for as many as the longest row needs.
      left: rows whose padding comes first.
    """
    batch: dict[str, np.ndarray] = {}
    scored = "encoder" if config.architecture == "encoder-only" else "decoder"
    if config.architecture == "encoder-decoder":
        columns, _ = _columns([[d.source for d in row] for row in rows], length, left)
        batch |= {"encoder_input_tokens": columns[0], "encoder_segment_ids": columns[1]}
    columns, spans = _columns([[d.inputs for d in row] for row in rows], length, left)
    batch |= {f"{scored}_input_tokens": columns[0], f"{scored}_segment_ids": columns[1]}
    batch[f"{scored}_target_tokens"] = _columns([[d.targets for d in row] for row in rows], length, left)[0][0]
    batch[f"{scored}_loss_weights"] = _columns([[d.weights for d in row] for row in rows], length, left)[0][0]
    return Layout([d for row in rows for d in row], batch, spans)


def _columns(rows, length, left):
    length = length or max(sum(map(len, row)) for row in rows)
    values = np.zeros((len(rows), length), rows[0][0].dtype)
    segments = np.zeros((len(rows), length), np.int32)
    spans = []
    for index, row in enumerate(rows):
        start = length - sum(map(len, row)) if index in left else 0
        for segment, piece in enumerate(row, 1):
            values[index, start : start + len(piece)] = piece
            segments[index, start : start + len(piece)] = segment
            spans.append((index, start))
            start += len(piece)
    return (values, segments), spans


def alone(config: ModelConfig, one: Document) -> dict[str, np.ndarray]:
    """Returns a batch of one document, without padding and without segment ids."""
    batch = lay_out(config, [[one]]).batch
    return {name: value for name, value in batch.items() if "segment" not in name}


@functools.cache
def parameters(config: ModelConfig, seed: int = 0) -> dict[tuple, np.ndarray]:
    """Returns random float32 parameters by path, large enough that attention is far from uniform."""
    rng = np.random.default_rng(seed)

    def value(path, shape, kind):
        noise = rng.normal(size=shape)
        if path[-1] == "scale":
            return 1 + 0.3 * noise
        if path[-1].endswith("bias") or path[0] == "embedding" or kind == "vector":
            return 0.5 * noise
        if path[-1] in ("positions", "types"):
            return 0.5 * noise
        return 1.5 / np.sqrt(shape[-2]) * noise

    _, state = nnx.split(abstract(config, FLOAT32))
    return {path: value(path, leaf.shape, kind_of(leaf)).astype(np.float32) for path, leaf in nnx.to_flat_state(state)}


def split(config: ModelConfig, execution: Execution = FLOAT32, seed: int = 0) -> tuple[nnx.GraphDef, nnx.State]:
    """Returns a network with `parameters(config, seed)` as values, in the execution's dtype if it is float64."""
    graph, state = nnx.split(abstract(config, execution))
    dtype = jnp.promote_types(execution.dtype, jnp.float32)
    values = parameters(config, seed)
    flat = [(path, leaf.replace(jnp.asarray(values[path], dtype))) for path, leaf in nnx.to_flat_state(state)]
    return graph, nnx.from_flat_state(flat)


def fresh(config: ModelConfig, seed: int = 0) -> tuple[nnx.GraphDef, nnx.State]:
    """Returns a network as it comes from `build`, in float32."""
    graph, _ = nnx.split(abstract(config, FLOAT32))
    return graph, fast_jit(lambda: nnx.split(build(config, FLOAT32, nnx.Rngs(params=seed)))[1])()


def logits(config: ModelConfig, batch: dict[str, np.ndarray], execution: Execution = FLOAT32) -> np.ndarray:
    """Returns logits under `parameters(config)`."""
    return np.asarray(_compiled_logits(config, execution, jax.config.jax_enable_x64)(batch))


@functools.cache
def _compiled_logits(config, execution, wide):
    graph, state = split(config, execution)
    compiled = fast_jit(lambda state, batch: nnx.merge(graph, state)(batch))
    return functools.partial(compiled, state)
