"""How an attempt at a stage begins and ends, and what became of its device time."""

from datetime import datetime

from msgspec.structs import replace

from statemachine.events import StageStarted
from statemachine.job import Attempt, Error, Job, Stored
from statemachine.states import DEVICE_STAGES, State


def begun(job: Job, stored: Stored, event: StageStarted) -> Job:
    """The job with a new open attempt; one that was open is superseded."""
    at = stored.at
    attempt = Attempt(
        run=job.run,
        stage=State(event.stage),
        attempt=event.attempt,
        worker_id=stored.worker_id,
        host=job.host,
        device=event.device,
        token=job.token,
        due_at=job.due_at or at,
        started_at=at,
    )
    before = closed(job, at, "superseded")
    return replace(
        before,
        attempts=(*before.attempts, attempt),
        started_at=job.started_at or at,
        device_base=drawn(job) if attempt.stage is State.GENERATING else 0.0,
        device_kept=0.0,
    )


def closed(
    job: Job,
    at: datetime,
    outcome: str,
    error: Error | None = None,
    *,
    message: str | None = None,
    delay: float | None = None,
    counts: bool = True,
    device: float | None = None,
) -> Job:
    """The job with its open attempt, if any, ended. `device` is its measured device time, where it succeeded."""
    last = job.open_attempt
    if last is None:
        return job
    ended_at = max(at, last.started_at)
    wasted = None
    if last.stage in DEVICE_STAGES:
        ran = (ended_at - last.started_at).total_seconds()
        wasted = max(ran - job.device_kept, 0.0) if device is None else 0.0
        device = max(ran, job.device_kept) if device is None else device
    ended = replace(
        last,
        ended_at=ended_at,
        outcome=outcome,
        error_class=error.error_class if error else None,
        error_type=error.error_type if error else None,
        message=error.message if error else message,
        delay=delay,
        counts=counts,
        device_seconds=device,
        wasted_seconds=wasted,
    )
    return replace(job, attempts=(*job.attempts[:-1], ended))


def drawn(job: Job) -> float:
    """The device time that generating can go on from."""
    return job.checkpoint.device_seconds if job.checkpoint is not None else 0.0
