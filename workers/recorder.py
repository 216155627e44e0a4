"""The store as an attempt sees it: every write under this worker's name and the job's token."""

from typing import Any

from statemachine.errors import FencedOut, StaleJob
from statemachine.events import Event
from statemachine.job import Job
from statemachine.store import EventStore
from statemachine.store.writer import Writer
from workers.held import Held
from workers.ports import Clock


class StoreRecorder:
    """See `workers.tools.Recorder`."""

    def __init__(
        self, store: EventStore, writer: Writer, held: Held, clock: Clock, *, worker_id: str, lease_seconds: float
    ) -> None:
        self._store = store
        self._writer = writer
        self._held = held
        self._clock = clock
        self._worker_id = worker_id
        self._lease_seconds = lease_seconds

    def record(self, job: Job, events: list[Event], *, personal: dict[str, Any] | None = None) -> Job:
        """Append `events`; where an operator wrote in between, judge them again behind what he wrote.

        Raises FencedOut, and IllegalEvent when they may no longer happen.
        """
        while True:
            try:
                after = self._writer.append(job, events, worker_id=self._worker_id, personal=personal)
            except StaleJob:
                fresh = self._store.load(job.id)
                if fresh.token != job.token:
                    raise FencedOut(job.id, job.token, fresh.token) from None
                job = fresh
                continue
            if after.worker_id == self._worker_id:
                self._held.keep(after, monotonic=self._clock.monotonic())
            else:
                self._held.release(after)
            return after

    def renew(self, job: Job) -> float:
        """Extend the lease by its whole length. Raises FencedOut."""
        held = {job.id: (job.token, None)}
        if job.id not in self._store.renew(self._worker_id, held, seconds=self._lease_seconds):
            raise FencedOut(job.id, job.token, None)
        return self._lease_seconds

    def content(self, job: Job) -> dict[str, Any]:
        """The job's personal content."""
        return self._store.content(job.id)

    def progress(self, job: Job, progress: dict[str, Any]) -> None:
        """Kept until the next heartbeat writes it down."""
        self._held.progress(job.id, progress)
