"""Other classes over a family's body: without a head, for the classes of texts, and for those of tokens."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from triarch.errors import UserError
from triarch.interchange import orbax_folder
from triarch.interchange.huggingface.family import Family
from triarch.interchange.huggingface.fields import ConfigFields
from triarch.interchange.huggingface.table import TensorRule, linear, norm, same, transposed
from triarch.interchange.manifest import Origin
from triarch.interchange.streamed import StoredModel
from triarch.models import ModelConfig
from triarch.objectives import kept_head
from triarch.objectives.labels.classifier_head import Form, HeadForm, headless, is_headless

# What a file of a class holds, see `Variant.kind`.
BODY, TEXTS, TOKENS = "body", "texts", "tokens"
_TEXT_OBJECTIVE, _TOKEN_OBJECTIVE = "Classify", "ClassifyTokens"


@dataclasses.dataclass(frozen=True)
class Variant:
    """A class of transformers that has a family's body and not its head over the vocabulary.

    Attributes:
      class_name: it.
      kind: "body" for no head, "texts" or "tokens" for what gets labels.
      head: the tensors of its head; of a body, of a pooler that it may have.
      prefix: of the body's tensors, which files of the body alone lack.
      inner: put before the names that the body's tensors have in the family's own class.
      form: what stands before the outputs.
      bias: whether the outputs have a bias.
      can_average: whether config.json says in `classifier_pooling` that the mean is classified, not one state.
    """

    class_name: str
    kind: str
    head: tuple[TensorRule, ...] = ()
    prefix: str = ""
    inner: str = ""
    form: Form = "tanh"
    bias: bool = True
    can_average: bool = False


def _bert_like(
    name: str, prefix: str, texts: Sequence[TensorRule], pooler: Sequence[TensorRule] = (), form: Form = "tanh"
) -> tuple[Variant, ...]:
    return (
        Variant(f"{name}Model", BODY, tuple(pooler), prefix),
        Variant(f"{name}ForSequenceClassification", TEXTS, tuple(texts), prefix, form=form),
        Variant(f"{name}ForTokenClassification", TOKENS, linear("classifier", "head/output"), prefix, form="linear"),
    )


def _scored(name: str, prefix: str, tokens: str = "score") -> tuple[Variant, ...]:
    texts = (transposed("score.weight", "head/output"),)
    return (
        Variant(f"{name}ForSequenceClassification", TEXTS, texts, prefix, form="linear", bias=False),
        Variant(f"{name}ForTokenClassification", TOKENS, linear(tokens, "head/output"), prefix, form="linear"),
    )


def _classification_head(name: str, prefix: str, inner: str = "") -> tuple[Variant, ...]:
    head = (
        *linear("classification_head.dense", "head/dense"),
        *linear("classification_head.out_proj", "head/output"),
    )
    return (Variant(f"{name}ForSequenceClassification", TEXTS, head, prefix, inner),)


def _modern_head(ours: str) -> tuple[TensorRule, ...]:
    dense = transposed("head.dense.weight", f"{ours}/dense"), same("head.dense.bias", f"{ours}/dense_bias")
    return (*dense, *norm("head.norm", f"{ours}/norm"))


_POOLER = linear("bert.pooler.dense", "head/dense")
# A network has the one or the other.
_MODERN = (*_modern_head("prediction_head"), *_modern_head("head"), *linear("classifier", "head/output"))
VARIANTS: Mapping[str, tuple[Variant, ...]] = {
    "bert": _bert_like("Bert", "bert.", (*_POOLER, *linear("classifier", "head/output")), _POOLER),
    "roberta": _bert_like(
        "Roberta",
        "roberta.",
        (*linear("classifier.dense", "head/dense"), *linear("classifier.out_proj", "head/output")),
    ),
    "distilbert": _bert_like(
        "DistilBert",
        "distilbert.",
        (*linear("pre_classifier", "head/dense"), *linear("classifier", "head/output")),
        form="relu",
    ),
    "modernbert": (
        Variant("ModernBertModel", BODY, prefix="model."),
        Variant("ModernBertForSequenceClassification", TEXTS, _MODERN, "model.", form="prediction", can_average=True),
        Variant("ModernBertForTokenClassification", TOKENS, _MODERN, "model.", form="prediction"),
    ),
    "modernbert-decoder": (
        Variant("ModernBertDecoderForSequenceClassification", TEXTS, _MODERN, "model.", form="prediction", bias=False),
    ),
    "llama": _scored("Llama", "model."),
    "qwen3": _scored("Qwen3", "model."),
    "mixtral": _scored("Mixtral", "model."),
    "gemma3": _scored("Gemma3Text", "model.")[:1],
    "gpt2": _scored("GPT2", "transformer.", "classifier"),
    "gpt_neox": _scored("GPTNeoX", "gpt_neox.", "classifier"),
    "t5": _classification_head("T5", "transformer.", "transformer."),
    "bart": _classification_head("Bart", "model."),
}


def class_names(family: Family, *kinds: str) -> list[str]:
    """Returns the names of a family's other classes, of some kinds or of all."""
    return [variant.class_name for variant in VARIANTS.get(family.name, ()) if not kinds or variant.kind in kinds]


