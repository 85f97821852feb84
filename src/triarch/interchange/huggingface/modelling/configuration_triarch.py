"""The configuration of networks that triarch exports: RedLLM and DecLLM (arXiv 2510.26622) and their variants."""

from types import SimpleNamespace

from transformers import PretrainedConfig


class TriarchConfig(PretrainedConfig):
    """What config.json says.

    Args:
      model: every field of triarch's `ModelConfig` by name; the modelling file reads them as `config.shape`.
      bidirectional_prompt: whether a decoder-only model was trained to read its prompt in both directions.
    """

    has_no_defaults_at_init = True
    keys_to_ignore_at_inference = ("cache", "past_key_values")

    def __init__(self, model=None, bidirectional_prompt=False, **kwargs):
        self.model = dict(model or {})
        self.bidirectional_prompt = bidirectional_prompt
        super().__init__(**kwargs)

    @property
    def shape(self):
        """The fields as attributes: sizes of the encoder where a decoder has its own."""
        return SimpleNamespace(**self.model)

    @property
    def decoder_shape(self):
        """The fields as attributes, the decoder's own sizes in place of the encoder's."""
        own = {name: self.model[f"decoder_{name}"] for name in _SIZES if self.model[f"decoder_{name}"] is not None}
        return SimpleNamespace(**{**self.model, **own})

    # What transformers and its friends ask any model for.
    @property
    def vocab_size(self):
        return self.model["vocab_size"]

    @vocab_size.setter
    def vocab_size(self, value):
        self.model["vocab_size"] = value

    @property
    def hidden_size(self):
        return self.decoder_shape.d_model

    @property
    def num_hidden_layers(self):
        return self.model["num_decoder_layers"]

    @property
    def num_attention_heads(self):
        return self.decoder_shape.num_heads

    @property
    def num_key_value_heads(self):
        return self.decoder_shape.num_kv_heads or self.decoder_shape.num_heads

    @property
    def head_dim(self):
        return self.decoder_shape.head_dim


_SIZES = ("d_model", "d_ff", "num_heads", "head_dim", "num_kv_heads")


class RedLLMConfig(TriarchConfig):
    """Of an encoder-decoder."""

    model_type = "triarch_redllm"


class DecLLMConfig(TriarchConfig):
    """Of a decoder-only model."""

    model_type = "triarch_decllm"
