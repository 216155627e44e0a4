"""A worker's heartbeat: who has lost a lease hears of it, and who has ended a job has lost none."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from statemachine import decisions
from statemachine.job import Job
from tests.town import LEASE, Host, Town


@pytest.fixture
def town(tmp_path: Path, empty_sqlite: Path) -> Iterator[Town]:
    made = Town(tmp_path, f"sqlite:///{shutil.copy(empty_sqlite, tmp_path / 'town.sqlite')}")
    yield made
    made.store.close()


def _holding(town: Town, host: Host) -> Job:
    town.admit("sdxl_image_fast")
    assert host.worker.claim_tick(town.clock.now()) == 1
    (job,) = host.worker.held.jobs()
    return job


def _beat(town: Town, host: Host) -> set[str]:
    town.clock.advance(LEASE / 2)
    return host.worker.heartbeat_tick(town.clock.now())


def test_a_lease_that_was_passed_on_is_lost_at_the_second_beat(town: Town) -> None:
    host = Host(town, "gpu-1")
    job = _holding(town, host)
    town.store.append(job, decisions.interrupt(job, reason="lease expired", by="s", now=town.clock.now()))
    assert _beat(town, host) == set()
    assert host.worker.heartbeat_tick(town.clock.now()) == {job.id}, "it is asked again at once"


def test_a_job_that_ends_while_its_lease_is_renewed_has_lost_nothing(town: Town) -> None:
    """The lease goes with the commit, and the worker lets go of the job a moment later."""
    host = Host(town, "gpu-1")
    job = _holding(town, host)
    town.store.append(job, decisions.interrupt(job, reason="drained", by=host.name, now=town.clock.now(), counts=False))
    assert _beat(town, host) == set()
    host.worker.held.release(job)
    assert _beat(town, host) == set()
