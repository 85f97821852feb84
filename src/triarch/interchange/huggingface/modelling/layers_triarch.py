"""Norms, attention and layers of RedLLM and DecLLM (arXiv 2510.26622) and their variants in PyTorch.

One layer serves the encoder, the decoder behind it, and the decoder that stands alone; `config.shape` says how many
there are and what is in them. Masks are True where a query may see a key.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

ACTIVATIONS = {
    "silu": F.silu,
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
}


def rms_norm(x, eps):
    """Divides by the root mean square over the last axis."""
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype)


def soft_cap(x, cap):
    return x if cap is None else cap * torch.tanh(x / cap)


class Norm(nn.Module):
    """RMSNorm or LayerNorm, with the gain and bias that the configuration gives it, if any."""

    def __init__(self, shape, width):
        super().__init__()
        self.kind, self.eps = shape.norm, shape.norm_eps
        self.offset = 1.0 if shape.norm_scale == "one_plus_gain" else 0.0
        self.weight = None if shape.norm_scale == "none" else nn.Parameter(torch.full((width,), 1.0 - self.offset))
        self.bias = nn.Parameter(torch.zeros(width)) if shape.norm_bias else None

    def forward(self, x):
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        if self.kind == "layernorm":
            wide = wide - wide.mean(-1, keepdim=True)
        normed = rms_norm(wide, self.eps)
        normed = normed if self.weight is None else normed * (self.weight + self.offset)
        return (normed if self.bias is None else normed + self.bias).to(x.dtype)


class Rope:
    """The rotary embedding (arXiv 2104.09864): pairs (x[i], x[i + half]) turn by position * frequency[i]."""

    def __init__(self, shape, base, scaling):
        self.width = int(shape.head_dim * shape.rope_fraction)
        self.base, self.scaling = base, scaling or {}

    def frequencies(self):
        """Returns radians a token, float64[width / 2]; on the CPU, as not every accelerator knows the type."""
        exponents = torch.arange(0, self.width, 2, dtype=torch.float64, device="cpu") / self.width
        frequencies, kind = self.base**-exponents, self.scaling.get("kind")
        if kind == "linear":
            return frequencies / self.scaling["factor"]
        if kind == "llama3":
            low, high = self.scaling["low_freq_factor"], self.scaling["high_freq_factor"]
            turns = self.scaling["original_length"] * frequencies / (2 * math.pi)
            kept = ((turns - low) / (high - low)).clamp(0, 1)
            return frequencies * (kept + (1 - kept) / self.scaling["factor"])
        return frequencies

    def angles(self, positions):
        """Returns cosines and sines, [batch, 1, length, width / 2]."""
        angles = positions[:, None, :, None] * self.frequencies().float().to(positions.device)
        return angles.cos(), angles.sin()


def rotate(x, angles):
    cos, sin = angles
    width = 2 * cos.shape[-1]
    wide = x[..., :width].to(torch.promote_types(x.dtype, torch.float32))
    first, second = wide.chunk(2, dim=-1)
    rotated = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).to(x.dtype)
    return torch.cat([rotated, x[..., width:]], dim=-1)


class Attention(nn.Module):
    """Self-attention, and cross-attention to states of width `memory_width`."""

    def __init__(self, shape, layer, memory_width=None):
        super().__init__()
        self.shape, self.layer, self.is_cross = shape, layer, memory_width is not None
        self.heads, self.kv_heads = shape.num_heads, shape.num_kv_heads or shape.num_heads
        width, bias = memory_width or shape.d_model, shape.attention_bias
        self.query = nn.Linear(shape.d_model, self.heads * shape.head_dim, bias=bias)
        self.key = nn.Linear(width, self.kv_heads * shape.head_dim, bias=bias)
        self.value = nn.Linear(width, self.kv_heads * shape.head_dim, bias=bias)
        self.output = nn.Linear(self.heads * shape.head_dim, shape.d_model, bias=bias)
        per = {"none": None, "per_head": (1, 1), "all_heads": (self.heads, self.kv_heads)}[shape.qk_norm]
        self.query_norm = None if per is None else Norm(shape, per[0] * shape.head_dim)
        self.key_norm = None if per is None else Norm(shape, per[1] * shape.head_dim)
        is_number = not isinstance(shape.attention_scale, str)
        self.scale = shape.attention_scale if is_number else 1 / math.sqrt(shape.head_dim)

    def forward(self, x, mask, angles=(None, None), memory=None, cache=None):
        """Returns what is added to the residual stream.

        Args:
          x: [batch, length, d_model].
          mask: bool [batch, 1, length, keys].
          angles: those of queries and of keys; None for no rotation.
          memory: the encoder's states, for cross-attention.
          cache: of transformers; keys of self-attention are added to it, those of cross-attention are made once.
        """
        query = self._by_head(self.query(x), self.heads, self.query_norm)
        query = self._turned(query, angles[0])
        if self.is_cross and cache is not None and cache.is_updated.get(self.layer):
            kept = cache.cross_attention_cache.layers[self.layer]
            key, value = kept.keys, kept.values
        else:
            source = memory if self.is_cross else x
            key = self._turned(self._by_head(self.key(source), self.kv_heads, self.key_norm), angles[1])
            value = self._by_head(self.value(source), self.kv_heads, None)
            value = rms_norm(value, self.shape.norm_eps) if self.shape.qkv_norm else value
            if self.is_cross and cache is not None:
                key, value = cache.cross_attention_cache.update(key, value, self.layer)
                cache.is_updated[self.layer] = True
            elif cache is not None:
                key, value = getattr(cache, "self_attention_cache", cache).update(key, value, self.layer)
        return self._back(self._attend(query, key, value, mask))

    def _by_head(self, projected, heads, norm):
        """Returns [batch, heads, length, head_dim]."""
        if norm is not None and self.shape.qk_norm == "all_heads":
            projected = norm(projected)
        split = projected.unflatten(-1, (heads, self.shape.head_dim)).transpose(1, 2)
        return norm(split) if norm is not None and self.shape.qk_norm == "per_head" else split

    def _turned(self, vectors, angles):
        vectors = rms_norm(vectors, self.shape.norm_eps) if self.shape.qkv_norm else vectors
        return vectors if angles is None else rotate(vectors, angles)

    def _attend(self, query, key, value, mask):
        groups = self.heads // self.kv_heads
        key, value = (x.repeat_interleave(groups, dim=1) if groups > 1 else x for x in (key, value))
        # Finite: a query that sees nothing, in padding, is no NaN.
        bias = torch.zeros(mask.shape, dtype=query.dtype, device=query.device)
        bias = bias.masked_fill(~mask, torch.finfo(query.dtype).min)
        if self.shape.attention_softcap is None:
            return F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=self.scale)
        logits = soft_cap(query @ key.transpose(-1, -2) * self.scale, self.shape.attention_softcap) + bias
        wide = torch.promote_types(logits.dtype, torch.float32)
        return logits.softmax(dim=-1, dtype=wide).to(value.dtype) @ value

    def _back(self, attended):
        """Returns [batch, length, d_model]; RedLLM has one more norm on the way."""
        where, eps = self.shape.attention_output_norm, self.shape.norm_eps
        attended = rms_norm(attended, eps) if where == "per_head" else attended
        joined = attended.transpose(1, 2).flatten(2)
        projected = self.output(rms_norm(joined, eps) if where == "all_heads" else joined)
        return rms_norm(projected, eps) if where == "projected" else projected


class FeedForward(nn.Module):
    """act(x gate) * (x up) down, or act(x up) down."""

    def __init__(self, shape):
        super().__init__()
        self.activation = ACTIVATIONS[shape.activation]
        self.gate = nn.Linear(shape.d_model, shape.d_ff, bias=shape.mlp_bias) if shape.gated_mlp else None
        self.up = nn.Linear(shape.d_model, shape.d_ff, bias=shape.mlp_bias)
        self.down = nn.Linear(shape.d_ff, shape.d_model, bias=shape.mlp_bias)

    def forward(self, x):
        up = self.up(x)
        return self.down(self.activation(up) if self.gate is None else self.activation(self.gate(x)) * up)


class Layer(nn.Module):
    """Self-attention, cross-attention behind an encoder, feed-forward; norms before, after or around them."""

    def __init__(self, shape, layer, memory_width=None):
        super().__init__()
        self.position, self.parallel = shape.norm_position, shape.parallel_residual
        self.attention = Attention(shape, layer)
        self.cross_attention = None if memory_width is None else Attention(shape, layer, memory_width)
        self.mlp = FeedForward(shape)
        for name in ("attention", "cross", "mlp"):
            there = name != "cross" or memory_width is not None
            before = there and shape.norm_position != "output"
            before = before and (name != "attention" or layer > 0 or shape.first_attention_norm)
            after = there and shape.norm_position in ("pre_and_post", "output")
            setattr(self, f"{name}_norm", Norm(shape, shape.d_model) if before else None)
            setattr(self, f"post_{name}_norm", Norm(shape, shape.d_model) if after else None)

    def forward(self, x, mask, angles, memory=None, memory_mask=None, memory_angles=(None, None), cache=None):
        given = x
        update = self.attention(self._entering(x, "attention"), mask, angles, cache=cache)
        x = self._leaving(x, update, "attention")
        if self.cross_attention is not None:
            entering = self._entering(given if self.parallel else x, "cross")
            update = self.cross_attention(entering, memory_mask, memory_angles, memory, cache)
            x = self._leaving(x, update, "cross")
        update = self.mlp(self._entering(given if self.parallel else x, "mlp"))
        return self._leaving(x, update, "mlp")

    def _entering(self, x, name):
        norm = getattr(self, f"{name}_norm")
        return x if norm is None or self.position == "post" else norm(x)

    def _leaving(self, x, update, name):
        after = getattr(self, f"post_{name}_norm")
        x = x + (update if after is None else after(update))
        return getattr(self, f"{name}_norm")(x) if self.position == "post" else x


class Stack(nn.Module):
    """The layers of one side, and what stands before the first and after the last."""

    def __init__(self, shape, num_layers, window, memory_width=None):
        super().__init__()
        self.shape, self.window = shape, window
        scale = shape.embedding_scale
        self.scale = math.sqrt(shape.d_model) if scale == "sqrt_d_model" else scale
        self.embedding_norm = Norm(shape, shape.d_model) if shape.embedding_norm else None
        self.layers = nn.ModuleList([Layer(shape, i, memory_width) for i in range(num_layers)])
        self.final_norm = Norm(shape, shape.d_model) if shape.final_norm else None
        self.rotates = shape.position_encoding == "rotary"
        self.rope = Rope(shape, shape.rope_base, shape.rope_scaling)
        self.local_rope = Rope(shape, shape.local_rope_base or shape.rope_base, None)
        self.gradient_checkpointing = False

    def run(self, embedded, positions, mask, queries, memory=None, memory_mask=None, memory_positions=None, cache=None):
        """Returns the states after the last layer.

        Args:
          embedded: [batch, length, d_model].
          positions: int [batch, length].
          mask: bool [batch, 1, length, keys].
          queries: columns of the tokens among the keys, by which windows reach.
          memory, memory_mask, memory_positions: the encoder's, for a decoder behind one.
          cache: what a decoder keeps.
        """
        x = embedded * self.scale if self.scale != 1.0 else embedded
        x = x if self.embedding_norm is None else self.embedding_norm(x)
        far, near = (rope.angles(positions) if self.rotates else None for rope in (self.rope, self.local_rope))
        near_mask = mask
        if self.window is not None:
            keys = torch.arange(mask.shape[-1], device=mask.device)
            near_mask = mask & ((queries[:, None] - keys).abs() <= self.window)
        memory_angles = (None, None)
        if memory is not None and self.rotates and self.shape.cross_attention_rope:
            memory_angles = (far, self.rope.angles(memory_positions))
        for index, layer in enumerate(self.layers):
            is_global = self.window is None or index % self.shape.global_every == self.shape.first_global
            angles = (far if is_global else near,) * 2
            given = (x, mask if is_global else near_mask, angles, memory, memory_mask, memory_angles)
            if self.gradient_checkpointing and self.training:
                x = self._gradient_checkpointing_func(layer.__call__, *given)
            else:
                x = layer(*given, cache=cache)
        return x if self.final_norm is None else self.final_norm(x)
