"""The report of a study with several budgets for each size: what it says follows from losses that are known exactly."""

import json

import numpy as np
import pytest

from tests.report.study_folder import write_table
from triarch.report.page import render_report

BUDGETS = (1e15, 1e16, 1e17, 1e18)
# Family: architecture, the exponent of its best size, its loss at the best size at C = 1, FLOPs a token and parameter.
FAMILIES = {"redllm": ("encoder-decoder", 0.5, 12.0, 3.0), "decllm": ("decoder-only", 0.6, 11.0, 6.0)}
C_EXPONENT = -0.04


def best(family, flops):
    _, exponent, _, _ = FAMILIES[family]
    return 1e6 * (flops / 1e15) ** exponent


def loss_of(family, params, flops):
    return FAMILIES[family][2] * flops**C_EXPONENT * np.exp(0.02 * np.log(params / best(family, flops)) ** 2)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("budgets")
    results, evaluations = [], []
    for family, (architecture, _, _, cost) in FAMILIES.items():
        for flops in BUDGETS:
            for step in range(-2, 3):
                params = best(family, flops) * 2.0**step
                run = f"{family}_{step}_{flops:g}"
                loss, tokens = loss_of(family, params, flops), flops / cost / params
                (folder / "runs" / run).mkdir(parents=True)
                (folder / "runs" / run / "config.gin").write_text("RunConfig.steps = 2\n")
                lines = [{"step": s, "loss": loss + 1 / s, "tokens": tokens * s / 2, "flops_paper": flops * s / 6,
                          "flops_train": flops * s / 2} for s in (1, 2)]  # fmt: skip
                (folder / "runs" / run / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
                results.append({
                    "run": run, "family": family, "architecture": architecture, "size": f"s{step}", "device": "cpu",
                    "status": "finished", "num_params": params * 1.1, "num_params_non_embedding": params,
                    "train_tokens": tokens, "target_tokens": tokens, "flops_paper": flops / 3, "flops_train": flops,
                    "final_train_loss": loss, "seconds": 1.0, "tokens_per_second": tokens,
                })  # fmt: skip
                evaluations.append({
                    "run": run, "domain": "code", "role": "in_domain", "scoring": "paired", "nats_per_token": loss,
                    "standard_error": 0.01, "bits_per_byte": loss, "perplexity": np.exp(loss), "num_tokens": 1000,
                })  # fmt: skip
    write_table(folder / "results.csv", results)
    write_table(folder / "evaluations.csv", evaluations)
    facts = {"name": "b", "title": "Budgets", "question": "?", "commands": [], "seconds": 1.0, "hardware": "none",
             "labels": {"redllm": "RedLLM", "decllm": "DecLLM"}}  # fmt: skip
    (folder / "study.json").write_text(json.dumps(facts))
    return render_report(folder, bootstraps=20)


@pytest.mark.slow
def test_findings_follow_from_the_parabolas(report):
    text = "\n".join(report.findings)
    assert "The best size for a budget grows as compute to the power 0.50 to 0.60." in text
    gap = (12.0 - 11.0) * BUDGETS[-1] ** C_EXPONENT
    assert f"With equal compute, DecLLM's best run is {gap:.3f} nats per token below RedLLM's." in text
    assert "largest models score" not in text


@pytest.mark.slow
def test_laws_of_one_input_are_left_out(report):
    assert {law["law"] for law in report.laws} == {"isoflop", "chinchilla"}
    names = [panel.name for panel in report.panels]
    assert names[:2] == ["training-0", "training-1"]
    assert {"isoflop-0", "isoflop-1", "best-size-0", "best-size-1", "best-loss-0"} <= set(names)
    assert not any(name.startswith(("num-params", "flops-")) for name in names)


def test_optima_are_in_a_table(report):
    law = next(law for law in report.laws if (law["law"], law["family"]) == ("isoflop", "DecLLM"))
    assert law["parameters"]["a"] == pytest.approx(0.6) and law["parameters"]["c"] == pytest.approx(C_EXPONENT)
    assert [row["N"] for row in law["optima"]] == pytest.approx([best("decllm", flops) for flops in BUDGETS])
    assert "The best run for each budget" in report.html and "isoflop" in report.html
