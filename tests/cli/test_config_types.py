"""Values of the wrong type, and the suites of tasks that the gin files hold."""

import pytest

from triarch.cli import gin_files
from triarch.errors import UserError

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
