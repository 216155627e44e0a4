"""`ourvidz worker`: the threads around one `Worker`, and its engine process."""

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final

import structlog

from ourvidz import wiring
from ourvidz.processes.condition import Condition
from ourvidz.processes.lifelines import Stop
from ourvidz.processes.pulse import Pulse
from ourvidz.processes.telling import Telling
from ourvidz.settings import Settings
from statemachine.errors import StoreAway
from workers.engine_process import EngineProcess
from workers.held import STAGE_LIMITS
from workers.lane import Lane
from workers.metrics import HttpMetrics
from workers.ports import EngineDied
from workers.stages.on_device import DRAINED
from workers.worker import Worker

POLL_SECONDS: Final = 1.0
"""The net below the wake-ups, and how late a retry that is due may be noticed."""
DRAIN_LOOK_SECONDS: Final = 0.1
KEEP_SECONDS: Final = 15.0
"""How long a drain waits, when its time is over, for the step that is being made and its checkpoint."""
ENGINE_SECONDS: Final = 10.0
"""How long an idle engine process may take to end."""
HEART_SECONDS: Final = 0.2
LOOK_SECONDS: Final = 1.0
"""The net below the wake-ups for jobs that somebody cancelled."""
SWEEP_SECONDS: Final = 60.0
"""Between two looks at what lies in the spool."""
RESTART_SECONDS: Final = 5.0
"""Between tries to start an engine that does not start."""

LOOP_SECONDS: Final = 120.0
"""A loop that asks the database or waits for a bell moves within this."""
WARM_SECONDS: Final = 600.0
"""An engine process starts, or is known not to start, within this."""
SWEEP_LIMIT_SECONDS: Final = 1800.0
"""Many gigabytes on a slow disk are removed within this."""
LANE_SECONDS: Final = max(STAGE_LIMITS.values()) + 1800.0
"""A stage has its own time limit, and the engine has its; past both, a lane stands still."""

FAREWELL_SECONDS: Final = KEEP_SECONDS + ENGINE_SECONDS + 5.0
"""What a drain may take beyond `drain_seconds`."""

log = structlog.get_logger()


def main(settings: Settings, *, device: str | None = None, parent: int | None = None, tell: int | None = None) -> int:
    """Run one worker until it is told to stop. `tell` is the descriptor by which `up` hears how it is."""
    stop = Stop(parent).listen()
    device = device or wiring.devices(settings)[0]
    store = wiring.checked_store(settings)
    engine = wiring.engine(settings, device)
    metrics = wiring.metrics(settings)
    worker = wiring.worker(settings, store, engine, device, stop, metrics)
    threads = _Threads(worker, engine, stop, metrics, drain_seconds=settings.drain_seconds)
    with Telling.of(settings, threads.condition, parent=tell) as telling:
        threads.serve(telling)
    store.close()
    return 0


