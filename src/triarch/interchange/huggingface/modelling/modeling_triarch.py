"""RedLLM and DecLLM (arXiv 2510.26622) and their variants in PyTorch, as triarch trains them.

    from transformers import AutoModelForSeq2SeqLM
    model = AutoModelForSeq2SeqLM.from_pretrained("this folder", trust_remote_code=True)

What a layer is made of is in `layers_triarch.py`.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn
from transformers import DynamicCache, EncoderDecoderCache, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutputWithPast, Seq2SeqLMOutput

from .configuration_triarch import DecLLMConfig, RedLLMConfig, TriarchConfig
from .layers_triarch import Stack, soft_cap

# What this version of transformers calls what a decoder keeps between tokens.
CACHE = "cache" if "cache" in CausalLMOutputWithPast.__dataclass_fields__ else "past_key_values"


def positions_of(real):
    """Returns each token's place among those that are no padding."""
    return (real.long().cumsum(-1) - 1).clamp(min=0)


class TriarchModel(PreTrainedModel, GenerationMixin):
    """What both classes share: embeddings, logits, and how parameters begin."""

    config_class = TriarchConfig
    supports_gradient_checkpointing = True
    _no_split_modules = ("Layer",)
    _supports_sdpa = True

    def __init__(self, config):
        super().__init__(config)
        shape = config.decoder_shape
        self.embedding = nn.Embedding(config.vocab_size, shape.d_model)
        tied = shape.tied_embeddings
        self.lm_head = None if tied else nn.Linear(shape.d_model, config.vocab_size, bias=False)
        self.logits_bias = nn.Parameter(torch.zeros(config.vocab_size)) if shape.logits_bias else None
        scale = shape.logits_scale
        self.logits_scale = 1 / math.sqrt(shape.d_model) if scale == "rsqrt_d_model" else scale
        window = shape.sliding_window if shape.decoder_sliding_window is None else shape.decoder_sliding_window
        self.decoder = Stack(shape, shape.num_decoder_layers, window, self.memory_width())

    def memory_width(self):
        """Returns the width of the encoder's states; None without an encoder."""
        return None

    def get_input_embeddings(self):
        return self.embedding

    def set_input_embeddings(self, value):
        self.embedding = value

    def get_output_embeddings(self):
        return self.lm_head

    def set_output_embeddings(self, value):
        self.lm_head = value

    def logits(self, states):
        weight = self.embedding.weight if self.lm_head is None else self.lm_head.weight
        logits = F.linear(states, weight).float() * self.logits_scale
        logits = logits if self.logits_bias is None else logits + self.logits_bias
        return soft_cap(logits, self.config.decoder_shape.logits_softcap)

    def loss(self, logits, labels):
        """Returns the mean cross-entropy; labels of -100 do not count."""
        return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)

    def decoded(self, embedded, real, offset, cache, prefix=None, **memory):
        """Returns the decoder's states.

        Args:
          embedded: of the tokens after those in the cache.
          real: int [batch, keys], 0 in padding; None: all are.
          offset: int [batch, 1], added to positions.
          cache: what was kept; None for nothing.
          prefix: int [batch, keys], 1 where every query may look, before it or behind; None for nowhere.
          memory: what the encoder gave.
        """
        past = 0 if cache is None else int(cache.get_seq_length())
        length, device = embedded.shape[1], embedded.device
        keys = torch.arange(past + length, device=device)
        queries = keys[past:]
        mask = (queries[:, None] >= keys)[None, None]
        if prefix is not None:
            mask = mask | (prefix > 0)[:, None, None]
        positions = queries[None].expand(embedded.shape[0], -1)
        if real is not None:
            mask = mask & (real > 0)[:, None, None]
            positions = positions_of(real)[:, past:]
        return self.decoder.run(embedded, positions + offset, mask, queries, cache=cache, **memory)

    @torch.no_grad()
    def _init_weights(self, module):
        shape = self.config.shape
        is_fixed = shape.kernel_init == "fixed"
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=shape.init_std if is_fixed else module.in_features**-0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            std = shape.embedding_init_std
            nn.init.normal_(module.weight, std=0.25 * module.embedding_dim**-0.5 if std is None else std)