def imported(family: Family, class_name: str, fields: Mapping[str, Any], names: Collection[str], where: str) -> Family:
    """Returns a family as one of its classes has it in a folder; the family itself for its own class.

    Args:
      family: of the class.
      class_name: it.
      fields: config.json.
      names: of the tensors.
      where: what messages call config.json.

    Raises:
      UserError: config.json asks for labels that no objective has.
    """
    variant = next((one for one in VARIANTS.get(family.name, ()) if one.class_name == class_name), None)
    if variant is None:
        return family
    if variant.kind == BODY:
        has_pooler = any(name.removeprefix(variant.prefix) == "pooler.dense.weight" for name in names)
        made = _derived(family, variant, "tanh", HeadForm("tanh", 0) if has_pooler and variant.head else None, None)
        ignored = () if made.make_head is not None else (r"^(\w+\.)?pooler\.",)
        return dataclasses.replace(made, ignored=(*made.ignored, *ignored))
    num_labels = len(label_names(fields) or ()) or fields.get("num_labels", 2)
    if not isinstance(num_labels, int) or num_labels < 1:
        raise UserError(f"{where}: num_labels = {num_labels!r}: expected a whole number from 1 on")
    problem = fields.get("problem_type")
    if problem == "multi_label_classification":
        raise UserError(f"{where}: problem_type = {problem!r} has no equivalent here: a text has one label")
    pooling = fields.get("classifier_pooling", "cls") if variant.can_average else None
    objective: dict[str, Any] = {"class": _TOKEN_OBJECTIVE, "num_labels": num_labels, "head": variant.form}
    if variant.kind == TEXTS:
        regression = problem == "regression" or (problem is None and num_labels == 1)
        objective |= {"class": _TEXT_OBJECTIVE, "regression": regression, "pooling": pooling}
    head = HeadForm(variant.form, num_labels, None if variant.kind == TEXTS else variant.bias)
    return _derived(family, variant, variant.form, head, objective)


def exported(family: Family, model: StoredModel) -> Family | None:
    """Returns a family as the class that a classifier, or a network without a head, is written as.

    None where the family has no such class.
    """
    objective = model.origin.objective or {}
    make_head = kept_head(objective, model.config, str(model.path))
    kind = BODY if make_head is None else TOKENS if objective.get("class") == _TOKEN_OBJECTIVE else TEXTS
    variant = next((one for one in VARIANTS.get(family.name, ()) if one.kind == kind), None)
    if variant is None:
        return None
    if not isinstance(make_head, HeadForm):
        has_pooler = variant.head and "head/dense" in orbax_folder.shapes(model.parameters)
        return _bare(_derived(family, variant, "tanh", HeadForm("tanh", 0) if has_pooler else None, None))
    head = make_head.of(model.config)
    assert head.form is not None  # Nothing is left open now.
    if variant.bias != head.bias or (head.form, variant.form) not in ((variant.form,) * 2, ("norm", "prediction")):
        return None
    usual = "cls" if model.config.architecture == "encoder-only" else "last"
    pooling = objective.get("pooling") or usual
    if kind == TEXTS and pooling != usual and not (variant.can_average and pooling == "mean"):
        return None
    return dataclasses.replace(
        _derived(family, variant, head.form, head, None), labels=_said_of_labels(variant, model, pooling)
    )


