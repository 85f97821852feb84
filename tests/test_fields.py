"""Values that their fields do not hold, and the suites of tasks that the gin files hold."""

import dataclasses
import math
from typing import Annotated, Literal

import pytest

from triarch.cli.gin import files as gin_files
from triarch.errors import UserError
from triarch.fields import BelowOne, Limits, Positive, Share, Size, check

SUITES = sorted(path.stem for path in (gin_files.config_folder() / "evaluation").glob("*.gin"))


@pytest.mark.parametrize("name", SUITES)
def test_every_suite_can_be_built(name):
    gin_files.parse([f"evaluation/{name}.gin"], [])
    tasks = gin_files.build("TaskSuite").tasks
    assert tasks and all(isinstance(task, str) and isinstance(shots, int | None) for task, shots in tasks.items())


@pytest.mark.parametrize("tasks", ["['copa']", "{'copa': 'five'}", "{1: 5}", "{'copa': 0.5}", "'copa'"])
def test_suites_of_other_things(tasks, tmp_path):
    (tmp_path / "mine.gin").write_text(f"TaskSuite.tasks = {tasks}\n")
    gin_files.parse([str(tmp_path / "mine.gin")], [])
    with pytest.raises(UserError) as caught:
        gin_files.build("TaskSuite")
    assert str(caught.value) == (f"TaskSuite.tasks = {tasks}: expected a mapping of a string to a whole number or None")


@pytest.mark.parametrize(
    ("binding", "message"),
    [
        ("RunConfig.objective=@AdamW()", "RunConfig.objective = @AdamW(): expected a reference with parentheses, @Obj"),
        ("RunConfig.optimizer=@CausalLM()", "RunConfig.optimizer = @CausalLM(): expected a reference with parentheses"),
        ("Adafactor.learning_rate=@CausalLM()", "Adafactor.learning_rate = @CausalLM(): expected a reference"),
        ("Adafactor.learning_rate=0.1", "Adafactor.learning_rate = 0.1: expected a reference with parentheses, @Sch"),
        ("Adafactor.learning_rate=@Cosine", "Adafactor.learning_rate = @Cosine: expected a reference with parentheses"),
        ("RunConfig.model=@Cosine()", "RunConfig.model = @Cosine(): expected @ModelConfig()"),
    ],
)
def test_classes_of_another_kind(binding, message):
    gin_files.parse(["runs/redllm.gin", "models/redllm/150m.gin"], ["AdamW.learning_rate=@Cosine()", binding])
    with pytest.raises(UserError) as caught:
        gin_files.build("RunConfig")
    assert str(caught.value).startswith(message)


def test_all_of_triarchs_own_classes_are_what_their_fields_ask_for():
    from triarch.objectives import OBJECTIVES
    from triarch.objectives.base import Objective
    from triarch.registry import missing_members
    from triarch.training.optimizers.optimizer import OPTIMIZERS, Optimizer
    from triarch.training.optimizers.schedules import SCHEDULES, Schedule

    kinds = {
        Objective: set(OBJECTIVES.values()),
        Schedule: set(SCHEDULES.values()),
        Optimizer: set(OPTIMIZERS.values()),
    }
    for protocol, own in kinds.items():
        assert {cls for cls in gin_files.configurables().values() if not missing_members(cls, protocol)} == own


def test_long_values_are_cut():
    gin_files.parse(["runs/redllm.gin", "models/redllm/150m.gin"], [f"RunConfig.steps='{'x' * 9000}'"])
    with pytest.raises(UserError) as caught:
        gin_files.build("RunConfig")
    assert len(str(caught.value)) < 300


@dataclasses.dataclass(frozen=True)
class Sketch:
    width: Size = 1
    rate: Positive | None = None
    share: Share = 0.0
    kept: BelowOne = 0.0
    part: Annotated[float, Limits(above=0, most=1)] = 1.0
    axis: Size | Literal[-1] = -1
    kind: Literal["dense", "sparse"] | float = "dense"
    mode: Size | Literal[-1] | Literal["auto"] = "auto"
    sizes: tuple[Size, ...] = ()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": 0}, "width = 0: expected a whole number from 1 on"),
        ({"width": True}, "width = True: expected a whole number from 1 on"),
        ({"width": 1.0}, "width = 1.0: expected a whole number from 1 on"),
        ({"width": 2**31}, "width = 2147483648: expected at most 2,147,483,647"),
        ({"rate": 0.0}, "rate = 0.0: expected a positive number or None"),
        ({"rate": 10**400}, f"rate = 1{159 * '0'}...: expected a positive number or None"),
        ({"rate": math.inf}, "rate = inf: expected a positive number or None"),
        ({"share": 1.01}, "share = 1.01: expected at most 1"),
        ({"share": math.nan}, "share = nan: expected a number from 0 to 1"),
        ({"kept": 1}, "kept = 1: expected a number from 0 to below 1"),
        ({"part": 0}, "part = 0: expected a number above 0 to 1"),
        ({"axis": 0}, "axis = 0: expected a whole number from 1 on or -1"),
        ({"kind": "spars"}, "kind = 'spars' (did you mean 'sparse'?)"),
        ({"axis": "all"}, "axis = 'all': expected a whole number from 1 on or -1"),
        ({"mode": "all"}, "mode = 'all': expected a whole number from 1 on or -1 or 'auto'"),
        ({"kind": None}, "kind = None: expected 'dense' or 'sparse' or a number"),
        ({"sizes": (1, 0)}, "sizes = (1, 0): expected a tuple, each a whole number from 1 on"),
        ({"sizes": 1}, "sizes = 1: expected a tuple, each a whole number from 1 on"),
    ],
)
def test_values_out_of_range(values, message):
    with pytest.raises(UserError) as caught:
        check(Sketch(**values))
    assert str(caught.value) == f"Sketch.{message}"


def test_values_at_their_limits():
    check(Sketch())
    check(Sketch(width=2**31 - 1, rate=5e-324, share=1, kept=0.999, part=1, axis=1, kind=2, sizes=(1, 2)))
