"""Operators' acts on a running service: real processes, a real Redis, a receiver that hears what comes of it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from statemachine.store import EventStore
from tests.campaigns.service import Service, SlowReceiver, served, wait_until
from workers.arrivals import build_payload

STEP_SECONDS = 1.0
"""Long enough for a command to be typed in the middle of fifteen of them."""


@pytest.fixture
def running(fresh_database: str, tmp_path: Path) -> Iterator[tuple[Service, SlowReceiver]]:
    """A service on the null engine, each of whose steps takes a while."""
    with served(tmp_path, fresh_database, "null", Random(1), step_seconds=STEP_SECONDS, slowest=0.0) as (
        service,
        receiver,
    ):
        service.start()
        yield service, receiver
        service.signal()
        assert service.wait(60) == 0


def ourvidz(service: Service, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """The command line beside the service."""
    url = service.store.engine.url.render_as_string(hide_password=False)
    return subprocess.run(
        [sys.executable, "-c", "from ourvidz.cli import main; main()", "--database-url", url, *arguments],
        cwd=service.folder,
        env={name: value for name, value in os.environ.items() if not name.startswith("OURVIDZ_")},
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )


def push(service: Service, steps: int = 15) -> str:
    payload = build_payload("sdxl_image_fast", "a heron", config={"sample_steps": steps})
    service.push("sdxl_queue", json.dumps(payload).encode())
    return str(payload["id"])


def drawing(store: EventStore, job_id: str) -> bool:
    """It is on the device, and has said how far it is."""
    with store.read() as connection:
        found = connection.exec_driver_sql(f"SELECT progress FROM job_leases WHERE job_id = '{job_id}'").scalar()
    return found is not None and '"step"' in found


def outcomes(receiver: SlowReceiver, job_id: str) -> list[str]:
    return [told.id for told in receiver.heard if told.job_id == job_id and told.status != "processing"]


@pytest.mark.timeout(300)
def test_a_job_on_the_device_is_cancelled_within_a_step_and_the_next_one_goes_on(
    running: tuple[Service, SlowReceiver],
) -> None:
    service, receiver = running
    first, waits = push(service), push(service, steps=1)
    assert wait_until(lambda: drawing(service.store, first), 60) is not None
    done = ourvidz(service, "jobs", "cancel", first, "--reason", "ordered twice", "--by", "ada", "--wait")
    assert done.returncode == 0, done.stderr
    assert f"{first}  generating on " in done.stdout
    assert "1 job ended as cancelled" in done.stderr
    kinds = [row.kind for row in service.store.history(first)]
    behind = kinds[kinds.index("cancel_requested") + 1]
    assert behind == "outcome_decided", f"it was drawn to its end, as if nobody had asked: {behind}"
    assert outcomes(receiver, first) == [f"{first}:1:failed"]
    told = json.loads(next(told.body for told in receiver.heard if told.job_id == first and told.status == "failed"))
    assert (told["error_message"], told["metadata"]["error_type"]) == ("ordered twice", "Cancelled")
    assert wait_until(lambda: service.store.finished(waits), 60) is not None
    assert service.store.load(waits).state == "completed"


@pytest.mark.timeout(300)
def test_a_paused_queue_waits_and_a_resend_is_the_same_message(running: tuple[Service, SlowReceiver]) -> None:
    service, receiver = running
    assert ourvidz(service, "queues", "pause", "sdxl_queue", "--reason", "a move").returncode == 0
    job_id = push(service, steps=1)
    assert wait_until(lambda: service.store.finished(job_id) or _waiting(service) == 1, 30) is not None
    assert receiver.heard == []
    assert ourvidz(service, "queues", "resume", "sdxl_queue").returncode == 0
    assert wait_until(lambda: service.store.finished(job_id), 60) is not None
    done = ourvidz(service, "callbacks", "resend", job_id, "--reason", "its rows were not there")
    assert done.returncode == 0, done.stderr
    assert wait_until(lambda: len(outcomes(receiver, job_id)) == 2, 60) is not None
    first, again = (told for told in receiver.heard if told.status == "completed")
    assert (first.id, first.body) == (again.id, again.body)
    assert wait_until(lambda: service.store.finished(job_id), 30) is not None
    page = " ".join(ourvidz(service, "jobs", "inspect", job_id).stdout.split())  # its lines break where they may
    assert "had it told again, run 2: its rows" in page
    assert "its rows were not there" in page


def _waiting(service: Service) -> int:
    told = json.loads(ourvidz(service, "queues", "list", "--json").stdout)
    return int(next(queue["waiting"] for queue in told["queues"] if queue["name"] == "sdxl_queue"))
