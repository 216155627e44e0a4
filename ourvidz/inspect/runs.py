"""A job's runs, and what interrupted them: from the history alone."""

from collections.abc import Iterator, Sequence
from datetime import datetime

import msgspec

from statemachine import events as e
from statemachine.evolve import evolve
from statemachine.job import Job, Stored
from statemachine.states import Outcome, State


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """From a job's arrival, or an operator's act, to its end. The outcome is None while it is not decided."""

    run: int
    stage: State
    begun_at: datetime
    by: str | None = None
    reason: str | None = None
    outcome: Outcome | None = None
    error_type: str | None = None
    outcome_at: datetime | None = None
    finished_at: datetime | None = None


class Interruption(msgspec.Struct, frozen=True, kw_only=True):
    """A lease of `worker_id` that ended without a result. `attempt` is None where that had not begun the stage."""

    version: int
    at: datetime
    run: int
    stage: State
    attempt: int | None
    worker_id: str | None
    reason: str
    by: str
    detail: str | None
    counts: bool


def runs(history: Sequence[Stored]) -> list[Run]:
    """Every run, oldest first, as it stood after its last event."""
    found: list[Run] = []
    for _, row, job in _walk(history):
        event = row.event
        if isinstance(event, e.JobQueued):
            found.append(Run(run=row.run, stage=row.to_state, begun_at=row.at))
        elif isinstance(event, e.Requeued):
            run = Run(run=row.run, stage=row.to_state, begun_at=row.at, by=event.by, reason=event.reason)
            found.append(run)
        if found:
            found[-1] = msgspec.structs.replace(
                found[-1],
                outcome=job.outcome,
                error_type=None if job.error is None or job.outcome is None else job.error.error_type,
                outcome_at=job.outcome_at,
                finished_at=job.finished_at,
            )
    return found


def interruptions(history: Sequence[Stored]) -> list[Interruption]:
    """Every interruption, oldest first."""
    return [
        Interruption(
            version=row.version,
            at=row.at,
            run=row.run,
            stage=before.state,
            attempt=None if before.open_attempt is None else before.open_attempt.attempt,
            worker_id=before.worker_id,
            reason=row.event.reason,
            by=row.event.by,
            detail=row.event.detail,
            counts=row.event.counts,
        )
        for before, row, _ in _walk(history)
        if isinstance(row.event, e.Interrupted)
    ]


def _walk(history: Sequence[Stored]) -> Iterator[tuple[Job, Stored, Job]]:
    """Each event with the job before and after it."""
    job = Job(id=history[0].job_id)
    for row in history:
        before, job = job, evolve(job, row)
        yield before, row, job
