"""One JSON for each generation that ended, and no job that waits for it."""

import json
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any, Literal

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from statemachine import decisions
from statemachine.states import State
from tests.campaigns.service import served, wait_until
from tests.fakes import FakeEngine
from tests.stages.house import WORKER, House, request, with_reference
from tests.world.house import World
from tests.world.kinds import KINDS
from workers.arrivals import build_payload
from workers.engines.messages import Enhance, Failed, FromEngine, Generate, Started
from workers.generations import Generation, generation_ended
from workers.metrics import HttpMetrics
from workers.ports import EngineDied
from workers.stages import HANDLERS
from workers.worker import Worker

NEVER = 60.0
"""A limit that only a broken test reaches."""
Order = Generate | Enhance


class Counter:
    """Hears what is told. `way` is how it answers; `came` is released once for each that came."""

    def __init__(self, way: Literal["well", "error", "redirect", "hang"] = "well") -> None:
        self.heard: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.came = threading.Semaphore(0)
        self._over = threading.Event()
        counter = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                counter.heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                counter.headers.append(dict(self.headers.items()))
                counter.came.release()
                if way == "hang":
                    counter._over.wait()
                    return
                self.send_response({"well": 204, "error": 500, "redirect": 307}[way])
                self.send_header("Location", self.path)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Tests look at `heard`."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/metrics?key=hunter2"

    def __enter__(self) -> "Counter":
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()


def generation(number: int = 0) -> Generation:
    return Generation(
        worker_id=f"w{number}",
        job_type="sdxl_image_fast",
        generation_time=1.5,
        reference_mode="none",
        success=True,
        timestamp="2025-07-16T12:00:00+00:00",
    )


def ended(house: House) -> list[Generation]:
    """What is told while the job is worked on to its end."""
    told = []
    while not house.job.state.terminal:
        before = house.job
        after = house.step()
        told.append(generation_ended(before, after, worker_id=WORKER))
    return [one for one in told if one is not None]


class TestWhatIsTold:
    def test_a_success_is_told_once_with_the_devices_time(self) -> None:
        house = House()
        house.admit(request("image7b_fast_enhanced", num_images=1))
        (told,) = ended(house)
        assert told == Generation(
            worker_id=WORKER,
            job_type="image7b_fast_enhanced",
            generation_time=4.0,
            reference_mode="none",
            success=True,
            timestamp=house.clock.now().isoformat(),
        )

    def test_memory_is_told_where_there_is_a_gpu(self) -> None:
        house = House()
        house.engine = FakeEngine(house.spool, memory={"vram_used_gb": 12.5, "vram_total_gb": 48.0, "peak_rss_gb": 1.0})
        house.admit(with_reference())
        (told,) = ended(house)
        assert (told.vram_used, told.reference_mode) == (12.5, "single")

    def test_each_attempt_that_failed_is_told(self) -> None:
        house = House()

        def script(asked: Order) -> Iterator[FromEngine]:
            yield Started(request_id=asked.request_id)
            house.clock.advance(3.0)
            yield Failed(request_id=asked.request_id, error_class="device_memory", error_type="OOM", message="m")

        house.engine.script = script
        house.admit(request())
        told = ended(house)
        assert [(one.success, one.generation_time, one.vram_used) for one in told] == [(False, 3.0, None)] * 2

    def test_an_engine_that_died_with_the_job_in_hand_is_a_failure(self) -> None:
        house = House()
        deaths = iter([True])
        alone = house.engine

        def script(asked: Order) -> Iterable[FromEngine]:
            if next(deaths, False):
                yield Started(request_id=asked.request_id)
                raise EngineDied("engine crashed", "SIGSEGV", started=True)
            alone.script = None
            yield from alone.run(asked)

        alone.script = script
        house.admit(request())
        assert [one.success for one in ended(house)] == [False, True]

    def test_a_cancelled_generation_is_not_counted(self) -> None:
        house = House()
        house.admit(request())

        def cancel(name: str) -> None:
            if name == "engine.step:after" and house.job.cancel_by is None:
                house.recorder.write(house.job.id, *decisions.cancel(house.job, by="cli", reason="x"))

        house.effect = cancel
        assert ended(house) == []
        assert house.job.state is State.CANCELLED

    def test_one_that_was_handed_back_is_not_counted(self) -> None:
        house = House()
        house.admit(request())
        before = house.recorder.claim(house.job.id, worker=WORKER)
        begun = house.recorder.write(before.id, *decisions.start(before))
        given = decisions.interrupt(begun, reason="worker stopped", by=WORKER, now=house.clock.now(), counts=False)
        assert generation_ended(before, house.recorder.write(before.id, *given), worker_id=WORKER) is None


