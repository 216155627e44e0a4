"""A deploy: what cannot end in time is kept as far as it is, and the next worker goes on from that very step."""

import json
import shutil
import socket
import sqlite3
import urllib.error
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from random import Random

import pytest

from statemachine import events as e
from statemachine.store.reading import list_workers
from tests.campaigns.service import Service, served, wait_until
from tests.test_health import get
from workers.arrivals import build_payload
from workers.draining import may_end

STEPS = 20
STEP_SECONDS = 0.5
"""Ten seconds of work: more than any drain here leaves."""


@pytest.fixture
def service(fresh_database: str, tmp_path: Path) -> Iterator[Service]:
    """A service on the null engine that is not started yet, and that keeps no checkpoint unless it is told to."""
    settings = {"OURVIDZ_CHECKPOINT_SECONDS": "3600", "OURVIDZ_DRAIN_SECONDS": "2"}
    with served(
        tmp_path, fresh_database, "null", Random(1), step_seconds=STEP_SECONDS, slowest=0.0, settings=settings
    ) as (service, _):
        yield service
        service.signal()
        if service.up is not None:
            assert service.wait(60) == 0


def push(service: Service, steps: int) -> str:
    config = {"sample_steps": steps, "seed": 7}
    payload = build_payload("sdxl_image_fast", "a heron", config=config)
    service.push("sdxl_queue", json.dumps(payload).encode())
    return str(payload["id"])


def progress(service: Service, job_id: str) -> int:
    """The step that it has made on the device."""
    with service.store.read() as connection:
        found = connection.exec_driver_sql(f"SELECT progress FROM job_leases WHERE job_id = '{job_id}'").scalar()
    return int(json.loads(found).get("step", 0)) if found else 0


def pictures(service: Service, job_id: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted(service.storage.rglob(f"{job_id}_*.png"))]


def undisturbed(service: Service) -> list[bytes]:
    """The pictures of the same request that nobody interrupted."""
    job_id = push(service, STEPS)
    assert wait_until(lambda: service.store.finished(job_id), 90) is not None
    return pictures(service, job_id)


def claimed(service: Service) -> list[str]:
    """The jobs that somebody holds."""
    with service.store.read() as connection:
        return [job_id for row in list_workers(connection) for job_id in row["jobs"]]


def workers(service: Service) -> int:
    """How many take work."""
    with service.store.read() as connection:
        rows = list_workers(connection)
    return sum(row["state"] == "active" and row["engine_pid"] is not None for row in rows)


@pytest.mark.timeout(200)
def test_the_next_worker_goes_on_from_the_step_at_which_the_first_was_told_to_stop(service: Service) -> None:
    """Checkpointed and handed back at once, since it cannot end in time; no attempt is lost, and no byte differs."""
    service.start(OURVIDZ_DRAIN_SECONDS="0")
    job_id = push(service, STEPS)
    assert wait_until(lambda: progress(service, job_id) >= 6, 60) is not None
    service.signal()
    assert service.wait(60) == 0
    history = service.store.history(job_id)
    assert [type(row.event) for row in history[-2:]] == [e.Checkpointed, e.Interrupted]
    kept, given = history[-2].event, history[-1].event
    assert isinstance(kept, e.Checkpointed)
    assert kept.step >= 6
    assert isinstance(given, e.Interrupted)
    assert (given.reason, given.counts) == ("drained", False)
    service.start()
    assert wait_until(lambda: service.store.finished(job_id), 90) is not None
    it_went_on(service, job_id)
    assert pictures(service, job_id) == undisturbed(service) != []


@pytest.mark.timeout(200)
def test_a_worker_beside_it_takes_over(service: Service) -> None:
    """It hears the bell of the hand-back, and finds the checkpoint in the spool of the host."""
    service.start()
    job_id = push(service, STEPS)
    assert wait_until(lambda: progress(service, job_id) >= 6, 60) is not None
    beside = service.start_worker()
    assert wait_until(lambda: workers(service) == 2, 60) is not None
    service.signal()
    assert service.wait(60) == 0
    assert wait_until(lambda: service.store.finished(job_id), 90) is not None
    it_went_on(service, job_id)
    beside.terminate()
    assert beside.wait(60) == 0
    service.start()
    assert pictures(service, job_id) == undisturbed(service) != []


