"""Makes sure that a wheel holds every file of the package: python -m tests.wheel.contents WHEEL."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Folders of the checkout that are packages of the wheel, and what of them is no part of it.
FOLDERS = {"src/triarch": "triarch", "gin_configs": "triarch/gin_configs"}
TPU_SCRIPTS = "triarch/tpu_scripts/xla_flags.txt"


def expected() -> set[str]:
    """Returns the names that a wheel must have."""
    names = {TPU_SCRIPTS}
    for folder, package in FOLDERS.items():
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                names.add(f"{package}/{path.relative_to(ROOT / folder)}")
    return names


def missing(wheel: Path) -> list[str]:
    """Returns the names that `wheel` lacks."""
    with zipfile.ZipFile(wheel) as archive:
        return sorted(expected() - set(archive.namelist()))


if __name__ == "__main__":
    lacking = missing(Path(sys.argv[1]))
    print("\n".join(f"{sys.argv[1]} lacks {name}" for name in lacking) or f"{sys.argv[1]} holds every file")
    sys.exit(bool(lacking))
