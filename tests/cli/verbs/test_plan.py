"""`triarch plan`: each program and each effort of the compiler from the command line, and what it refuses."""

import importlib.util
import json

import pytest

from triarch.cli.main import main

SHAPE = {
    **{"ModelConfig.d_model": 128, "ModelConfig.num_heads": 1, "ModelConfig.head_dim": 128, "DataConfig.window": 256},
    **{"MeshConfig.data": 1, "MeshConfig.fsdp": 4, "Execution.remat": "full"},
}
needs_compiler = [
    pytest.mark.tpu_compiler,
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed"),
]


@pytest.fixture
def plan(tmp_path, capsys):
    def run(*flags, family="decllm"):
        shape = [f"--gin.{name}={value}" for name, value in SHAPE.items()]
        flags = [f"--gin_file=models/{family}/tiny_s.gin", "--topology=v5e:2x2", "--batch_size=8", *shape, *flags]
        status = main(["plan", *flags, f"--json={tmp_path / 'plan.json'}"])
        shown = capsys.readouterr()
        return status, shown.out, shown.err, tmp_path / "plan.json"

    return run


class TestCompiled:
    """What comes out, beside what follows from the shapes."""

    pytestmark = needs_compiler

    @pytest.mark.parametrize("family", ["decllm", "redllm"])
    @pytest.mark.parametrize("program", ["prefill", "decode"])
    def test_generation(self, plan, program, family):
        status, out, _, path = plan(f"--program={program}", "--prompt_length=128", "--new_tokens=64", family=family)
        found = json.loads(path.read_text())
        assert status == 0 and found["fits"] and found["program"] == program
        assert found["sequence_lengths"] == {"prompt": 128, "new": 64}
        # Keys and values in bfloat16 with one head of 128, 8 rows over 4 chips: of two layers, or of an
        # encoder-decoder's one, which keeps the prompt's beside its own, and starts with a token more.
        layers, columns = (2, 128 + 64) if family == "decllm" else (1, 128 + 64 + 1)
        assert found["cache_bytes"] == layers * 2 * columns * 128 * 2 * 8 // 4
        assert f"step           {program}, 8 sequences of 128 prompt + 64 new tokens" in out
        assert f"{found['cache_bytes'] / 2**30:.2f} GiB of keys and values" in out and "chip-hours a step" in out

    def test_evaluation_does_a_third_of_the_work_of_training(self, plan):
        _, _, _, path = plan("--program=evaluate")
        evaluated = json.loads(path.read_text())
        status, out, _, path = plan("--packed")
        trained = json.loads(path.read_text())
        assert status == 0 and evaluated["program"] == "evaluate" and trained["program"] == "train"
        assert 3 * evaluated["model_flops_per_step"]["train"] == pytest.approx(trained["model_flops_per_step"]["train"])
        # The forward pass once, against once, once more, and twice its work backward.
        assert 3.5 < trained["hlo_flops_per_device"] / evaluated["hlo_flops_per_device"] < 4.1
        assert evaluated["argument_bytes"] < trained["argument_bytes"]
        assert evaluated["cache_bytes"] is None and "of keys and values" not in out

    @pytest.mark.parametrize("family", ["decllm", "redllm"])
    def test_without_machine_code_it_is_the_same_program(self, plan, tmp_path, family):
        """By the whole compilation: instructions, and so work, traffic and estimates; memory but for what is in use."""
        status, out, _, path = plan("--full", f"--hlo={tmp_path / 'full.txt'}", family=family)
        full = json.loads(path.read_text())
        assert status == 0 and full["effort"] == "full" and out.rstrip().endswith("s, full effort")
        status, out, _, path = plan(f"--hlo={tmp_path / 'quick.txt'}", family=family)
        quick = json.loads(path.read_text())
        assert status == 0 and quick["effort"] == "quick" and "machine code was not made" in out
        differ = {name for name in full if full[name] != quick[name]}
        assert differ <= {"effort", "compile_seconds", "hbm_bytes_per_device", "temp_bytes"}
        assert quick["argument_bytes"] + quick["temp_bytes"] <= quick["hbm_bytes_per_device"]
        # What the whole compilation calls its peak counts arrays in VMEM too, of 128 MiB.
        assert abs(quick["hbm_bytes_per_device"] - full["hbm_bytes_per_device"]) < 128 * 2**20
        assert all((tmp_path / f"{effort}.txt").read_text().startswith("HloModule") for effort in ("full", "quick"))

    def test_what_does_not_fit_is_said(self, plan):
        status, out, _, path = plan("--batch_size=1048576", "--gin.RunConfig.loss_chunk=0")
        found = json.loads(path.read_text())
        assert status == 0 and not found["fits"] and "NO" in out and found["complaint"] in out
        assert found["hbm_bytes_per_device"] > found["hbm_limit_bytes"]

    def test_what_is_left_open_is_chosen_and_told(self, plan):
        status, out, _, path = plan(
            "--gin.MeshConfig.fsdp=1", "--gin.MeshConfig.data='auto'", "--gin.Execution.remat='auto'"
        )
        found = json.loads(path.read_text())
        assert status == 0 and found["fits"] and f"remat {found['remat']}" in found["chosen"] and found["chosen"] in out
        assert found["expected_bytes"] > found["argument_bytes"]

    def test_a_mesh_that_does_not_fit_is_answered_with_what_would(self, plan):
        flags = (
            "--batch_size=262144",
            "--gin.MeshConfig.fsdp=1",
            "--gin.MeshConfig.data=4",
            "--gin.Execution.remat=none",
        )
        status, out, _, path = plan(*flags)
        found = json.loads(path.read_text())
        assert status == 0 and not found["fits"] and "would fit" in found["would_fit"] and found["would_fit"] in out

    def test_the_best_of_a_search_is_compiled_to_the_end(self, plan):
        status, out, _, path = plan("--search", "--most=2", "--full")
        found = json.loads(path.read_text())
        assert status == 0 and found["fits"] and found["effort"] == "full"
        assert found["tried"][0]["plan"]["effort"] == "full" and out.count("full effort") == 1
        assert {trial["plan"]["effort"] for trial in found["tried"][1:]} <= {"quick"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--topology=v5e:2x3"], "--topology=v5e:2x3: no such slice (did you mean 'v5e:2x4'"),
        (["--topology=v7:2x2"], "no TPU generation 'v7'"),
        (["--slices=0"], "--slices=0: expected a whole number from 1 on"),
        (["--batch_size=0"], "--batch_size=0: expected a whole number from 1 on"),
        (["--program=prefill", "--packed"], "--packed: prompts of --program=prefill are never packed"),
        (["--program=evaluate", "--prompt_length=4"], "--prompt_length: goes with --program=prefill or decode"),
        (["--search", "--most=0"], "--most=0: expected a whole number from 1 on"),
        (["--search", "--search_seconds=0"], "--search_seconds=0.0: expected a positive number of seconds"),
        (["--search", "--hlo=x.txt"], "--hlo: a search keeps the program of the best, which takes --full"),
    ],
)
def test_bad_input_is_one_line(plan, flags, message):
    status, _, err, path = plan(*flags)
    assert status != 0 and message in err and err.count("\n") == 1 and not path.exists()


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is not None, reason="libtpu is installed")
def test_a_search_without_a_compiler_is_one_line(plan):
    status, _, err, _ = plan("--search")
    assert status != 0 and "the TPU compiler is not installed: pip install 'triarch[tpu]'" in err
    assert err.count("\n") == 1


def test_a_program_that_there_is_not(plan, capsys):
    with pytest.raises(SystemExit):
        plan("--program=decod")
    assert "--program: invalid choice: 'decod'" in capsys.readouterr().err


@needs_compiler[2]
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--program=decode", "--prompt_length=0"], "prompt_length=0: expected at least 1"),
        (["--program=decode", "--new_tokens=0"], "max_new_tokens=0"),
        (["--program=prefill", "--batch_size=6"], "batch_size 6 is not divisible by fsdp=4"),
        (
            ["--program=decode", "--gin.MeshConfig.fsdp=3"],
            "needs 3 devices, but there are 4; v5e:2x2 and this batch go",
        ),
    ],
)
@pytest.mark.tpu_compiler
def test_what_no_program_is_made_of_is_refused_before_compiling(plan, flags, message):
    status, _, err, path = plan(*flags)
    assert status != 0 and message in err and err.count("\n") == 1 and not path.exists()


@pytest.mark.tpu_compiler
@needs_compiler[2]
def test_an_encoder_generates_nothing(plan):
    status, _, err, _ = plan("--program=decode", "--gin.Constant.peak=1e-3", family="ettin_encoder")
    assert status != 0 and "an encoder has no decoder to generate with: plan its train or evaluate step" in err