def _bare(family: Family) -> Family:
    """Returns a body as transformers writes it, its tensors without the prefix that they have in larger classes."""

    def rules(config: ModelConfig) -> Sequence[TensorRule]:
        return [
            dataclasses.replace(rule, theirs=rule.theirs.removeprefix(family.prefix)) for rule in family.rules(config)
        ]

    return dataclasses.replace(family, rules=rules)


def _said_of_labels(variant: Variant, model: StoredModel, pooling: str) -> dict[str, Any]:
    """Returns what config.json says of a classifier's labels."""
    objective: Mapping[str, Any] = model.origin.objective or {}
    count = objective.get("num_labels", 2)
    names = names_of_labels(model.origin)
    names = names if names is not None and len(names) == count else tuple(f"LABEL_{index}" for index in range(count))
    said: dict[str, Any] = {
        "id2label": {str(index): name for index, name in enumerate(names)},
        "label2id": {name: index for index, name in enumerate(names)},
    }
    if variant.kind == TEXTS:
        said["problem_type"] = "regression" if objective.get("regression") else "single_label_classification"
        said |= {"classifier_pooling": pooling} if variant.can_average else {}
    if model.config.num_decoder_layers and not model.config.num_encoder_layers and model.vocabulary is not None:
        # By this the class finds the last token.
        said["pad_token_id"] = model.vocabulary["special"]["pad"]
    return said


def names_of_labels(origin: Origin) -> tuple[str, ...] | None:
    """Returns the names of the labels that a classifier tells, in their order; None where nobody gave them names."""
    names = ((origin.source or {}).get("labels") or {}).get("names")
    if names is not None:
        return tuple(map(str, names))
    return label_names((origin.source or {}).get("config") or {}) if origin.is_imported else None


def label_names(fields: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Returns the labels' names of a config.json in their order; None where it has none."""
    names = fields.get("id2label")
    if not isinstance(names, Mapping):
        return None
    try:
        ordered = sorted((int(key), str(value)) for key, value in names.items())
    except ValueError:
        return None
    return tuple(value for _, value in ordered) if [key for key, _ in ordered] == list(range(len(ordered))) else None


def _derived(
    family: Family, variant: Variant, form: Form, head: HeadForm | None, objective: Mapping[str, Any] | None
) -> Family:
    inner = variant.inner

    def read(fields: ConfigFields) -> ModelConfig:
        return headless(family.read(fields), keep_prediction_head=form == "prediction")

    def rules(config: ModelConfig) -> Sequence[TensorRule]:
        body = [rule for rule in family.rules(config) if not any(map(is_headless, rule.ours))]
        return (*(dataclasses.replace(rule, theirs=inner + rule.theirs) for rule in body), *variant.head)

    # What is no part of the family's own network may be this class's head.
    ignored = [one for one in family.ignored if not any(re.search(one, rule.theirs) for rule in variant.head)]
    kept = {name for name in family.copies if not name.startswith(("lm_head.", "cls.", "vocab_", "decoder.", "embed_"))}
    return dataclasses.replace(
        family,
        class_name=variant.class_name,
        read=read,
        rules=rules,
        objective=objective,
        also=(),
        bodies=(),
        prefix=variant.prefix,
        copies={inner + name: inner + family.copies[name] for name in kept},
        zeros=lambda config: {},
        ignored=(*ignored, r"(^|\.)embeddings\.position_ids$"),
        make_head=head,
        relatives=(family.class_name, *family.also, *family.bodies, *class_names(family)),
        reduced=lambda config: headless(config, keep_prediction_head=form == "prediction"),
    )
