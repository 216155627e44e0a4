"""Planting bugs: a copy of the tree with one of them in it, and what is found there.

python -m tests.world.planting [--only NAME] [--seeds N]      how many worlds each takes, in turn and at random
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Final

from tests.world.planted import BUGS, Bug, Worlds

ROOT: Final = Path(__file__).parents[2]
PARTS: Final = ("ourvidz", "statemachine", "workers", "migrations", "tests")
SEARCH: Final = ("-m", "tests.world.search")


def plant(bug: Bug, folder: Path) -> None:
    """Copy the tree into the empty `folder`, with the bug in it. Raises AssertionError where its place has changed."""
    for part in PARTS:
        # What is compiled goes along: it is good for as long as its source's time is that of the original.
        shutil.copytree(ROOT / part, folder / part)
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "ourvidz" / "migrations").symlink_to(folder / "migrations")
    for file, before, after in bug.patches:
        source = (folder / file).read_text()
        assert source.count(before) == 1, f"{file} no longer holds the place of {bug.name!r} once"
        (folder / file).write_text(source.replace(before, after))


def hunt(bug: Bug, folder: Path) -> str:
    """What its finder says in the tree in `folder`."""
    match bug.finder:
        case Worlds(kind, fault):
            return run(folder, *SEARCH, kind, fault)
        case test:
            return run(folder, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", test)


def row(bug: Bug) -> str:
    """What docs/proof.md tells of it, but for the worlds that it takes."""
    match bug.finder:
        case Worlds(kind, fault):
            found_by = f"{fault}, {kind}"
        case test:
            found_by = f"`{test.rpartition('::')[2]}`"
    return f"| {bug.name} | {bug.does} | {found_by} |"


def run(folder: Path, *arguments: str) -> str:
    """What Python says that is run with these arguments on the tree in `folder`, and on no other."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.stdout


def worlds_needed(said: str) -> list[int]:
    """Of each search that has found something, after how many worlds; of a test run, its cases."""
    found = [int(count) for count in re.findall(r"^found in (\d+) worlds", said, re.MULTILINE)]
    passed = re.search(r"1 failed(?:, (\d+) passed)?", said)
    return found or ([1 + int(passed[1] or 0)] if passed else [])


def main() -> None:
    """One line a bug."""
    parser = argparse.ArgumentParser(prog="python -m tests.world.planting")
    parser.add_argument("--only", choices=[bug.name for bug in BUGS], metavar="NAME")
    parser.add_argument("--seeds", type=int, default=0, help="random campaigns to look for it with, besides")
    chosen = parser.parse_args()
    for bug in BUGS:
        if chosen.only not in (None, bug.name):
            continue
        with tempfile.TemporaryDirectory(prefix="ourvidz-planted-") as name:
            plant(bug, Path(name))
            said = hunt(bug, Path(name))
            verdict = "as it should" if bug.complaint in said else f"OTHERWISE: {said[-2000:]}"
            print(f"{bug.name}: {worlds_needed(said)} {verdict}", flush=True)
            if chosen.seeds and isinstance(bug.finder, Worlds):
                after = worlds_needed(run(Path(name), *SEARCH, "--seeds", str(chosen.seeds)))
                worlds = f", median {median(after):g}" if after else ""
                print(f"    at random: by {len(after)} of {chosen.seeds} seeds{worlds}")


if __name__ == "__main__":
    main()
