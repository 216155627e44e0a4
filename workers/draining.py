"""Draining: what can end in time ends; the rest is kept as far as it is, and handed back."""

import structlog

from statemachine import decisions
from statemachine.errors import FencedOut, StaleJob, StoreAway
from statemachine.job import Job
from statemachine.states import DEVICE_STAGES
from statemachine.store import EventStore
from statemachine.store.writer import Writer
from workers.engines.config import LOADING
from workers.held import Held, Progress
from workers.lane import Lane
from workers.ports import Engine
from workers.stages.on_device import DRAINED, request_id

log = structlog.get_logger()


class Draining:
    """Ends what a worker has in hand. It claims nothing by then."""

    def __init__(
        self, store: EventStore, writer: Writer, held: Held, engine: Engine, engine_lane: Lane, *, worker_id: str
    ) -> None:
        self._store = store
        self._writer = writer
        self._held = held
        self._engine = engine
        self._engine_lane = engine_lane
        self._worker_id = worker_id

    def tick(self, left: float) -> bool:
        """Put off what the device cannot end within `left` seconds; True while something is worth waiting for.

        What has not begun is handed back. What is on the device is asked for a checkpoint of the step that it is in,
        and hands its lease back itself when that is written: with nothing left, that alone is waited for. Call it
        again and again; an engine that was told so already is told again.
        """
        while (job := self._engine_lane.take(0)) is not None:
            self.give_back(job, DRAINED)
        kept = 0
        for job, progress in self._held.in_work():
            if job.state not in DEVICE_STAGES:
                continue
            begun = job.open_attempt is not None
            if not begun or not may_end(progress, left):
                self._engine.cancel(request_id(job), keep=True)
                kept += begun and not _loads(progress)
        return kept > 0 if left <= 0 else bool(self._held.jobs())

    def give_back(self, job: Job, reason: str) -> bool:
        """Give up the lease; it costs the job no attempt. False where it was not ours any more, or cannot be written.

        A lane may write at the same time: then its write stands, and the lease is given up behind it.
        """
        while True:
            fresh = self._store.load(job.id)
            if fresh.token != job.token or fresh.worker_id != self._worker_id:
                self._held.release(job)
                return False
            events = decisions.interrupt(fresh, reason=reason, by=self._worker_id, now=self._store.now(), counts=False)
            try:
                self._writer.append(fresh, events, worker_id=self._worker_id)
            except StaleJob:
                continue
            except (FencedOut, StoreAway) as error:
                log.warning("lease not handed back", job=job.id, reason=str(error))
                return False
            self._held.release(job)
            return True


def _loads(progress: Progress | None) -> bool:
    """A model is being loaded for it: nothing is there yet that could be kept, and it does not stop before."""
    return progress is not None and str(progress.get("doing", "")).startswith(LOADING)


def may_end(progress: Progress | None, left: float) -> bool:
    """Whether an attempt may be over within `left` seconds, as far as its steps tell.

    A first step is slower than the others, so one is not enough to judge by; where nothing is known, it may.
    """
    if left <= 0:
        return False
    if progress is None or progress.get("step", 0) < 2:
        return True
    return bool((progress["of"] - progress["step"]) * progress["seconds"] <= left)
