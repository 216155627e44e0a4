"""The proof of the proof: each planted bug is found, for its own reason, and is not where nothing is planted."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.world.ground import Drawn, Ground, ground
from tests.world.planted import BUGS, Bug
from tests.world.planting import ROOT, hunt, plant, row


@pytest.fixture(scope="module")
def here() -> Iterator[Ground]:
    """Where the world that has found a bug lives again without it."""
    with ground() as prepared:
        yield prepared


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_each_planted_bug_is_found(bug: Bug, tmp_path: Path, here: Ground) -> None:
    """And without it the same world is as it should be. A finder that is a test passes in the suite."""
    plant(bug, tmp_path)
    said = hunt(bug, tmp_path)
    assert bug.complaint in said, f"{bug.name}: not found, or for another reason\n{said[-3000:]}"
    for world in re.findall(r"^found in \d+ worlds: '([^']+)' ", said, re.MULTILINE):
        here.live(Drawn.parse(world))


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_the_page_tells_of_it(bug: Bug) -> None:
    """As it is now; only how many worlds it took is what was once measured."""
    assert row(bug) in (ROOT / "docs" / "proof.md").read_text("utf-8")
