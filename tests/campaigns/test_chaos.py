"""A short chaos campaign: one of each cheap fault. `make chaos` runs the long one."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Final

import pytest

from tests.campaigns.chaos.__main__ import run

CHEAP: Final = (
    "engine killed",
    "database: commits unanswered",
    "Valkey killed",
    "Valkey: moves unanswered",
    "storage accepts, says 500",
    "receiver accepts, hangs up",
)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: sockets lie in it."""
    made = Path(tempfile.mkdtemp(prefix="ovz-chaos-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.mark.timeout(240)
def test_whatever_breaks_nothing_is_lost_and_nothing_has_two_endings(folder: Path) -> None:
    """What was acknowledged has ended, each run was told in one way, and each place got the same bytes each time."""
    found = run(
        folder, Random(5), database="postgresql", jobs=20, real=0, workers=2, seconds=10.0, facts={}, only=CHEAP
    )
    assert found["violations"] == [], (folder / "many" / "service.log").read_text()[-20_000:]
    assert found["jobs_acknowledged"] == sum(found["jobs_ended"].values()) == 20
    assert found["faults"] >= len(CHEAP)
