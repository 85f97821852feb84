"""The families, one small file each: config.json both ways, and the table of tensors."""

from triarch.interchange.huggingface.families import (
    bamba,
    bart,
    bert,
    distilbert,
    gemma3,
    gpt2,
    gpt_neox,
    llama,
    mamba2,
    mixtral,
    modernbert,
    olmo2,
    olmoe,
    own,
    qwen3,
    redllm,
    roberta,
    rwkv,
    t5,
    t5gemma,
)

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
        bart.FAMILY,
        t5gemma.FAMILY,
        redllm.REDLLM,
        redllm.DECLLM,
        own.FAMILY,
    )
}
