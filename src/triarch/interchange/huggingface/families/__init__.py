"""The families, one small file each: config.json both ways, and the table of tensors."""

from triarch.interchange.huggingface.families import (
    bart,
    bert,
    distilbert,
    gpt2,
    llama,
    modernbert,
    olmo2,
    own,
    roberta,
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
        llama.FAMILY,
        olmo2.FAMILY,
        t5.FAMILY,
        t5.UMT5,
        bart.FAMILY,
        t5gemma.FAMILY,
        own.FAMILY,
    )
}
