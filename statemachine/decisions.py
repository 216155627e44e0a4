"""Decisions: pure functions from a job (and the time) to events. Nothing in here reads a clock or a database."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from statemachine import events as e
from statemachine.events import UNDELIVERABLE
from statemachine.job import Attempt, Job
from statemachine.states import STAGES, Outcome, State


class Policy(msgspec.Struct, frozen=True):
    """How often a class of error is tried again, and how long apart (seconds). No budget: for ever."""

    budget: int | None
    base: float
    cap: float


POLICIES: Final[Mapping[str, Policy]] = {
    "transient": Policy(budget=10, base=1.0, cap=300.0),
    "device_memory": Policy(budget=2, base=2.0, cap=30.0),
    "misconfiguration": Policy(budget=None, base=15.0, cap=300.0),  # nothing is wrong with the job: none is burnt
    "permanent": Policy(budget=1, base=0.0, cap=0.0),
}

ERROR_CLASSES: Final = (*POLICIES, "crash", "cancelled")
"""All that an error can be. The last two follow rules of their own, see `interrupt` and `cancel`."""

CALLBACK_DELAYS: Final = (5.0, 30.0, 120.0, 600.0, 1800.0, 7200.0, 18000.0, 36000.0)
"""Seconds between the tries of a callback; nine tries in all."""

CRASH_BUDGET: Final = 3
"""A job in hand when its engine or worker died so often is poison: it fails, and the queue goes on.

