"""All that is known of a job at one moment: the job itself, and what around it decides when it goes on."""

from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from statemachine import events as e
from statemachine.finding import Finding
from statemachine.job import Attempt, Job, Stored
from statemachine.states import State
from statemachine.store.reading import Ahead

ALIVE_SECONDS: Final = 90.0
"""A worker heard within so many seconds counts as living: three leases of the default length."""

GONE: Final = frozenset({"stopped", "dead", "lost"})


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    """A job with its surroundings, as one snapshot of the database gave them. Rows are those of `store.reading`.

    `past`: this is how it was at `now`, which is over. Only the history is known of that; workers, leases and queues
    keep no history. `findings` are what is wrong with the history and its projections, as `jobs verify` finds it.
    """

    job: Job
    history: list[Stored]
    now: datetime
    lease: dict[str, Any] | None = None
    content: dict[str, Any] = {}
    rejected: list[dict[str, Any]] = []
    workers: list[dict[str, Any]] = []
    ahead: Ahead | None = None
    paused: dict[str, Any] | None = None
    spool: str | None = None
    spool_grace: float = 0.0
    past: bool = False
    findings: list[Finding] = []

    @property
    def living(self) -> list[dict[str, Any]]:
        """Workers that were heard of lately and do not say that they stopped."""
        return [worker for worker in self.workers if is_alive(worker, self.now)]

    @property
    def able(self) -> list[dict[str, Any]]:
        """Living workers that take this job: those with its type, or any where only the telling is left."""
        telling = self.job.state is State.CALLBACK
        taking = [worker for worker in self.living if worker["state"] != "draining"]
        return [worker for worker in taking if telling or self.job.job_type in worker["job_types"]]

    @property
    def others_in_hand(self) -> int:
        """How many other jobs the worker has that has this one."""
        holder = next((row for row in self.workers if row["worker_id"] == self.job.worker_id), None)
        return 0 if holder is None else len(set(holder["jobs"]) - {self.job.id})

    @property
    def files_at(self) -> str | None:
        """The spool that has the job's files, as far as a lease tells."""
        return self.spool if self.lease is None else self.lease.get("spool_host")

    @property
    def files_heard_at(self) -> datetime | None:
        """When a worker was last heard of in that spool."""
        there = self.files_at
        return max((row["last_seen_at"] for row in self.workers if row.get("spool") == there), default=None)

    @property
    def kept_until(self) -> datetime | None:
        """Until when nobody takes the job but workers in the spool that has its files; None where everybody may."""
        heard, due = self.files_heard_at, self.job.due_at
        if self.spool is None or heard is None or due is None or self.job.state is State.CALLBACK:
            return None
        until = min(heard, due) + timedelta(seconds=self.spool_grace)
        return until if until > self.now else None

    @property
    def progress(self) -> dict[str, Any]:
        """How far the running attempt said it is; empty without one."""
        told = self.lease.get("progress") if self.lease else None
        return told if isinstance(told, dict) and self.job.open_attempt is not None else {}

    @property
    def last_attempt(self) -> Attempt | None:
        """The latest attempt of this run."""
        mine = [attempt for attempt in self.job.attempts if attempt.run == self.job.run]
        return mine[-1] if mine else None

    def last(self, *kinds: type[e.Event]) -> Stored | None:
        """The latest event of these kinds in this run."""
        return next((s for s in reversed(self.history) if s.run == self.job.run and isinstance(s.event, kinds)), None)


def is_alive(worker: dict[str, Any], now: datetime) -> bool:
    """Whether a row of `workers` is of one that can still be reckoned with."""
    heard = (now - worker["last_seen_at"]).total_seconds() <= ALIVE_SECONDS
    return heard and worker["state"] not in GONE
