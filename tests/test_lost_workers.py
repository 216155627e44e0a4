"""Workers that die under a real `up`: what they held goes on at once, and only the guilty pays for it."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from statemachine import events as e
from statemachine.decisions import CRASH_BUDGET
from tests.campaigns.service import Service, served, wait_until
from workers.arrivals import build_payload


@pytest.fixture
def service(fresh_database: str, tmp_path: Path) -> Iterator[Service]:
    """A service whose leases no test outlives: whoever goes on within one did not wait for it."""
    settings = {"OURVIDZ_LEASE_SECONDS": "600", "OURVIDZ_CHECKPOINT_SECONDS": "0.2"}
    with served(tmp_path, fresh_database, "null", Random(1), step_seconds=0.3, slowest=0.0, settings=settings) as (
        service,
        _,
    ):
        yield service
        service.signal()
        assert service.wait(60) == 0


def push(service: Service, prompt: str = "a heron", *, steps: int = 15, **more: Any) -> str:
    payload = build_payload("sdxl_image_fast", prompt, config={"sample_steps": steps, **more})
    service.push("sdxl_queue", json.dumps(payload).encode())
    return str(payload["id"])


def interruptions(service: Service, job_id: str) -> list[e.Interrupted]:
    return [row.event for row in service.store.history(job_id) if isinstance(row.event, e.Interrupted)]


@pytest.mark.timeout(200)
def test_the_jobs_of_a_killed_worker_go_on_without_waiting_for_its_lease(service: Service) -> None:
    service.start()
    job_id = push(service)

    def checkpointed() -> bool:
        with service.store.read() as connection:
            query = f"SELECT count(*) FROM job_events WHERE job_id = '{job_id}' AND kind = 'checkpointed'"
            return bool(connection.exec_driver_sql(query).scalar())

    assert wait_until(checkpointed, 60) is not None
    service.find("worker").send_signal(signal.SIGKILL)
    assert wait_until(lambda: service.store.finished(job_id), 90) is not None
    (lost,) = interruptions(service, job_id)
    first = next(row.worker_id for row in service.store.history(job_id) if row.kind == "stage_started")
    assert (lost.reason, lost.detail, lost.counts) == ("worker died", f"{first}: killed by SIGKILL", True)
    assert service.store.load(job_id).state == "completed"


KILLS = "a prompt that kills"
POLICY = f'''
import os, signal

def policy(text):
    """As native code of somebody's would that meets what it cannot bear."""
    if text == {KILLS!r}:
        os.kill(os.getpid(), signal.SIGKILL)
'''


def install(folder: Path) -> dict[str, str]:
    """A content policy as a package of somebody's, and the environment in which it is found."""
    package = folder / "site"
    (package / "deadly-1.0.dist-info").mkdir(parents=True)
    (package / "deadly.py").write_text(POLICY)
    (package / "deadly-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: deadly\nVersion: 1.0\n")
    points = "[ourvidz.content_policy]\ndeadly = deadly:policy\n"
    (package / "deadly-1.0.dist-info" / "entry_points.txt").write_text(points)
    paths = [str(package), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(paths)}


@pytest.mark.timeout(300)
def test_a_job_that_kills_its_worker_is_poison_and_its_neighbours_are_not(service: Service, tmp_path: Path) -> None:
    """Each time it takes down whoever is in hand with it. Before the last one each of them goes on alone."""
    innocent = [push(service) for _ in range(3)]
    guilty = push(service, KILLS)
    innocent.append(push(service))
    service.start(**install(tmp_path))
    everybody = [guilty, *innocent]
    assert wait_until(lambda: all(service.store.finished(job_id) for job_id in everybody), 200) is not None
    jobs = [service.store.load(job_id) for job_id in everybody]
    assert [job.state for job in jobs] == ["failed", *["completed"] * len(innocent)]
    assert jobs[0].error is not None
    assert jobs[0].error.error_type == "Poison"
    assert len(interruptions(service, guilty)) == CRASH_BUDGET
    assert max(len(interruptions(service, job_id)) for job_id in innocent) == CRASH_BUDGET - 1, "nobody was beside it"
