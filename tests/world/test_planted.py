"""The proof of the proof: each planted bug is found by the world."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.world.planted import BUGS, Bug

ROOT = Path(__file__).parents[2]
PARTS = ("ourvidz", "statemachine", "workers", "migrations", "tests")


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_the_world_finds(bug: Bug, tmp_path: Path) -> None:
    for part in PARTS:
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "ourvidz" / "migrations").symlink_to(tmp_path / "migrations")
    for file, before, after in bug.patches:
        source = (tmp_path / file).read_text()
        assert source.count(before) == 1, f"{file} no longer holds the place of {bug.name!r} once"
        (tmp_path / file).write_text(source.replace(before, after))
    test = "tests/world/test_world.py::test_whatever_happens_at_any_effect_the_job_ends_as_it_should"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f"{test}[{bug.kind}-{bug.scenario}]"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, f"{bug.name}: not found\n{done.stdout[-2000:]}{done.stderr[-500:]}"
    assert f"{bug.kind}, {bug.scenario} at effect" in done.stdout, done.stdout[-3000:]
