"""Numbers of lm-evaluation-harness for imported models, beside those of its own backend for Hugging Face."""

from __future__ import annotations

import json

import pytest

lm_eval = pytest.importorskip("lm_eval")
pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from lm_eval.evaluator import simple_evaluate  # noqa: E402
from lm_eval.models.huggingface import HFLM  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

from tests.evaluation.few_shot import harness  # noqa: E402
from triarch.cli.main import main  # noqa: E402

MAX_LENGTH = 64
SMALL = dict(num_hidden_layers=2, hidden_size=24, intermediate_size=40, num_attention_heads=4, num_key_value_heads=2)
T5 = dict(d_model=24, d_kv=6, d_ff=40, num_layers=2, num_heads=4, decoder_start_token_id=0)
BART = dict(
    d_model=24, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4,
    encoder_ffn_dim=40, decoder_ffn_dim=40, max_position_embeddings=80, decoder_start_token_id=2,
    forced_eos_token_id=None,
)  # fmt: skip
MODERNBERT = dict(
    hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=4, local_attention=16,
    global_attn_every_n_layers=3, max_position_embeddings=80,
)  # fmt: skip
MODELS = {
    "gpt2": ("gpt2", "GPT2LMHeadModel", "GPT2Config", dict(n_embd=24, n_layer=2, n_head=4, n_positions=80)),
    "llama, start token": ("llama3", "LlamaForCausalLM", "LlamaConfig", SMALL),
    "t5": ("t5", "T5ForConditionalGeneration", "T5Config", T5),
    "bart": ("modernbert", "BartForConditionalGeneration", "BartConfig", BART),
    "modernbert, bare": ("modernbert", "ModernBertDecoderForCausalLM", "ModernBertDecoderConfig", MODERNBERT),
}
# What the library puts at the end of its prompts is left out with the start token, as a decoder's prompt has no end.
BARE = ("modernbert, bare",)


def theirs(folder, tasks, names, shots, bare):
    bos = {"add_bos_token": False} if bare else {}
    model = HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=4, max_length=MAX_LENGTH, **bos)
    manager = TaskManager(include_path=str(tasks), include_defaults=False)
    return simple_evaluate(
        model, tasks=list(names), num_fewshot=shots, bootstrap_iters=1000, task_manager=manager,
        fewshot_random_seed=1234,
    )  # fmt: skip


def ours(folder, tmp_path, tasks, names, shots, bare):
    export, result = tmp_path / "export", tmp_path / "result.json"
    if not export.exists():
        assert main(["import", str(folder), f"--output={export}"]) == 0
    flags = [f"--tasks={','.join(names)}", f"--include_path={tasks}", f"--num_fewshot={shots}", "--batch_size=4"]
    flags += ["--add_bos=no"] if bare else []
    assert main(["evaluate", f"--model={export}", *flags, f"--max_length={MAX_LENGTH}", f"--json={result}"]) == 0
    return json.loads(result.read_text())


def assert_same(mine, reference, names):
    found = {(one["task"], f"{one['metric']},{one['filter']}"): one for one in mine["models"][0]["results"]}
    compared = 0
    for task in names:
        for key, value in reference["results"][task].items():
            metric, _, cut = key.partition(",")
            if not cut or metric.endswith("_stderr"):
                continue
            one = found.pop((task, key))
            assert one["value"] == pytest.approx(value, rel=1e-4), (task, key)
            error = reference["results"][task][f"{metric}_stderr,{cut}"]
            if isinstance(error, float):
                assert one["standard_error"] == pytest.approx(error, rel=1e-3, abs=1e-9), (task, key)
            compared += 1
    assert compared and not found


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_numbers_of_hugging_faces_own_backend(name, tmp_path, monkeypatch):
    # Its bootstrap forks otherwise.
    monkeypatch.setenv("DISABLE_MULTIPROC", "1")
    layout, class_name, config_name, options = MODELS[name]
    tasks = harness.write_tasks(tmp_path / "tasks")
    folder = harness.write_model(tmp_path / "hf", layout, class_name, config_name, **options)
    for shots in (0, 1):
        mine = ours(folder, tmp_path, tasks, harness.TASKS, shots, name in BARE)
        reference = theirs(folder, tasks, harness.TASKS, shots, name in BARE)
        assert_same(mine, reference, harness.TASKS)
    assert answers_differ(reference)


def answers_differ(reference) -> bool:
    """Whether the models say different things of different documents, without which equal numbers say little."""
    said = harness.answers(reference["samples"])
    return len({json.dumps(value, default=str) for value in said.values()}) > len(said) // 2
