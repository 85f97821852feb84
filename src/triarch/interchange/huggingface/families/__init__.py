"""The families, one small file each: config.json both ways, and the table of tensors."""

from triarch.interchange.huggingface.families import own, redllm
from triarch.interchange.huggingface.families.decoders import (
    gemma3,
    gpt2,
    gpt_neox,
    llama,
    mixtral,
    olmo2,
    olmoe,
    qwen3,
)
from triarch.interchange.huggingface.families.encoder_decoders import bart, switch, t5, t5gemma
from triarch.interchange.huggingface.families.encoders import bert, distilbert, modernbert, roberta
from triarch.interchange.huggingface.families.recurrent import bamba, mamba2, rwkv

FAMILIES = {
    family.name: family
    for family in (
        bert.FAMILY,
        roberta.FAMILY,
        distilbert.FAMILY,
        modernbert.ENCODER,
        modernbert.DECODER,
        gpt2.FAMILY,
        gpt_neox.FAMILY,
        llama.FAMILY,
        olmo2.FAMILY,
        mixtral.FAMILY,
        olmoe.FAMILY,
        qwen3.FAMILY,
        mamba2.FAMILY,
        bamba.FAMILY,
        rwkv.FAMILY,
        gemma3.FAMILY,
        t5.FAMILY,
        t5.UMT5,
        switch.FAMILY,
        bart.FAMILY,
        t5gemma.FAMILY,
        redllm.REDLLM,
        redllm.DECLLM,
        own.FAMILY,
    )
}
