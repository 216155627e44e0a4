"""A short kill campaign: each victim once, and a hurried stop. `make kills` runs the long one."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.campaigns.kills import VICTIMS, Campaign
from tests.campaigns.service import served


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: sockets lie in it."""
    made = Path(tempfile.mkdtemp(prefix="ovz-kills-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.mark.timeout(180)
def test_whoever_is_killed_no_job_is_lost_and_each_is_told_once(fresh_database: str, folder: Path) -> None:
    """SIGKILL for worker, engine, ingress and `up`, then SIGTERM twice: facts exactly once, and nobody left behind."""
    random = Random(7)
    with served(folder, fresh_database, "null", random) as (service, receiver):
        campaign = Campaign(service, receiver, random, kills=1, engine="null", in_flight=6, hunt_seconds=1.0)
        story = campaign.run(drains=False)
        log = (folder / "service.log").read_text()
    assert story.violations == [], log[-20_000:]
    assert sorted(kill.victim for kill in story.kills) == sorted(VICTIMS)
    assert all(kill.in_flight >= 4 for kill in story.kills)
