"""Affinity: due jobs of the model that is loaded go first for a while, so that not every job costs a swap."""

from collections.abc import Iterable, Sequence, Set
from datetime import datetime, timedelta
from typing import Final, NamedTuple

LOOK_AHEAD: Final = 100
"""So many of the next due jobs are looked at: with 100,000 in the queue a claim costs what it costs with 100."""


class Due(NamedTuple):
    """A job that may be claimed. `model` is None where it needs none any more."""

    id: str
    model: str | None
    priority: int
    due_at: datetime


def prefer(due: Sequence[Due], resident: Set[str], *, count: int, window: float, now: datetime) -> list[Due]:
    """Up to `count` of `due`, which stand in the normal order, in the order in which they are to be taken.

    A job of a resident model passes over those before it that have its priority, need another model, and have been
    due for less than `window` seconds. Where one of them has been due for longer, or none is resident, the first one
    is taken. So no job waits beyond the window because of affinity.
    """
    waiting, taken = list(due), list[Due]()
    while waiting and len(taken) < count:
        job = _next(waiting, resident, due_before=now - timedelta(seconds=window))
        waiting.remove(job)
        taken.append(job)
        resident = loaded_after(resident, [job.model])
    return taken


def loaded_after(resident: Set[str], models: Iterable[str | None]) -> Set[str]:
    """What will be loaded when jobs of these models have been drawn, in that order.

    Whether a model that is not resident finds room beside the others is known once it is loaded; here it finds none.
    """
    for model in models:
        if model is not None and model not in resident:
            resident = frozenset({model})
    return resident


def _next(waiting: Sequence[Due], resident: Set[str], *, due_before: datetime) -> Due:
    head = waiting[0]
    if head.model is None:
        return head
    for job in waiting:
        if job.priority != head.priority:
            break
        if job.model in resident:
            return job
        if job.due_at <= due_before:
            break
    return head
