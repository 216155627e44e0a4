"""The house stands as pyproject.toml draws it: imports point down, and torch stays with the engines."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
VIOLATIONS: Final = {
    "up": ("statemachine/table.py", "import workers.presets", "statemachine.table -> workers.presets"),
    "redis": ("statemachine/table.py", "import redis", "statemachine.table -> redis"),
    "torch": ("workers/lane.py", "import torch", "workers.lane -> torch"),
    "hidden": ("workers/models.py", "def f(): import accelerate", "workers.models -> accelerate"),
    "engine": ("ourvidz/wiring.py", "import workers.engines.sdxl", "ourvidz.wiring -> workers.engines.sdxl"),
}
"""File, line to add, what must be said of it."""


def lint(tree: Path) -> subprocess.CompletedProcess[str]:
    """Check the tree's imports. No cache: it would be that of another tree."""
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-logo", "--no-cache"]
    return subprocess.run(
        command, cwd=tree, env={"PYTHONPATH": str(tree)}, capture_output=True, text=True, check=False, timeout=120
    )


def test_imports_point_down_and_torch_stays_with_the_engines() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", VIOLATIONS)
def test_a_violation_is_noticed(name: str, tmp_path: Path) -> None:
    for part in ("ourvidz", "workers", "statemachine"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    file, line, said = VIOLATIONS[name]
    with (tmp_path / file).open("a") as source:
        source.write(f"\n{line}\n")
    done = lint(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert said in done.stdout
