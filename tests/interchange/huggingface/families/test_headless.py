"""Bodies without a head against transformers' `*Model`: states, and what they cannot do."""

from __future__ import annotations

import numpy as np
import pytest

from tests.interchange.huggingface import folders, parity
from tests.interchange.huggingface.families.encoders import test_bert, test_distilbert, test_modernbert, test_roberta
from triarch.decoding import GenerationSettings
from triarch.errors import UserError
from triarch.interchange import read_export
from triarch.interchange.huggingface import choose_family, write_huggingface
from triarch.interchange.streamed import open_export

BODIES = {
    "BertModel": ("BertConfig", test_bert.BASE),
    "RobertaModel": ("RobertaConfig", test_roberta.BASE),
    "DistilBertModel": ("DistilBertConfig", test_distilbert.BASE),
    "ModernBertModel": ("ModernBertConfig", test_modernbert.BASE),
}


def states(model, batch):
    return model.states(batch)


@parity.cases(BODIES, "RobertaModel", "DistilBertModel")
def test_states_are_those_of_transformers(name, tmp_path):
    config, options = BODIES[name]
    imported = parity.import_model(parity.make(name, config, **options | dict(num_hidden_layers=2)), tmp_path)
    assert imported.opened.family.class_name == name
    text = parity.side(1, pad_id=imported.loaded.config.pad_id, left=False)
    given = {"input_ids": text.tokens, "attention_mask": text.real}
    with parity.torch.no_grad():
        tensors = {key: parity.torch.from_numpy(np.array(value)).long() for key, value in given.items()}
        wanted = imported.model(**tensors).last_hidden_state.numpy()[text.real]
    found = imported.loaded.compiled(states)({"encoder_input_tokens": text.tokens})[text.real]
    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()

    model, output = open_export(imported.export), tmp_path / "again"
    write_huggingface(model, output, choose_family(model))
    old, new = folders.read(tmp_path / "theirs"), folders.read(output)
    assert new.keys() <= old.keys()
    again, info = getattr(parity.transformers, name).from_pretrained(output, output_loading_info=True)
    # RoBERTa's pooler is used by no class of labels, and left out.
    missing = {key for key in info["missing_keys"] if not (name == "RobertaModel" and key.startswith("pooler."))}
    assert not missing and not info["unexpected_keys"]
    state = again.state_dict()
    for key, value in imported.model.state_dict().items():
        assert key.startswith("pooler.") or parity.torch.equal(value, state[key]), key


def test_a_pooler_is_kept_for_a_classifier(tmp_path):
    bert = parity.make("BertModel", "BertConfig", **test_bert.BASE | dict(num_hidden_layers=1))
    imported = parity.import_model(bert, tmp_path)
    head = read_export(imported.export, every_tensor=True).params["head"]
    np.testing.assert_array_equal(head["dense"], bert.pooler.dense.weight.detach().numpy().T)
    assert "head" not in imported.loaded.params


def test_what_predicts_no_tokens_says_so(tmp_path):
    body = parity.make("BertModel", "BertConfig", **test_bert.BASE | dict(num_hidden_layers=1))
    loaded = parity.import_model(body, tmp_path).loaded
    says = "export predicts no tokens: it was imported from a BertModel, which has no head over the vocabulary"
    with pytest.raises(UserError, match=says):
        loaded.logits({"encoder_input_tokens": np.ones((1, 3), np.int32)})
    from triarch.decoding.mask_filling import check_texts

    with pytest.raises(UserError, match=says):
        check_texts(loaded, [[1, 2]], GenerationSettings(), 0)