def it_went_on(service: Service, job_id: str) -> None:
    """In another worker, at no cost of an attempt, and no step was made twice."""
    job, history = service.store.load(job_id), service.store.history(job_id)
    assert job.state == "completed"
    assert len({row.event.worker for row in history if isinstance(row.event, e.Claimed)}) == 2
    assert [attempt.counts for attempt in job.attempts if attempt.outcome == "interrupted"] == [False]
    (media,) = [row.event for row in history if isinstance(row.event, e.MediaGenerated)]
    assert media.device_seconds == pytest.approx(STEPS * STEP_SECONDS)


@pytest.mark.timeout(200)
def test_what_can_end_in_time_ends_and_what_waits_is_handed_back(service: Service) -> None:
    service.start(OURVIDZ_DRAIN_SECONDS="60")
    short = push(service, 16)
    assert wait_until(lambda: progress(service, short) >= 2, 60) is not None
    waits = push(service, STEPS)
    assert wait_until(lambda: waits in claimed(service), 60) is not None
    service.signal()
    assert service.wait(60) == 0
    assert service.store.load(short).state == "completed"
    job = service.store.load(waits)
    assert (job.state, job.worker_id, job.checkpoint) == ("generating", None, None)
    assert [attempt.counts for attempt in job.attempts if attempt.counts] == []


@pytest.mark.timeout(200)
def test_up_says_how_it_is_from_its_first_breath_to_its_last(service: Service, tmp_path: Path) -> None:
    """systemd and a probe hear the same: ready as its worker is, live while it is busy, not ready once it drains."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, socket.create_server(("127.0.0.1", 0)) as probe:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        port = probe.getsockname()[1]
        probe.close()
        service.start(
            NOTIFY_SOCKET=str(tmp_path / "notify"),
            WATCHDOG_USEC="1000000",
            OURVIDZ_HEALTH_ADDRESS=f"127.0.0.1:{port}",
            OURVIDZ_DRAIN_SECONDS="60",
        )
        heard: list[str] = []

        def hear(line: str) -> None:
            while line not in heard:
                heard.extend(manager.recv(4096).decode().split("\n"))

        hear("READY=1")
        assert "STATUS=starting" in heard
        assert get(port, "/ready")[0] == 200
        job_id = push(service, 12)
        assert wait_until(lambda: progress(service, job_id) >= 2, 60) is not None
        assert get(port, "/live") == (200, {"live": True, "why": []})
        code, told = get(port, "/ready")
        assert (code, told["status"]) == (200, "worker cpu: 1 jobs in hand")
        service.signal()
        hear("STOPPING=1")
        assert (get(port, "/live")[0], get(port, "/ready")) == (
            200,
            (503, {"ready": False, "why": ["draining"], "status": ""}),
        )
        heard.clear()
        hear("WATCHDOG=1")
        assert service.wait(60) == 0
    assert service.store.load(job_id).state == "completed"


@pytest.mark.timeout(200)
def test_a_worker_whose_database_does_not_answer_is_not_ready_and_lives(empty_sqlite: Path, tmp_path: Path) -> None:
    """Whoever starts it anew for that has two troubles."""
    url = f"sqlite:///{shutil.copy(empty_sqlite, tmp_path / 'ourvidz.sqlite')}"
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    settings = {"OURVIDZ_HEALTH_ADDRESS": f"127.0.0.1:{port}"}
    with served(tmp_path, url, "null", Random(1), settings=settings) as (service, _):
        worker = service.start_worker()

        def code() -> int:
            with suppress(urllib.error.URLError):
                return get(port, "/ready")[0]
            return 0

        assert wait_until(lambda: code() == 200, 60) is not None
        with closing(sqlite3.connect(tmp_path / "ourvidz.sqlite")) as connection:
            connection.execute("BEGIN IMMEDIATE")  # nobody can write: no heartbeat, no claim
            assert wait_until(lambda: code() == 503, 60) is not None
            assert "heart: the database does not answer" in get(port, "/ready")[1]["why"]
            assert get(port, "/live") == (200, {"live": True, "why": []})
            connection.rollback()
        assert wait_until(lambda: code() == 200, 60) is not None
        worker.terminate()
        assert worker.wait(60) == 0


def test_what_an_attempt_still_needs_follows_from_its_steps() -> None:
    """A first step tells nothing, and neither does a model that is being loaded; without any time nothing may end."""
    assert may_end(None, 1.0)
    assert may_end({"doing": "loading"}, 1.0)
    assert may_end({"step": 1, "of": 100, "seconds": 60.0}, 1.0)
    assert may_end({"step": 6, "of": 10, "seconds": 0.5}, 2.0)
    assert not may_end({"step": 6, "of": 10, "seconds": 0.5}, 1.9)
    assert not may_end(None, 0.0)