class TestTelling:
    def test_the_json_is_the_specifications(self) -> None:
        with Counter() as counter:
            metrics = HttpMetrics(counter.url)
            metrics.generation(generation())
            metrics.generation(replace(generation(1), vram_used=12.5, success=False))
            assert [metrics.tick() for _ in range(3)] == [True, True, False]
        assert counter.heard[0] == {
            "worker_id": "w0",
            "job_type": "sdxl_image_fast",
            "generation_time": 1.5,
            "reference_mode": "none",
            "success": True,
            "timestamp": "2025-07-16T12:00:00+00:00",
        }
        assert (counter.heard[1]["vram_used"], counter.heard[1]["success"]) == (12.5, False)
        assert counter.headers[0]["Content-Type"] == "application/json"
        assert "Authorization" not in counter.headers[0]

    @pytest.mark.parametrize(
        ("way", "reason"),
        [("error", "answered 500"), ("redirect", "answered 307"), ("hang", "no complete answer within 0.3 s")],
    )
    def test_what_cannot_be_told_is_logged_and_forgotten(
        self, way: Literal["error", "redirect", "hang"], reason: str
    ) -> None:
        with Counter(way) as counter, capture_logs() as logs:
            metrics = HttpMetrics(counter.url, seconds=0.3)
            metrics.generation(generation())
            assert [metrics.tick(), metrics.tick()] == [True, False]
        assert len(counter.heard) == 1, "neither followed nor tried again"
        (logged,) = logs
        assert reason in logged["reason"]
        assert "hunter2" not in str(logs)

    def test_the_oldest_are_dropped_and_their_number_is_told(self) -> None:
        with Counter() as counter, capture_logs() as logs:
            metrics = HttpMetrics(counter.url, most=3)
            for number in range(8):
                metrics.generation(generation(number))
            while metrics.tick():
                continue
        assert [told["worker_id"] for told in counter.heard] == ["w5", "w6", "w7"]
        assert [entry["count"] for entry in logs] == [5]

    def test_the_thread_that_waits_is_woken(self) -> None:
        metrics = HttpMetrics("http://127.0.0.1:9/")
        assert not metrics.wait(0.0)
        woken: list[bool] = []
        thread = threading.Thread(target=lambda: woken.append(metrics.wait(NEVER)), daemon=True)
        thread.start()
        metrics.generation(generation())
        thread.join(NEVER)
        assert woken == [True]


@contextmanager
def ticking(metrics: HttpMetrics) -> Iterator[None]:
    """The thread that a worker's process has for it."""
    over = threading.Event()

    def tell() -> None:
        while not over.is_set():
            if metrics.wait(0.05):
                metrics.tick()

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(NEVER)


@pytest.mark.parametrize("way", ["hang", "error", "well"])
def test_jobs_go_on_whatever_the_counter_does(
    tmp_path: Path, empty_sqlite: Path, way: Literal["hang", "error", "well"]
) -> None:
    world = World(tmp_path, empty_sqlite)
    with Counter(way) as counter:
        metrics = HttpMetrics(counter.url, seconds=0.5)
        world.processes.boot()
        booted = world.processes.worker
        world.processes.worker = Worker(
            booted.identity,
            world.store,
            replace(booted.ports, metrics=metrics),
            HANDLERS,
            booted.settings,
            pause=lambda failures: None,
        )
        world.push(*KINDS["one image"])
        world.push(*KINDS["video, enhanced"])
        with ticking(metrics):
            world.run()
            assert counter.came.acquire(timeout=NEVER)
            assert counter.came.acquire(timeout=NEVER)
        assert world.states() == ["completed", "completed"]
    world.processes.die()
    assert sorted(told["job_type"] for told in counter.heard) == ["sdxl_image_fast", "video7b_fast_enhanced"]


@pytest.mark.timeout(180)
def test_a_real_service_tells_its_metrics(tmp_path: Path) -> None:
    """From the setting to the request, in the process that it is for."""
    url = f"sqlite:///{tmp_path / 'ourvidz.sqlite'}"
    with Counter() as counter:
        settings = {"OURVIDZ_METRICS_URL": counter.url, "OURVIDZ_NULL_STEP_SECONDS": "0"}
        with served(tmp_path, url, "null", Random(3), settings=settings, slowest=0.0) as (service, receiver):
            service.start()
            service.push("sdxl_queue", json.dumps(build_payload("sdxl_image_fast", "a heron at dawn")).encode())
            assert counter.came.acquire(timeout=90)
            ends = {"completed", "failed"}
            assert wait_until(lambda: any(told.status in ends for told in receiver.heard), 90) is not None
            service.signal()
            assert service.wait(60) == 0
    (told,) = counter.heard
    assert (told["job_type"], told["success"], told["reference_mode"]) == ("sdxl_image_fast", True, "none")
    assert "hunter2" not in (tmp_path / "service.log").read_text()
