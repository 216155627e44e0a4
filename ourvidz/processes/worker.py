"""`ourvidz worker`: the threads around one `Worker`, and its engine process."""

import threading
import time
from typing import Final

import structlog

from ourvidz import wiring
from ourvidz.processes.lifelines import Stop
from ourvidz.settings import Settings
from statemachine.errors import StoreAway
from workers.engine_process import EngineProcess
from workers.lane import Lane
from workers.ports import EngineDied
from workers.worker import Worker

POLL_SECONDS: Final = 1.0
"""The net below the wake-ups, and how late a retry that is due may be noticed."""
GRACE_SECONDS: Final = 20.0
"""How long a drain waits for what is in work."""
ENGINE_SECONDS: Final = 10.0
"""How long an idle engine process may take to end."""
HEART_SECONDS: Final = 0.2

log = structlog.get_logger()


def main(settings: Settings, *, device: str | None = None, parent: int | None = None) -> int:
    """Run one worker until it is told to stop."""
    stop = Stop(parent).listen()
    device = device or wiring.devices(settings)[0]
    store = wiring.checked_store(settings)
    engine = wiring.engine(settings, device)
    worker = wiring.worker(settings, store, engine, device, stop)
    _Threads(worker, engine, stop).serve()
    store.close()
    return 0


class _Threads:
    """What runs where. The objects know nothing of it."""

    def __init__(self, worker: Worker, engine: EngineProcess, stop: Stop) -> None:
        self._worker = worker
        self._engine = engine
        self._stop = stop
        self._room = threading.Event()  # something may be claimable, or a slot became free
        self._ended = threading.Event()
        self._log = log.bind(worker=worker.identity.worker_id)

    def serve(self) -> None:
        """Start all threads, wait for the signal, drain, and leave nothing behind."""
        worker = self._worker
        self._log.info("worker up", device=worker.identity.device, types=len(worker.identity.job_types))
        swept = worker.sweep_spool()
        if swept:
            self._log.info("spool swept", folders=swept)
        threads = [
            threading.Thread(target=self._lane, args=(lane,), name=f"{lane.name}-{slot}", daemon=True)
            for lane in worker.lanes.values()
            for slot in range(lane.slots)
        ]
        for target in (self._claim, self._listen, self._heart):
            threads.append(threading.Thread(target=target, name=target.__name__.strip("_"), daemon=True))
        warm = threading.Thread(target=self._warm, name="warm", daemon=True)
        for thread in (*threads, warm):
            thread.start()
        self._stop.draining.wait()
        self._drain()

    def _drain(self) -> None:
        worker = self._worker
        worker.draining = True
        grace = 0.0 if self._stop.orphaned else GRACE_SECONDS
        self._log.info("draining", held=len(worker.held.jobs()), seconds=grace)
        until = time.monotonic() + grace
        while worker.held.jobs() and time.monotonic() < until and not self._stop.now.is_set():
            self._stop.now.wait(0.05)
        idle = not worker.held.jobs()
        try:
            given = worker.hand_back("worker stopped")
            worker.see(worker.store.now(), state="stopped")
            self._log.info("worker down", handed_back=given)
        except StoreAway as error:
            self._log.warning("leases not handed back: they run out by themselves", reason=str(error))
        self._ended.set()
        self._stop.now.set()
        # What is still on the device was handed back: nobody waits for its answer, and the device is wanted.
        self._engine.close(seconds=ENGINE_SECONDS if idle else 0.0)

    def _lane(self, lane: Lane) -> None:
        while not self._ended.is_set():
            if lane.paused(self._worker.store.now()):
                self._ended.wait(0.5)
                continue
            job = lane.take(30.0)
            if job is not None:
                lane.run(job)
                self._room.set()

    def _claim(self) -> None:
        failures = 0
        while not self._ended.is_set():
            rang = self._room.wait(POLL_SECONDS)
            self._room.clear()
            try:
                self._worker.claim_tick(self._worker.store.now(), expected=rang)
                failures = 0
            except StoreAway as error:
                failures += 1
                self._log.warning("database away: claiming nothing", reason=str(error))
                self._ended.wait(min(0.2 * 2.0 ** min(failures, 6), 5.0))

    def _listen(self) -> None:
        while not self._ended.is_set():
            if self._worker.store.wakeups.wait(POLL_SECONDS * 10):
                self._room.set()

    def _heart(self) -> None:
        pid: int | None = None
        while not self._ended.wait(HEART_SECONDS):
            try:
                if self._engine.pid != pid:
                    pid = self._engine.pid
                    self._worker.engine_is(self._engine.config.engine, pid)
                    self._worker.see(self._worker.store.now(), state="active")
                self._worker.heartbeat_tick(self._worker.store.now())
            except StoreAway as error:
                self._log.warning("database away: no heartbeat", reason=str(error))
                self._ended.wait(1.0)

    def _warm(self) -> None:
        """Start the engine process before the first job needs it."""
        try:
            ready = self._engine.ready()
            self._log.info("engine up", pid=ready.pid, engine=ready.engine, device=ready.device_name)
        except EngineDied as death:
            self._log.error("the engine does not start", reason=death.reason, detail=death.detail)
