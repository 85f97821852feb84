"""Runs the notebooks and keeps what they print: python -m tests.notebooks."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tempfile
from pathlib import Path
from typing import Any

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


def run(path: Path, folder: Path) -> dict[str, Any]:
    """Returns a notebook with what its cells print, run one after another in `folder`."""
    notebook = json.loads(path.read_text())
    names: dict[str, Any] = {"__name__": "__main__"}
    with contextlib.chdir(folder):
        for number, cell in enumerate(cell for cell in notebook["cells"] if cell["cell_type"] == "code"):
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile("".join(cell["source"]), f"{path.name}, cell {number + 1}", "exec"), names)
            cell["execution_count"] = number + 1
            text = printed.getvalue()
            outputs = [{"name": "stdout", "output_type": "stream", "text": text.splitlines(keepends=True)}]
            cell["outputs"] = outputs if text else []
    return notebook


def main() -> None:
    """Runs all and writes them back."""
    os.environ.setdefault("MPLBACKEND", "agg")
    for path in NOTEBOOKS:
        with tempfile.TemporaryDirectory() as folder:
            notebook = run(path, Path(folder))
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")
        print(f"{path.name}: {len(notebook['cells'])} cells")


if __name__ == "__main__":
    main()
