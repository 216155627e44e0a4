"""The store as an attempt sees it: every write under this worker's name and the job's token."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from statemachine import decisions
from statemachine.errors import FencedOut, StaleJob, StoreAway
from statemachine.events import Event
from statemachine.job import Job
from statemachine.store import EventStore
from statemachine.store.writer import Writer
from workers.held import Held
from workers.ports import Clock

T = TypeVar("T")


class StoreRecorder:
    """See `workers.tools.Recorder`."""

    def __init__(
        self,
        store: EventStore,
        writer: Writer,
        held: Held,
        clock: Clock,
        *,
        worker_id: str,
        lease_seconds: float,
        pause: Callable[[int], None],
    ) -> None:
        self._store = store
        self._writer = writer
        self._held = held
        self._clock = clock
        self._worker_id = worker_id
        self._lease_seconds = lease_seconds
        self._pause = pause

    def record(self, job: Job, events: list[Event], *, personal: dict[str, Any] | None = None) -> Job:
        """Append `events`; where an operator wrote in between, judge them again behind what he wrote.

        Raises FencedOut, and IllegalEvent when they may no longer happen.
        """
        while True:
            try:
                after = self._writer.append(job, events, worker_id=self._worker_id, personal=personal)
            except StaleJob:
                fresh = self._patiently(partial(self._store.load, job.id))
                if fresh.token != job.token:
                    raise FencedOut(job.id, job.token, fresh.token) from None
                job, events = fresh, decisions.rejudged(fresh, events)
                continue
            if after.worker_id == self._worker_id:
                self._held.keep(after, monotonic=self._clock.monotonic())
            else:
                self._held.release(after)
            return after

    def renew(self, job: Job) -> float:
        """Extend the lease by its whole length; return what is left of it. Raises FencedOut."""

        def once() -> float:
            begun = self._clock.monotonic()
            if job.id not in self._store.renew(
                self._worker_id, {job.id: (job.token, None)}, seconds=self._lease_seconds
            ):
                raise FencedOut(job.id, job.token, None)
            return self._lease_seconds - (self._clock.monotonic() - begun)

        return self._patiently(once)

    def content(self, job: Job) -> dict[str, Any]:
        """The job's personal content."""
        return self._patiently(partial(self._store.content, job.id))

    def progress(self, job: Job, progress: dict[str, Any]) -> None:
        """Kept until the next heartbeat writes it down."""
        self._held.progress(job.id, progress)

    def _patiently(self, ask: Callable[[], T]) -> T:
        """Ask until the database is there. It being away costs a job nothing; only a stopping process gives up."""
        failures = 0
        while True:
            try:
                return ask()
            except StoreAway:
                failures += 1
                self._pause(failures)
