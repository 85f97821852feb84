"""Few-shot evaluation by EleutherAI's lm-evaluation-harness, extra `[eval]`; nothing here imports it before it is used.

Tasks are those of the harness, which fetches their data, those of `tasks/`, which read local files, and the user's own.
A task is YAML whose templates (Jinja) and `!function` tags the harness executes: whoever writes an include path's files
runs code here, as with any program. Data are never executed, nor is what a model has written.
"""

from typing import TYPE_CHECKING

from triarch import lazy
from triarch.evaluation.few_shot.names import check_names
from triarch.evaluation.few_shot.suites import TaskSuite

if TYPE_CHECKING:
    from triarch.evaluation.few_shot.evaluation import FewShotOptions, TaskResult, evaluate_tasks

__all__ = ["FewShotOptions", "TaskResult", "TaskSuite", "check_names", "evaluate_tasks"]
__getattr__ = lazy.names_from(__name__, {"evaluation": ("FewShotOptions", "TaskResult", "evaluate_tasks")})
