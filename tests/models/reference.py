"""The networks written down a second time, plainly: numpy float64, one document, one token, one head at a time.

Nothing is shared with the package. There is no padding, no packing and no mask here: documents stand alone, and a
token attends to a list of tokens that is written out.
"""

from __future__ import annotations

import cmath
import math

import numpy as np


class Reference:
    """One network. `values` are its parameters by path, layers stacked where the package stacks them."""

    def __init__(self, config, values):
        self.config = config
        self.values = {path: np.asarray(value, np.float64) for path, value in values.items()}

    def logits(self, source, inputs, prefix=0):
        """Logits [len(inputs), vocab] of one document; its first `prefix` tokens see each other in both directions."""
        c = self.config
        if c.architecture == "encoder-only":
            states = self.encode(inputs)
        elif c.architecture == "decoder-only":
            states = self.decode(inputs, None, 0, prefix)
        else:
            continued = len(source) if c.decoder_positions == "continuous" else 0
            states = self.decode(inputs, self.encode(source), continued, prefix)
        return np.stack([self.predict(state) for state in states])

    def encode(self, tokens):
        stream = [self.embed(token) for token in tokens]
        everyone = range(len(tokens))
        for index, layer in enumerate(self.layers("encoder", self.config.num_encoder_layers)):
            base, window = self.base_and_window(index)
            sees = [[j for j in everyone if window is None or abs(i - j) <= window] for i in everyone]
            stream = self.self_attention(layer, index, stream, sees, 0, base)
            stream = self.feed_forward(layer, stream)
        return [
            self.norm(x, self.values["encoder", "final_norm", "scale"] if self.config.norm_scale else None)
            for x in stream
        ]

    def decode(self, tokens, memory, first_position, prefix):
        c = self.config
        stream = [self.embed(token) for token in tokens]
        everyone = range(len(tokens))
        for index, layer in enumerate(self.layers("decoder", c.num_decoder_layers)):
            base, window = self.base_and_window(index)
            sees = [
                [j for j in everyone if (j <= i or j < prefix) and (window is None or abs(i - j) <= window)]
                for i in everyone
            ]
            stream = self.self_attention(layer, index, stream, sees, first_position, base)
            if memory is not None:
                stream = self.cross_attention(layer, stream, memory, first_position)
            stream = self.feed_forward(layer, stream)
        return [self.norm(x, self.values["decoder", "final_norm", "scale"] if c.norm_scale else None) for x in stream]

    def layers(self, side, count):
        """Parameters of each layer in running order, whatever the stacking."""
        own = {path[1:]: value for path, value in self.values.items() if path[0] == side and path[1] != "final_norm"}
        first = sorted({path[1] for path in own if path[0] == "first"})
        group = sorted({path[1] for path in own if path[0] == "scanned"})
        found = [{p[2:]: v for p, v in own.items() if p[:2] == ("first", i)} for i in first]
        if group:
            repeats = (count - len(first)) // len(group)
            for repeat in range(repeats):
                found += [{p[2:]: v[repeat] for p, v in own.items() if p[:2] == ("scanned", i)} for i in group]
        assert len(found) == count
        return found

    def base_and_window(self, index):
        c = self.config
        if c.sliding_window is None or index % c.global_every == 0:
            return c.rope_base, None
        return (c.rope_base if c.local_rope_base is None else c.local_rope_base), c.sliding_window

    def embed(self, token):
        c = self.config
        x = self.values["embedding", "table"][token]
        x = x * (math.sqrt(c.d_model) if c.embedding_scale == "sqrt_d_model" else c.embedding_scale)
        if not c.embedding_norm:
            return x
        return self.norm(x, self.values["embedding", "norm", "scale"] if c.norm_scale else None)

    def predict(self, state):
        c = self.config
        if c.prediction_head:
            state = self.activate(state @ self.values["prediction_head", "dense"])
            state = self.norm(state, self.values["prediction_head", "norm", "scale"] if c.norm_scale else None)
        scale = 1 / math.sqrt(c.d_model) if c.logits_scale == "rsqrt_d_model" else c.logits_scale
        logits = np.array([scale * float(row @ state) for row in self.values["embedding", "table"]])
        return logits + self.values["prediction_head", "bias"] if c.prediction_head else logits

    def norm(self, x, gain):
        if self.config.norm == "layernorm":
            x = x - sum(x) / len(x)
        y = self.rms(x)
        return y if gain is None else y * gain

    def rms(self, x):
        return x / math.sqrt(sum(v * v for v in x) / len(x) + self.config.norm_eps)

    def activate(self, x):
        name = self.config.activation
        if name == "relu":
            return np.array([max(v, 0.0) for v in x])
        if name == "silu":
            return np.array([v / (1 + math.exp(-v)) for v in x])
        if name == "gelu":
            return np.array([v * (1 + math.erf(v / math.sqrt(2))) / 2 for v in x])
        return np.array([v / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))) for v in x])

    def feed_forward(self, layer, stream):
        c = self.config
        result = []
        for x in stream:
            y = self.norm(x, layer["mlp_norm", "scale"] if c.norm_scale else None)
            up = y @ layer["mlp", "up"]
            inner = self.activate(y @ layer["mlp", "gate"]) * up if c.gated_mlp else self.activate(up)
            result.append(x + inner @ layer["mlp", "down"])
        return result

    def self_attention(self, layer, index, stream, sees, first_position, base):
        c = self.config
        normed = stream
        if index > 0 or c.first_attention_norm:
            normed = [self.norm(x, layer["attention_norm", "scale"] if c.norm_scale else None) for x in stream]
        places = [first_position + i for i in range(len(stream))]
        updates = [
            self.attend(
                layer,
                "attention",
                normed[i],
                places[i],
                [normed[j] for j in sees[i]],
                [places[j] for j in sees[i]],
                base,
            )
            for i in range(len(stream))
        ]
        return [x + update for x, update in zip(stream, updates, strict=True)]

    def cross_attention(self, layer, stream, memory, first_position):
        c = self.config
        base = c.rope_base if c.cross_attention_rope else None
        result = []
        for i, x in enumerate(stream):
            y = self.norm(x, layer["cross_norm", "scale"] if c.norm_scale else None)
            places = list(range(len(memory)))
            result.append(x + self.attend(layer, "cross_attention", y, first_position + i, memory, places, base))
        return result

    def attend(self, layer, name, x, place, others, other_places, base):
        """The attention sublayer's output for one token `x` at `place` that sees `others`."""
        c = self.config
        width = c.head_dim
        kv_heads = c.num_kv_heads or c.num_heads
        heads = []
        for head in range(c.num_heads):
            shared = head // (c.num_heads // kv_heads)
            own, given = slice(head * width, (head + 1) * width), slice(shared * width, (shared + 1) * width)
            query = self.turn(self.maybe_rms(x @ layer[name, "query"][:, own]), place, base)
            keys = [
                self.turn(self.maybe_rms(y @ layer[name, "key"][:, given]), p, base)
                for y, p in zip(others, other_places, strict=True)
            ]
            values = [self.maybe_rms(y @ layer[name, "value"][:, given]) for y in others]
            heat = [math.exp(float(query @ key) / math.sqrt(width)) for key in keys]
            output = sum((h / sum(heat) * v for h, v in zip(heat, values, strict=True)), np.zeros(width))
            heads.append(self.rms(output) if c.attention_output_norm == "per_head" else output)
        joined = np.concatenate(heads)
        if c.attention_output_norm == "all_heads":
            joined = self.rms(joined)
        update = joined @ layer[name, "output"]
        return self.rms(update) if c.attention_output_norm == "projected" else update

    def maybe_rms(self, x):
        return self.rms(x) if self.config.qkv_norm else x

    def turn(self, x, place, base):
        """Rotary embedding: (x[i], x[i + half]) is a complex number, turned by place * base^(-2i / width)."""
        if base is None:
            return x
        half = len(x) // 2
        turned = [complex(x[i], x[i + half]) * cmath.exp(1j * place * base ** (-2 * i / len(x))) for i in range(half)]
        return np.array([z.real for z in turned] + [z.imag for z in turned])
