"""What a job has cost: per stage how long it waited, ran, and had a device, and how much of that was for nothing."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec

from statemachine.job import Attempt, Job, Stored
from statemachine.states import State


class Wait(msgspec.Struct, frozen=True, kw_only=True):
    """One time in the queue. `until` is None while it goes on."""

    run: int
    since: datetime
    until: datetime | None


def queue_waits(history: Sequence[Stored]) -> list[Wait]:
    """When each run lay in the queue. Not those that began at a later stage, or whose beginning is missing."""
    waits: list[Wait] = []
    for row in history:
        if row.to_state is State.QUEUED and row.from_state is not State.QUEUED:
            waits.append(Wait(run=row.run, since=row.at, until=None))
        elif waits and row.from_state is State.QUEUED and row.to_state is not State.QUEUED:
            waits[-1] = msgspec.structs.replace(waits[-1], until=row.at)
    return waits


def cost(job: Job, waits: Sequence[Wait]) -> dict[str, Any]:
    """Over all runs: one entry a stage that was reached, in the order of the stages, and the sums.

    Of what has ended: an attempt that runs is not in it, nor a wait that goes on.
    """
    stages = [_queued(waits)] if waits else []
    stages += [_stage(stage, tries) for stage in State if (tries := [a for a in job.attempts if a.stage is stage])]
    loads = [change for change in job.model_changes if change.kind == "model_loaded"]
    return {
        "stages": stages,
        "wait_seconds": _sum(one["wait_seconds"] for one in stages),
        "run_seconds": _sum(one["run_seconds"] for one in stages),
        "device_seconds": _sum(one["device_seconds"] for one in stages),
        "wasted_seconds": _sum(one["wasted_seconds"] for one in stages),
        "load_seconds": _sum(change.seconds for change in loads) if loads else None,
    }


def _queued(waits: Sequence[Wait]) -> dict[str, Any]:
    seconds = _sum((wait.until - wait.since).total_seconds() for wait in waits if wait.until is not None)
    return {
        "stage": State.QUEUED,
        "attempts": 0,
        "wait_seconds": seconds,
        "run_seconds": None,
        "device_seconds": None,
        "wasted_seconds": None,
    }


def _stage(stage: State, tries: Sequence[Attempt]) -> dict[str, Any]:
    return {
        "stage": stage,
        "attempts": len(tries),
        "wait_seconds": _sum(attempt.wait_seconds for attempt in tries),
        "run_seconds": _sum(attempt.run_seconds for attempt in tries),
        "device_seconds": _sum(attempt.device_seconds for attempt in tries),
        "wasted_seconds": _sum(attempt.wasted_seconds for attempt in tries),
    }


def _sum(numbers: Iterable[float | None]) -> float | None:
    """To the microsecond; None where there is no number at all."""
    known = [number for number in numbers if number is not None]
    return round(sum(known), 6) if known else None