A worker that dies takes the innocent along. So whoever is one death away from it goes on trial: it is claimed alone,
and the last death is nobody else's.
"""

CALLBACK_CRASH_BUDGET: Final = 9
"""A callback is tried as often as its schedule allows, whether the receiver or the worker ends the try."""


def claim(job: Job, *, worker: str, host: str, device: str, version: str | None = None) -> list[e.Event]:
    """Give the job to a worker. The token grows and fences off everyone before it."""
    return [e.Claimed(worker=worker, host=host, device=device, token=job.token + 1, version=version)]


def start(job: Job, *, device: str | None = None) -> list[e.Event]:
    """Begin the next attempt at the stage that is due."""
    return [e.StageStarted(stage=job.state, attempt=len(job.tries(job.state)) + 1, device=device)]


def trouble(
    job: Job,
    *,
    error_class: str,
    error_type: str,
    message: str,
    now: datetime,
    jitter: float,
    retry_after: float | None = None,
    budget: int | None = None,
) -> list[e.Event]:
    """The attempt failed: another one later, or the end of the run. `jitter` is drawn by the caller, in [0, 1)."""
    if job.cancel_pending:
        return cancelled(job)
    if exhausted(job, error_class=error_class, error_type=error_type, budget=budget):
        return give_up(job, error_class=error_class, error_type=error_type, message=message, now=now)
    failures, limit = len(_failed(job, error_class)), _limit(job, error_class)
    if job.state is State.CALLBACK and error_class == "transient":
        full = CALLBACK_DELAYS[min(failures, len(CALLBACK_DELAYS) - 1)]
    else:
        policy = POLICIES[error_class]
        full = min(policy.cap, policy.base * 2.0 ** min(failures, 32))
    # Half of it is jittered, so that a receiver that comes back, or said when, is not met by all jobs at once.
    delay = round(max(full / 2, retry_after or 0.0) + full / 2 * jitter, 3)
    return [
        e.RetryScheduled(
            error_class=error_class,
            error_type=error_type,
            message=message,
            delay=delay,
            attempt=failures + 1,
            budget=budget or limit or 0,
            resume_at=(now + timedelta(seconds=delay)).isoformat(),
            token=job.token + 1,
        )
    ]


def exhausted(job: Job, *, error_class: str, error_type: str, budget: int | None = None) -> bool:
    """Whether one more failure of this kind at the stage that is due is the last.

    A `budget` of its own counts its own kind of error: a receiver that was down before it said no has said no once.
    """
    failed, limit = _failed(job, error_class), _limit(job, error_class)
    of_its_kind = sum(attempt.error_type == error_type for attempt in failed)
    return (limit is not None and len(failed) + 1 >= limit) or (budget is not None and of_its_kind + 1 >= budget)


def _failed(job: Job, error_class: str) -> list[Attempt]:
    return [a for a in job.tries(job.state) if a.outcome == "retry" and a.error_class == error_class]


def _limit(job: Job, error_class: str) -> int | None:
    if job.state is State.CALLBACK and error_class == "transient":
        return len(CALLBACK_DELAYS) + 1
    return POLICIES[error_class].budget


def give_up(job: Job, *, error_class: str, error_type: str, message: str, now: datetime) -> list[e.Event]:
    """The run fails. Where only the telling is left, the job ends there without another round."""
    if job.state is State.CALLBACK:
        return [
            e.JobFailed(
                error_class=error_class,
                error_type=UNDELIVERABLE,
                message=message,
                total_seconds=total_seconds(job, now),
                notified=False,
            )
        ]
    return [e.OutcomeDecided(outcome=Outcome.FAILED, error_class=error_class, error_type=error_type, message=message)]


def interrupt(
    job: Job, *, reason: str, by: str, now: datetime, detail: str | None = None, counts: bool = True
) -> list[e.Event]:
    """The lease ends without a result: the job waits its turn again, or is poison and fails, or was to end anyway.

    `counts=False` where the job had no part in it (a drain, a worker that never began): it costs no attempt.
    """
    interrupted = e.Interrupted(reason=reason, by=by, token=job.token + 1, detail=detail, counts=counts)
    if job.cancel_pending:
        return [interrupted, *cancelled(job)]
    if not counts or not on_trial(job):
        return [interrupted]
    message = f"Generation failed: interrupted {_crash_budget(job)} times while {job.state} ({reason})"
    return [interrupted, *give_up(job, error_class="crash", error_type="Poison", message=message, now=now)]


def on_trial(job: Job) -> bool:
    """One more death with this job in hand, at the stage that is due, and it is poison."""
    deaths = sum(attempt.outcome == "interrupted" and attempt.counts for attempt in job.tries(job.state))
    return deaths + job.lost_waiting + 1 >= _crash_budget(job)


def _crash_budget(job: Job) -> int:
    return CALLBACK_CRASH_BUDGET if job.state is State.CALLBACK else CRASH_BUDGET


def cancel(job: Job, *, by: str, reason: str) -> list[e.Event]:
    """Ask for the end of a run. Queued jobs end at once; leased ones at their worker's next step.

    Returns no events where the outcome is already decided: it may have been told.
    """
    if job.outcome is not None or job.state.terminal:
        return []
    asked = e.CancelRequested(by=by, reason=reason)
    return [asked] if job.worker_id is not None else [asked, *cancelled(replace(job, cancel_reason=reason))]


def cancelled(job: Job) -> list[e.Event]:
    """The run is given up on request; the receiver is told as `failed` with `error_type: Cancelled`."""
    return [
        e.OutcomeDecided(
            outcome=Outcome.CANCELLED,
            error_class="cancelled",
            error_type="Cancelled",
            message=job.cancel_reason or "Cancelled",
        )
    ]


def rejudged(job: Job, events: Sequence[e.Event]) -> list[e.Event]:
    """What becomes of `events` that were decided before `job`'s end was asked for, and are written behind that.

    What would put the job off ends it instead, and so does what would make it poison. An interruption in which it had a
    part is told all the same.
    """
    put_off = any(isinstance(event, e.RetryScheduled | e.Interrupted) for event in events)
    if not job.cancel_pending or not put_off:
        return list(events)
    told = [event for event in events if not isinstance(event, e.RetryScheduled | e.OutcomeDecided)]
    return [*(event for event in told if not isinstance(event, e.Interrupted) or event.counts), *cancelled(job)]


def finish(job: Job, *, now: datetime, notified: bool) -> list[e.Event]:
    """The receiver knows (or there is none): the run ends as its outcome says."""
    seconds = total_seconds(job, now)
    match job.outcome:
        case Outcome.FAILED if job.error is not None:
            return [
                e.JobFailed(
                    error_class=job.error.error_class,
                    error_type=job.error.error_type,
                    message=job.error.message,
                    total_seconds=seconds,
                    notified=notified,
                )
            ]
        case Outcome.CANCELLED:
            return [
                e.JobCancelled(
                    by=job.cancel_by or "", reason=job.cancel_reason or "", total_seconds=seconds, notified=notified
                )
            ]
        case Outcome.COMPLETED:
            return [e.JobCompleted(total_seconds=seconds, notified=notified)]
        case _:
            raise ValueError(f"job {job.id}: a run ends with its outcome, and this one has none")


def requeue(job: Job, *, by: str, reason: str, stage: State | None = None, as_new: bool = False) -> list[e.Event]:
    """Start a new run of a finished job, at the beginning or at `stage`. No events while it is live.

    A job that was refused at the door has nothing but its telling: it begins there. A run that only tells does so
    under the id that its outcome had before, unless `as_new`.
    """
    if not job.state.terminal:
        return []
    at = State.QUEUED if stage is None or stage not in STAGES else stage
    if all(planned is State.CALLBACK for planned in job.stages):
        at = State.CALLBACK
    return [e.Requeued(by=by, reason=reason, run=job.run + 1, stage=at, as_new=as_new and at is State.CALLBACK)]


def erase(job: Job, *, by: str, reason: str, files: Sequence[Mapping[str, Any]], left: bool) -> list[e.Event]:
    """Remove what is personal of a finished job. `left`: the database has some of it; `files`: storage may have these.

    No events while it is live, nor where it was erased before and nothing has come back since.
    """
    if not job.state.terminal or (job.erased is not None and not left):
        return []
    return [e.ContentErased(by=by, reason=reason, files=[dict(file) for file in files])]


def files_removed(job: Job, *, by: str) -> list[e.Event]:
    """Storage has nothing left of an erased job. No events where that is known."""
    if not job.state.terminal or job.erased is None or job.erased.files_removed_at is not None:
        return []
    return [e.FilesRemoved(by=by)]


def total_seconds(job: Job, now: datetime) -> float:
    """From ingress (or the operator's `requeued`) to the outcome."""
    begun = job.run_at or now
    return round(((job.outcome_at or now) - begun).total_seconds(), 3)


__all__ = [
    "CALLBACK_CRASH_BUDGET",
    "CALLBACK_DELAYS",
    "CRASH_BUDGET",
    "ERROR_CLASSES",
    "POLICIES",
    "UNDELIVERABLE",
    "Policy",
    "cancel",
    "cancelled",
    "claim",
    "erase",
    "exhausted",
    "files_removed",
    "finish",
    "give_up",
    "interrupt",
    "on_trial",
    "rejudged",
    "requeue",
    "start",
    "total_seconds",
    "trouble",
]
