"""The networks written down a second time, plainly: numpy, one document, one token, one head at a time.

Nothing is shared with the package. There is no padding, no packing and no mask here: documents stand alone, and a
token attends to a list of tokens that is written out.
"""

from __future__ import annotations

import cmath
import math

import numpy as np


class Reference:
    """One network. `values` are its parameters by path, layers stacked where the package stacks them.

    In float32 it shows what rounding does to this network: every vector is rounded to it, each sum runs in it.

    `seen` lists, in running order, each attention of one token: what it is called in its layer, and the weights [heads,
    tokens that it sees].
    """

    def __init__(self, config, values, dtype=np.float64):
        self.config = config
        self.seen = []
        self.dtype = dtype
        self.values = {path: np.asarray(value, dtype) for path, value in values.items()}

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
        stream = [self.embed("encoder", token, place) for place, token in enumerate(tokens)]
        everyone = range(len(tokens))
        for index, layer in enumerate(self.layers("encoder", self.config.num_encoder_layers)):
            base, window = self.base_and_window("encoder", index)
            sees = [[j for j in everyone if window is None or abs(i - j) <= window] for i in everyone]
            given = stream
            stream = self.self_attention(layer, index, stream, sees, 0, base, "encoder")
            stream = self.feed_forward(layer, stream, given)
        return self.end("encoder", stream)

    def decode(self, tokens, memory, first_position, prefix):
        c = self.config
        stream = [self.embed("decoder", token, first_position + place) for place, token in enumerate(tokens)]
        everyone = range(len(tokens))
        for index, layer in enumerate(self.layers("decoder", c.num_decoder_layers)):
            base, window = self.base_and_window("decoder", index)
            sees = [
                [j for j in everyone if (j <= i or j < prefix) and (window is None or abs(i - j) <= window)]
                for i in everyone
            ]
            given = stream
            stream = self.self_attention(layer, index, stream, sees, first_position, base, "decoder")
            if memory is not None:
                stream = self.cross_attention(layer, stream, given, memory, first_position)
            stream = self.feed_forward(layer, stream, given)
        return self.end("decoder", stream)

    def end(self, side, stream):
        return [self.norm(x, self.values, (side, "final_norm")) for x in stream] if self.config.final_norm else stream

    def layers(self, side, count):
        """Parameters of each layer in running order, whatever the stacking."""
        own = {p[1:]: value for p, value in self.values.items() if p[0] == side and p[1] in ("first", "scanned")}
        first = sorted({path[1] for path in own if path[0] == "first"})
        group = sorted({path[1] for path in own if path[0] == "scanned"})
        found = [{p[2:]: v for p, v in own.items() if p[:2] == ("first", i)} for i in first]
        if group:
            repeats = (count - len(first)) // len(group)
            for repeat in range(repeats):
                found += [{p[2:]: v[repeat] for p, v in own.items() if p[:2] == ("scanned", i)} for i in group]
        assert len(found) == count
        return found

    def base_and_window(self, side, index):
        c = self.config
        if c.sliding_window is None or index % c.global_every == c.first_global:
            return c.rope_base, None
        reach = c.decoder_sliding_window if side == "decoder" and c.decoder_sliding_window else c.sliding_window
        return (c.rope_base if c.local_rope_base is None else c.local_rope_base), reach

    def embed(self, side, token, place):
        c = self.config
        own = side == "encoder" and not c.shared_embeddings
        x = self.values["embedding", "encoder_table" if own else "table"][token]
        x = x * (math.sqrt(c.d_model) if c.embedding_scale == "sqrt_d_model" else c.embedding_scale)
        if c.position_encoding == "learned":
            x = x + self.values[f"{side}_input", "positions"][place + c.learned_position_offset]
        if c.token_types:
            x = x + self.values[f"{side}_input", "types"][0]
        return self.norm(x, self.values, (f"{side}_input", "norm")) if c.embedding_norm else x

    def predict(self, state):
        c = self.config
        if c.prediction_head:
            state = state @ self.values["prediction_head", "dense"]
            state = self.activate(state + self.values.get(("prediction_head", "dense_bias"), 0))
            state = self.norm(state, self.values, ("prediction_head", "norm"))
        scale = 1 / math.sqrt(c.d_model) if c.logits_scale == "rsqrt_d_model" else c.logits_scale
        matrix = self.values["embedding", "table" if c.tied_embeddings else "output"]
        logits = np.array([scale * float(row @ state) for row in matrix])
        logits = logits + self.values["logits_bias",] if c.logits_bias else logits
        return self.cap(logits, c.logits_softcap)

    def cap(self, x, bound):
        return x if bound is None else bound * np.tanh(x / bound)

    def norm(self, x, values, where):
        """The norm whose parameters lie under the path `where` of `values`."""
        c = self.config
        if c.norm == "layernorm":
            x = x - sum(x) / len(x)
        y = self.rms(x)
        if c.norm_scale != "none":
            y = y * (values[(*where, "scale")] + (1 if c.norm_scale == "one_plus_gain" else 0))
        return y + values[(*where, "bias")] if c.norm_bias else y

    def rms(self, x):
        return x / math.sqrt(sum(v * v for v in x) / len(x) + self.config.norm_eps)

    def residual(self, layer, name, x, sublayer):
        """One token's stream after a sublayer with its norms."""
        position = self.config.norm_position
        if position == "post":
            return self.norm(x + sublayer, layer, (f"{name}_norm",))
        after = position in ("pre_and_post", "output")
        return x + (self.norm(sublayer, layer, (f"post_{name}_norm",)) if after else sublayer)

    def entering(self, layer, name, x):
        return x if self.config.norm_position in ("post", "output") else self.norm(x, layer, (f"{name}_norm",))

    def linear(self, layer, name, kind, x, has_bias):
        return x @ layer[name, kind] + (layer[name, f"{kind}_bias"] if has_bias else 0)

    def activate(self, x):
        name = self.config.activation
        if name == "relu":
            return np.array([max(v, 0.0) for v in x])
        if name == "silu":
            return np.array([v / (1 + math.exp(-v)) for v in x])
        if name == "gelu":
            return np.array([v * (1 + math.erf(v / math.sqrt(2))) / 2 for v in x])
        return np.array([v / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))) for v in x])

    def feed_forward(self, layer, stream, given):
        c = self.config
        result = []
        for x, whole in zip(stream, given, strict=True):
            y = self.entering(layer, "mlp", whole if c.parallel_residual else x)
            up = self.linear(layer, "mlp", "up", y, c.mlp_bias)
            inner = self.activate(up)
            if c.gated_mlp:
                inner = self.activate(self.linear(layer, "mlp", "gate", y, c.mlp_bias)) * up
            result.append(self.residual(layer, "mlp", x, self.linear(layer, "mlp", "down", inner, c.mlp_bias)))
        return result

    def self_attention(self, layer, index, stream, sees, first_position, base, side):
        c = self.config
        has_norm = index > 0 or c.first_attention_norm
        normed = [self.entering(layer, "attention", x) for x in stream] if has_norm else stream
        places = [first_position + i for i in range(len(stream))]
        result = []
        for i, x in enumerate(stream):
            others = [normed[j] for j in sees[i]], [places[j] for j in sees[i]]
            biases = [self.bias(side, j - i) for j in sees[i]]
            update = self.attend(layer, "attention", normed[i], places[i], *others, base, biases)
            result.append(self.residual(layer, "attention", x, update))
        return result

    def bias(self, side, offset):
        """T5's bias of every head for a key that stands `offset` tokens after the query."""
        c = self.config
        if c.position_encoding != "relative_bias":
            return np.zeros(c.num_heads)
        buckets, row = c.relative_buckets, 0
        if side == "encoder":
            buckets //= 2
            row, offset = (buckets if offset > 0 else 0), -abs(offset)
        distance, exact = max(-offset, 0), buckets // 2
        if distance >= exact:
            steps = math.log(distance / exact) / math.log(c.relative_max_distance / exact) * (buckets - exact)
            distance = min(exact + math.floor(steps + 1e-9), buckets - 1)
        return self.values[side, "relative_bias"][row + distance]

    def cross_attention(self, layer, stream, given, memory, first_position):
        c = self.config
        base = c.rope_base if c.cross_attention_rope else None
        places, biases = list(range(len(memory))), [np.zeros(c.num_heads)] * len(memory)
        result = []
        for i, x in enumerate(stream):
            y = self.entering(layer, "cross", given[i] if c.parallel_residual else x)
            update = self.attend(layer, "cross_attention", y, first_position + i, memory, places, base, biases)
            result.append(self.residual(layer, "cross", x, update))
        return result

    def attend(self, layer, name, x, place, others, other_places, base, biases):
        """The attention sublayer's output for one token `x` at `place` that sees `others`."""
        c = self.config
        width = c.head_dim
        kv_heads = c.num_kv_heads or c.num_heads
        base = base if c.position_encoding == "rotary" else None
        scale = 1 / math.sqrt(width) if c.attention_scale == "rsqrt_head_dim" else c.attention_scale
        whole_query = self.linear(layer, name, "query", x, c.attention_bias)
        whole_keys = [self.linear(layer, name, "key", y, c.attention_bias) for y in others]
        if c.qk_norm == "all_heads":
            whole_query = self.norm(whole_query, layer, (name, "query_norm"))
            whole_keys = [self.norm(y, layer, (name, "key_norm")) for y in whole_keys]
        whole_values = [self.linear(layer, name, "value", y, c.attention_bias) for y in others]
        heads, weights = [], []
        for head in range(c.num_heads):
            shared = head // (c.num_heads // kv_heads)
            own, given = slice(head * width, (head + 1) * width), slice(shared * width, (shared + 1) * width)
            query = self.turn(self.normed(layer, name, "query", whole_query[own]), place, base)
            keys = [self.normed(layer, name, "key", y[given]) for y in whole_keys]
            keys = [self.turn(y, p, base) for y, p in zip(keys, other_places, strict=True)]
            values = [self.maybe_rms(y[given]) for y in whole_values]
            logits = [
                self.cap(scale * float(query @ key), c.attention_softcap) + bias[head]
                for key, bias in zip(keys, biases, strict=True)
            ]
            heat = [math.exp(logit) for logit in logits]
            weights.append([h / sum(heat) for h in heat])
            output = sum((h / sum(heat) * v for h, v in zip(heat, values, strict=True)), np.zeros(width, self.dtype))
            heads.append(self.rms(output) if c.attention_output_norm == "per_head" else output)
        self.seen.append((name, np.array(weights)))
        joined = np.concatenate(heads)
        if c.attention_output_norm == "all_heads":
            joined = self.rms(joined)
        update = self.linear(layer, name, "output", joined, c.attention_bias)
        return self.rms(update) if c.attention_output_norm == "projected" else update

    def normed(self, layer, name, kind, x):
        """One head's query or key after the norms that it has by itself."""
        x = self.norm(x, layer, (name, f"{kind}_norm")) if self.config.qk_norm == "per_head" else x
        return self.maybe_rms(x)

    def maybe_rms(self, x):
        return self.rms(x) if self.config.qkv_norm else x

    def turn(self, x, place, base):
        """Rotary embedding: (x[i], x[i + half]) is a complex number, turned by place * base^(-2i / width)."""
        if base is None:
            return x
        width = int(len(x) * self.config.rope_fraction)
        if width < len(x):
            return np.concatenate([self.turned(x[:width], place, base), x[width:]])
        return self.turned(x, place, base)

    def turned(self, x, place, base):
        half = len(x) // 2
        speeds = [self.stretched(base ** (-2 * i / len(x))) for i in range(half)]
        turned = [complex(x[i], x[i + half]) * cmath.exp(1j * place * speeds[i]) for i in range(half)]
        return np.array([z.real for z in turned] + [z.imag for z in turned], self.dtype)

    def stretched(self, speed):
        """Llama 3's scaling of one frequency, by its wavelength in tokens."""
        s = self.config.rope_scaling
        if s is None:
            return speed
        wavelength = 2 * math.pi / speed
        if wavelength < s.original_length / s.high_freq_factor:
            return speed
        if wavelength > s.original_length / s.low_freq_factor:
            return speed / s.factor
        smooth = (s.original_length / wavelength - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor)
        return (1 - smooth) * speed / s.factor + smooth * speed
