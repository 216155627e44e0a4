"""One job's history while it is made: sealed by the store's own hand, so that it is what an append would have made."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from msgspec.structs import replace

from statemachine.admission import NewJob
from statemachine.events import Event, JobQueued
from statemachine.job import Job, Stored
from statemachine.store.codec import seal_all


class Life:
    """The job as it stands, the time it is there, and all that is to be stored of it."""

    def __init__(self, new: NewJob, *, turn: int, at: datetime) -> None:
        queued = new.events[0]
        assert isinstance(queued, JobQueued)
        self.at = at
        self.raw = new.raw
        self.content: dict[str, Any] | None = new.content
        self.rows: list[Stored] = []
        self.job = Job(id=new.job_id)
        self.record([replace(queued, turn=turn), *new.events[1:]], by=None)

    def goes_on(self, seconds: float) -> None:
        """So much time passes."""
        self.at += timedelta(seconds=seconds)

    def record(self, events: Sequence[Event], *, by: str | None) -> None:
        """It happens now. Raises IllegalEvent for what cannot."""
        rows, self.job = seal_all(self.job, list(events), worker_id=by, at=self.at)
        self.rows += rows

    def know(self, **personal: str) -> None:
        """Personal content beside the history, as a worker adds it."""
        self.content = {**(self.content or {}), **personal}
