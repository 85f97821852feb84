"""Chats against transformers: `apply_chat_template` and greedy `generate` on a small made model."""

from __future__ import annotations

import io
import json
import re

import pytest

import triarch
from tests.interchange.huggingface import parity
from tests.tokenizers.test_chat import CHATML, CONVERSATION, UNMARKED, write_folder
from triarch.cli.main import main
from triarch.decoding.chat import Chat
from triarch.tokenizers import ByteTokenizer
from triarch.tokenizers.chat import ChatTemplate

ASKED = [CONVERSATION[:2], CONVERSATION[1:4]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A Llama with a chat template, whose end is no end of its generation_config.json."""
    pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("chat")
    tokenizer = write_folder(folder, CHATML)
    sizes = dict(hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
    made = parity.make("LlamaForCausalLM", "LlamaConfig", vocab_size=tokenizer.info.size, eos_token_id=None, **sizes)
    made.save_pretrained(folder)
    export = tmp_path_factory.mktemp("export") / "it"
    assert main(["import", str(folder), f"--output={export}"]) == 0
    return export, made, folder


def test_answers_are_those_of_transformers(folder, tmp_path):
    import transformers

    path, made, given = folder
    theirs = transformers.AutoTokenizer.from_pretrained(given)
    end = theirs.convert_tokens_to_ids("<|im_end|>")
    chats = tmp_path / "chats.jsonl"
    chats.write_text("".join(json.dumps({"messages": one}) + "\n" for one in ASKED))
    output = tmp_path / "answers.json"
    assert main(["generate", f"--model={path}", "--chat", f"--prompts_file={chats}", "--max_new_tokens=12",
                 f"--json={output}"]) == 0  # fmt: skip
    found = json.loads(output.read_text())["completions"]
    for conversation, answer in zip(ASKED, found, strict=True):
        ids = theirs.apply_chat_template(
            conversation, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        wanted = made.generate(**ids, max_new_tokens=12, do_sample=False, eos_token_id=end, pad_token_id=end)[
            0, ids["input_ids"].shape[1] :
        ].tolist()
        assert answer["tokens"] == (wanted[: wanted.index(end)] if end in wanted else wanted)
        assert answer["messages"] == conversation
    model = triarch.load(path)
    assert model.chat(ASKED, max_new_tokens=12) == [answer["text"] for answer in found]
    assert Chat.of(model.tokenizer, "it").ends == (end,)


def test_typed_messages_are_one_conversation(folder, tmp_path, monkeypatch, capsys):
    path, *_ = folder
    monkeypatch.setattr("sys.stdin", io.StringIO("Hello\n\nAnd you?\n"))
    output = tmp_path / "o.json"
    flags = ["--chat", "--system=Be brief.", "--max_new_tokens=4", f"--json={output}"]
    assert main(["generate", f"--model={path}", *flags]) == 0
    first, second = json.loads(output.read_text())["completions"]
    answer = {"role": "assistant", "content": first["text"].strip()}
    assert second["messages"] == [*first["messages"], answer, {"role": "user", "content": "And you?"}]
    assert first["messages"][0] == {"role": "system", "content": "Be brief."}


def test_an_end_that_is_text_is_a_stop_text():
    chat = Chat(ByteTokenizer(), ChatTemplate(UNMARKED, "mine"))
    assert chat.ends == () and chat.cuts(["."], False) == (".", "<|im_end|>") and chat.cuts([], True) == ()
    ids = chat.prompt([{"role": "user", "content": "a"}], "it")
    assert chat.tokenizer.decode(ids) == "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n"
    # One that writes nothing behind a message, or cannot write this one, has no end.
    for source in ("{% for m in messages %}{{ m.content }}{% endfor %}", "{{ raise_exception('no') }}"):
        assert Chat(ByteTokenizer(), ChatTemplate(source, "mine")).cuts([], False) == ()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"messages": CONVERSATION}, "line 1: ends with a message of the assistant"),
        ({"messages": [{"role": "usr", "content": "a"}]}, r"line 1: messages\[0\]: unknown role 'usr'.*user"),
        ({"messages": []}, "line 1: holds no message"),
        ({"text": "a"}, 'line 1: expected an object with a list of "messages"'),
    ],
)
def test_a_bad_conversation_is_one_line(row, message, folder, tmp_path, capsys):
    path, *_ = folder
    (tmp_path / "chats.jsonl").write_text(json.dumps(row) + "\n")
    assert main(["generate", f"--model={path}", "--chat", f"--prompts_file={tmp_path / 'chats.jsonl'}"]) == 1
    error = capsys.readouterr().err.strip()
    assert "\n" not in error
    assert re.search(message, error)


def test_a_model_without_template_and_flags_without_chat(folder, tmp_path, capsys):
    path, *_ = folder
    assert main(["generate", f"--model={path}", "--system=a", "--prompt=b"]) == 1
    assert "--system belongs to --chat" in capsys.readouterr().err
