"""The proof of the proof: each planted bug is found, for its own reason, and is not where nothing is planted."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.world.ground import Drawn, Ground, ground
from tests.world.planted import BUGS, Bug
from tests.world.planting import hunt, plant


@pytest.fixture(scope="module")
def here() -> Iterator[Ground]:
    """Where the world that has found a bug lives again without it."""
    with ground() as prepared:
        yield prepared


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_it_is_found_and_nothing_is_where_it_is_not(bug: Bug, tmp_path: Path, here: Ground) -> None:
    """A finder that is a test of the suite is seen to pass there."""
    plant(bug, tmp_path)
    said = hunt(bug, tmp_path)
    assert bug.complaint in said, f"{bug.name}: not found, or for another reason\n{said[-3000:]}"
    for world in re.findall(r"^found in \d+ worlds: '([^']+)' ", said, re.MULTILINE):
        here.live(Drawn.parse(world))
