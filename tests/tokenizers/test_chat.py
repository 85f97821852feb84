"""Chat templates against transformers' `apply_chat_template`."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.tokenizers import huggingface
from triarch.errors import UserError
from triarch.tokenizers import given_tokenizer
from triarch.tokenizers.base import encode_rendered
from triarch.tokenizers.chat import ChatTemplate, TemplateError

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
UNMARKED = CHATML.replace("{% generation %}", "").replace("{% endgeneration %}", "")
CONVERSATION = [
    {"role": "system", "content": "Be brief. <b>"},
    {"role": "user", "content": "How are you?\n\nWell?"},
    {"role": "assistant", "content": "  Fine, thanks!\n"},
    {"role": "user", "content": "Zwei plus zwei?"},
    {"role": "assistant", "content": "Vier 🙂"},
]


def write_folder(folder, template, **fields):
    tokenizer = huggingface.gpt2()
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "bos_token": "<|im_start|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": template} | fields))
    return given_tokenizer(folder)


@pytest.mark.parametrize("template", [CHATML, UNMARKED], ids=["marked", "unmarked"])
def test_ids_and_the_assistants_among_them_are_transformers(template, tmp_path):
    transformers = pytest.importorskip("transformers")
    tokenizer = write_folder(tmp_path / "folder", template)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "folder")
    wanted = theirs.apply_chat_template(
        CONVERSATION, chat_template=CHATML, return_dict=True, return_assistant_tokens_mask=True
    )
    ids, mask = np.array(wanted["input_ids"]), np.array(wanted["assistant_masks"], bool)
    answers = tokenizer.chat_template().answers(CONVERSATION)
    assert len(answers) == 2
    learned = []
    for inputs, targets in answers:
        before, own = encode_rendered(tokenizer, inputs, targets)
        np.testing.assert_array_equal(np.append(before, own), ids[: len(before) + len(own)])
        learned += range(len(before), len(before) + len(own))
    np.testing.assert_array_equal(learned, np.flatnonzero(mask))


def test_a_template_is_read_from_where_transformers_puts_it(tmp_path):
    several = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "yes"}]
    assert write_folder(tmp_path / "one", several).chat_template().source == "yes"
    (tmp_path / "one" / "chat_template.jinja").write_text("own file")
    tokenizer = given_tokenizer(tmp_path / "one")
    assert tokenizer.chat_template().source == "own file"
    # A store's vocabulary keeps it, and another folder's link is not followed.
    (tmp_path / "kept").mkdir()
    tokenizer.save(tmp_path / "kept")
    assert (tmp_path / "kept" / "chat_template.jinja").read_text() == "own file"
    (tmp_path / "one" / "chat_template.jinja").unlink()
    (tmp_path / "one" / "chat_template.jinja").symlink_to(tmp_path / "kept" / "chat_template.jinja")
    with pytest.raises(UserError, match=r"chat_template\.jinja"):
        given_tokenizer(tmp_path / "one")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ messages[0].__class__.__mro__ }}", "unsafe"),
        ("{{ 'x' * 10000000000 }}", "large"),
        (
            "{% for i in range(9999) %}{% for j in range(9999) %}{{ 'aaaaaaaaaa' }}{% endfor %}{% endfor %}",
            "characters",
        ),
        ("{{ messages | length }} {{ messages[-1].content }}", "another with it than without"),
    ],
)
def test_templates_that_fail_or_overreach(source, message):
    with pytest.raises(TemplateError, match=message) as error:
        ChatTemplate(source, "mine").answers(CONVERSATION)
    assert "\n" not in str(error.value)


def test_no_template_is_one_line():
    with pytest.raises(UserError, match="mine line 1: not a Jinja template"):
        ChatTemplate("{% for %}", "mine").check()