class _Threads:
    """What runs where. The objects know nothing of it."""

    def __init__(
        self,
        worker: Worker,
        engine: EngineProcess,
        stop: Stop,
        metrics: HttpMetrics | None,
        *,
        drain_seconds: float,
    ) -> None:
        self._drain_seconds = drain_seconds
        self._pulse = Pulse()
        self._failing: dict[str, str] = {}
        self._pauses: list[str] = []
        self._engine_trouble: str | None = "the engine is being started"
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

    def condition(self) -> Condition:
        """How this worker is."""
        worker = self._worker
        unready = ["draining"] if worker.draining else []
        unready += [self._engine_trouble] if self._engine_trouble is not None else []
        unready += self._pauses
        unready += [f"{loop}: {why}" for loop, why in dict(self._failing).items()]
        held = len(worker.held.jobs())
        return Condition(
            still=self._pulse.still(),
            unready=unready,
            status=f"{held} jobs in hand",
            worker=worker.identity.worker_id,
        )

    def serve(self, telling: Telling) -> None:
        """Start all threads, wait for the signal, drain, and leave nothing behind."""
        worker = self._worker
        self._log.info("worker up", device=worker.identity.device, types=len(worker.identity.job_types))
        steps: dict[str, tuple[Callable[[], None], float]] = {
            "claim": (self._claim, LOOP_SECONDS),
            "listen": (self._listen, LOOP_SECONDS),
            "heart": (self._heart, LOOP_SECONDS),
            "warm": (self._warm, WARM_SECONDS),
            "sweep": (self._sweep, SWEEP_LIMIT_SECONDS),
        }
        for lane in worker.lanes.values():
            steps |= {
                f"{lane.name} {slot + 1}": (partial(self._lane, lane), LANE_SECONDS) for slot in range(lane.slots)
            }
        if self._metrics is not None:
            steps["count"] = partial(self._count, self._metrics), LOOP_SECONDS
        for name, (step, limit) in steps.items():
            threading.Thread(target=self._for_ever, args=(name, step, limit), name=name, daemon=True).start()
        self._stop.draining.wait()
        telling.stopping()
        self._drain()

    def _drain(self) -> None:
        worker = self._worker
        worker.drain()
        grace = 0.0 if self._stop.orphaned else self._drain_seconds
        self._log.info("draining", held=len(worker.held.jobs()), seconds=grace)
        until = time.monotonic() + grace
        while self._worth_waiting(until) and not self._stop.now.wait(DRAIN_LOOK_SECONDS):
            continue
        idle = not worker.held.jobs()
        try:
            given = worker.hand_back(DRAINED)
            worker.see(worker.store.now(), state="stopped")
            self._log.info("worker down", handed_back=given)
        except StoreAway as error:
            self._log.warning("leases not handed back: they run out by themselves", reason=str(error))
        self._ended.set()
        self._pulse.end()
        self._stop.now.set()
        # What is still on the device was handed back: nobody waits for its answer, and the device is wanted.
        self._engine.close(seconds=ENGINE_SECONDS if idle else 0.0)

    def _worth_waiting(self, until: float) -> bool:
        """Put off what will not end in time; whether anything is left to wait for, and time to do it in."""
        now = time.monotonic()
        if now >= until + KEEP_SECONDS:
            return False
        try:
            return self._worker.drain_tick(until - now)
        except StoreAway as error:
            self._log.warning("database away", thread="drain", reason=str(error))
            return now < until

    def _lane(self, lane: Lane) -> None:
        if lane.paused(self._worker.store.now()):
            self._ended.wait(0.5)
            return
        job = lane.take(30.0)
        if job is None:
            return
        if lane.paused(self._worker.store.now()):
            lane.put(job)  # it came while the lane was being paused
            return
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
        now = self._worker.store.now()
        self._pauses = self._worker.pauses(now)
        self._worker.heartbeat_tick(now)

    def _sweep(self) -> None:
        self._worker.sweep_spool()
        self._ended.wait(SWEEP_SECONDS)

    def _count(self, metrics: HttpMetrics) -> None:
        if metrics.wait(POLL_SECONDS * 10):
            metrics.tick()

    def _warm(self) -> None:
        """Have an engine process before a job needs one, and again when it is lost; claim nothing to draw without."""
        try:
            ready = self._engine.ready()
        except EngineDied as death:
            if self._ended.is_set():
                return  # it was told to stop while it was starting
            self._engine_trouble = f"the engine does not start: {death.reason}"
            self._log.error("the engine does not start", reason=death.reason, detail=death.detail)
            self._ended.wait(RESTART_SECONDS)
            return
        self._engine_trouble = None
        if ready.pid != self._ready_pid:
            self._ready_pid = ready.pid
            self._log.info("engine up", pid=ready.pid, engine=ready.engine, device=ready.device_name)
            self._room.set()
        self._ended.wait(HEART_SECONDS)

    def _for_ever(self, name: str, step: Callable[[], None], limit: float) -> None:
        """A thread's life: whatever one step raises, there is a next one."""
        failures = 0
        while not self._ended.is_set():
            self._pulse.beat(name, limit)
            try:
                step()
                failures = 0
                self._failing.pop(name, None)
                continue
            except StoreAway as error:
                self._failing[name] = "the database does not answer"
                self._log.warning("database away", thread=name, reason=str(error))
            except Exception as error:  # noqa: BLE001  # a heart that stops is worse than any one beat that fails
                self._failing[name] = f"unexpected {type(error).__name__}"
                self._log.exception("unexpected", thread=name)
            failures += 1
            self._ended.wait(min(0.2 * 2.0 ** min(failures, 6), 5.0))
