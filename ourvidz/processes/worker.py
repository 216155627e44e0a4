"""`ourvidz worker`: the threads around one `Worker`, and its engine process."""

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final

import structlog

from ourvidz import wiring
from ourvidz.processes.lifelines import Stop
from ourvidz.settings import Settings
from statemachine.errors import StoreAway
from workers.engine_process import EngineProcess
from workers.lane import Lane
from workers.metrics import HttpMetrics
from workers.ports import EngineDied
from workers.worker import Worker

POLL_SECONDS: Final = 1.0
"""The net below the wake-ups, and how late a retry that is due may be noticed."""
GRACE_SECONDS: Final = 20.0
"""How long a drain waits for what is in work."""
ENGINE_SECONDS: Final = 10.0
"""How long an idle engine process may take to end."""
HEART_SECONDS: Final = 0.2
LOOK_SECONDS: Final = 1.0
"""The net below the wake-ups for jobs that somebody cancelled."""
RESTART_SECONDS: Final = 5.0
"""Between tries to start an engine that does not start."""

log = structlog.get_logger()


def main(settings: Settings, *, device: str | None = None, parent: int | None = None) -> int:
    """Run one worker until it is told to stop."""
    stop = Stop(parent).listen()
    device = device or wiring.devices(settings)[0]
    store = wiring.checked_store(settings)
    engine = wiring.engine(settings, device)
    metrics = wiring.metrics(settings)
    worker = wiring.worker(settings, store, engine, device, stop, metrics)
    _Threads(worker, engine, stop, metrics).serve()
    store.close()
    return 0


class _Threads:
    """What runs where. The objects know nothing of it."""

    def __init__(self, worker: Worker, engine: EngineProcess, stop: Stop, metrics: HttpMetrics | None) -> None:
        self._worker = worker
        self._engine = engine
        self._metrics = metrics
        self._stop = stop
        self._rang = threading.Event()  # something may have been cancelled
        self._looked_at = 0.0
        self._room = threading.Event()  # something may be claimable, or a slot became free
        self._ended = threading.Event()
        self._engine_pid: int | None = None
        self._ready_pid: int | None = None
        self._log = log.bind(worker=worker.identity.worker_id)

    def serve(self) -> None:
        """Start all threads, wait for the signal, drain, and leave nothing behind."""
        worker = self._worker
        self._log.info("worker up", device=worker.identity.device, types=len(worker.identity.job_types))
        swept = worker.sweep_spool()
        if swept:
            self._log.info("spool swept", folders=swept)
        steps: list[Callable[[], None]] = [self._claim, self._listen, self._heart, self._warm]
        steps += [partial(self._lane, lane) for lane in worker.lanes.values() for _ in range(lane.slots)]
        if self._metrics is not None:
            steps.append(partial(self._count, self._metrics))
        for step in steps:
            threading.Thread(target=self._for_ever, args=(step,), daemon=True).start()
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
            if job is None:
                continue
            if lane.paused(self._worker.store.now()):
                lane.put(job)  # it came while the lane was being paused
                continue
            lane.run(job)
            self._room.set()

    def _claim(self) -> None:
        rang = self._room.wait(POLL_SECONDS)
        self._room.clear()
        self._worker.claim_tick(self._worker.store.now(), expected=rang)

    def _listen(self) -> None:
        if self._worker.store.wakeups.wait(POLL_SECONDS * 10):
            self._room.set()
            self._rang.set()

    def _heart(self) -> None:
        rang = self._rang.wait(HEART_SECONDS)
        self._rang.clear()
        if rang or time.monotonic() - self._looked_at >= LOOK_SECONDS:
            self._looked_at = time.monotonic()
            self._worker.cancel_tick()
        if self._engine.pid != self._engine_pid:
            self._engine_pid = self._engine.pid
            self._worker.engine_is(self._engine.config.engine, self._engine_pid)
            self._worker.see(self._worker.store.now(), state="active")
        self._worker.heartbeat_tick(self._worker.store.now())

    def _count(self, metrics: HttpMetrics) -> None:
        if metrics.wait(POLL_SECONDS * 10):
            metrics.tick()

    def _warm(self) -> None:
        """Have an engine process before a job needs one, and again when it is lost; claim nothing to draw without."""
        try:
            ready = self._engine.ready()
        except EngineDied as death:
            self._log.error("the engine does not start", reason=death.reason, detail=death.detail)
            self._ended.wait(RESTART_SECONDS)
            return
        if ready.pid != self._ready_pid:
            self._ready_pid = ready.pid
            self._log.info("engine up", pid=ready.pid, engine=ready.engine, device=ready.device_name)
            self._room.set()
        self._ended.wait(HEART_SECONDS)

    def _for_ever(self, step: Callable[[], None]) -> None:
        """A thread's life: whatever one step raises, there is a next one."""
        failures = 0
        while not self._ended.is_set():
            try:
                step()
                failures = 0
                continue
            except StoreAway as error:
                self._log.warning("database away", thread=_name(step), reason=str(error))
            except Exception:  # noqa: BLE001  # a heart that stops is worse than any one beat that fails
                self._log.exception("unexpected", thread=_name(step))
            failures += 1
            self._ended.wait(min(0.2 * 2.0 ** min(failures, 6), 5.0))


def _name(step: Callable[[], None]) -> str:
    if isinstance(step, partial):
        return step.args[0].name if isinstance(step.args[0], Lane) else str(step.func.__name__.strip("_"))
    return step.__name__.strip("_")