class DecLLMForCausalLM(TriarchModel):
    """A decoder by itself."""

    config_class = DecLLMConfig

    def __init__(self, config):
        super().__init__(config)
        self.post_init()

    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        past_key_values=None,
        inputs_embeds=None,
        labels=None,
        use_cache=None,
        prefix_mask=None,
        cache=None,
        return_dict=None,
        **kwargs,
    ):
        """Returns logits, and the loss of `labels`, which are the inputs themselves: each token predicts the next.

        `prefix_mask` is 1 for tokens that all others see, also those before them (a prefix language model's prefix).
        """
        cache = past_key_values if cache is None else cache
        if cache is None and use_cache and not self.training:
            cache = DynamicCache()
        embedded = self.embedding(input_ids) if inputs_embeds is None else inputs_embeds
        states = self.decoded(embedded, attention_mask, 0, cache, prefix_mask)
        logits = self.logits(states)
        loss = None if labels is None else self.loss(logits[:, :-1], labels[:, 1:])
        return CausalLMOutputWithPast(loss=loss, logits=logits, **{CACHE: cache})

    def prepare_inputs_for_generation(self, input_ids, *args, **kwargs):
        inputs = super().prepare_inputs_for_generation(input_ids, *args, **kwargs)
        if self.config.bidirectional_prompt:
            cache = inputs.get("cache", inputs.get("past_key_values"))
            if cache is None:
                raise ValueError("this model reads its prompt in both directions: generate with use_cache=True")
            if cache.get_seq_length() == 0:
                inputs["prefix_mask"] = torch.ones_like(inputs["input_ids"])
        return inputs


class Encoder(Stack):
    """The encoder as `generate` calls it; the embedding is lent by the model, which holds it once."""

    main_input_name = "input_ids"

    def __init__(self, config, lent):
        super().__init__(config.shape, config.shape.num_encoder_layers, config.shape.sliding_window)
        self.lent = [lent]
        self.pad_id = config.shape.pad_id

    def forward(self, input_ids=None, attention_mask=None, inputs_embeds=None, **kwargs):
        """Returns the states; without a mask, tokens with the padding's id are padding."""
        embedded = self.lent[0](input_ids) if inputs_embeds is None else inputs_embeds
        if attention_mask is None:
            attention_mask = self.real(input_ids, embedded)
        real = attention_mask > 0
        columns = torch.arange(real.shape[1], device=real.device)
        return BaseModelOutput(self.run(embedded, positions_of(attention_mask), real[:, None, None], columns))

    def real(self, input_ids, embedded):
        """Returns a mask of what is no padding."""
        if input_ids is None:
            return torch.ones(embedded.shape[:2], dtype=torch.long, device=embedded.device)
        return (input_ids != self.pad_id).long()


class RedLLMForConditionalGeneration(TriarchModel):
    """An encoder-decoder; the decoder's positions continue those of the encoder, if the configuration says so."""

    config_class = RedLLMConfig

    def __init__(self, config):
        super().__init__(config)
        shape = config.shape
        own = not shape.shared_embeddings
        self.encoder_embedding = nn.Embedding(config.vocab_size, shape.d_model) if own else None
        self.encoder = Encoder(config, self.encoder_embedding if own else self.embedding)
        self.post_init()

    def memory_width(self):
        return self.config.shape.d_model

    def get_encoder(self, *args, **kwargs):
        return self.encoder

    def get_decoder(self, *args, **kwargs):
        return self.decoder

    def set_input_embeddings(self, value):
        self.embedding = value
        if self.encoder_embedding is None:
            self.encoder.lent = [value]

    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        decoder_input_ids=None,
        decoder_attention_mask=None,
        encoder_outputs=None,
        past_key_values=None,
        inputs_embeds=None,
        decoder_inputs_embeds=None,
        labels=None,
        use_cache=None,
        cache=None,
        return_dict=None,
        **kwargs,
    ):
        """Returns logits, and the loss of `labels`, which the decoder reads shifted where it is given nothing else."""
        if encoder_outputs is None:
            encoder_outputs = self.encoder(input_ids, attention_mask, inputs_embeds)
        memory = encoder_outputs[0]
        if attention_mask is None:
            attention_mask = self.encoder.real(input_ids, memory)
        if labels is not None and decoder_input_ids is None and decoder_inputs_embeds is None:
            decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        cache = past_key_values if cache is None else cache
        if cache is None and use_cache and not self.training:
            cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        embedded = self.embedding(decoder_input_ids) if decoder_inputs_embeds is None else decoder_inputs_embeds
        continuous = self.config.shape.decoder_positions == "continuous"
        states = self.decoded(
            embedded,
            decoder_attention_mask,
            attention_mask.long().sum(-1, keepdim=True) if continuous else 0,
            cache,
            memory=memory,
            memory_mask=(attention_mask > 0)[:, None, None],
            memory_positions=positions_of(attention_mask),
        )
        logits = self.logits(states)
        loss = None if labels is None else self.loss(logits, labels)
        return Seq2SeqLMOutput(loss=loss, logits=logits, encoder_last_hidden_state=memory, **{CACHE: cache})

    def prepare_decoder_input_ids_from_labels(self, labels):
        """Returns labels shifted to the right, behind the token that every decoder reads first."""
        start, pad = self.config.decoder_start_token_id, self.config.pad_token_id
        if start is None:
            raise ValueError("config.decoder_start_token_id is not set: it comes before the labels")
        shifted = labels.roll(1, dims=-1)
        shifted[:, 0] = start
        return shifted.masked_fill(shifted == -100, 0 if pad is None else pad)
