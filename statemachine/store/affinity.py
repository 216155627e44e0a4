"""Affinity: due jobs of the model that is loaded go first for a while, so that not every job costs a swap."""

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from math import inf
from typing import Final, NamedTuple

LOOK_AHEAD: Final = 100
"""So many of the next due jobs are looked at: with 100,000 in the queue a claim costs what it costs with 100."""

Passed = Mapping[tuple[str, str], float]
"""Id of a job, model whose jobs passed it over → when the first of them did. Seconds of a clock that is monotonic."""


class Due(NamedTuple):
    """A job that may be claimed. `model` is None where it needs none any more."""

    id: str
    model: str | None
    priority: int


class Affinity:
    """One worker's window, in seconds, and its memory of whom it has passed over. One thread at a time.

    It lives as long as the worker. Where it is lost in a crash, or a job is not among the due ones for a while, the
    window begins anew.
    """

    def __init__(self, window: float, monotonic: Callable[[], float]) -> None:
        self.window = window
        self._monotonic = monotonic
        self._passed: Passed = {}

    def prefer(self, due: Sequence[Due], resident: Set[str], *, count: int) -> list[Due]:
        """Up to `count` of `due`, in the order in which they are to be taken. Nothing is remembered; see `took`."""
        return prefer(due, resident, count=count, window=self.window, passed=self._passed, now=self._monotonic())

    def took(self, due: Sequence[Due], taken: Iterable[Due]) -> None:
        """Remember whom of `due` these have passed over, and forget who has been taken or is not due any more."""
        now, waiting = self._monotonic(), list(due)
        for job in taken:
            self._passed = passed_after(self._passed, waiting, job, now=now)
            waiting.remove(job)
        left = {job.id for job in waiting}
        self._passed = {key: at for key, at in self._passed.items() if key[0] in left}


def prefer(
    due: Sequence[Due], resident: Set[str], *, count: int, window: float, passed: Passed, now: float
) -> list[Due]:
    """Up to `count` of `due`, which stand in the normal order, in the order in which they are to be taken.

    A job of a resident model passes over those before it that have its priority and need another model, unless a
    resident model began to pass one of these over `window` seconds ago or earlier: then the first one is taken.

    So the first one waits for a window at most because of affinity, and for what is in hand. (A third model that an
    urgent job has loaded meanwhile has a window of its own.) Any job J is passed over by jobs of one model within one
    window, counted from the first of them: to each worker J loses, in all, at most a window for each other model,
    whatever comes. Yet no run of a model is cut short by an earlier one: its jobs pass J over only when none of them
    stands before J, so nothing has it loaded again before J is taken, unless a job comes in before J.
    """
    waiting, taken = list(due), list[Due]()
    while waiting and len(taken) < count:
        job = _next(waiting, resident, passed, not_before=now - window)
        passed = passed_after(passed, waiting, job, now=now)
        waiting.remove(job)
        taken.append(job)
        resident = loaded_after(resident, [job.model])
    return taken


def passed_after(passed: Passed, waiting: Sequence[Due], job: Due, *, now: float) -> Passed:
    """`passed` when `job` has been taken out of `waiting`, which stand in the normal order."""
    before = waiting[: waiting.index(job)]
    if job.model is None or not before:
        return passed
    return {**{(other.id, job.model): now for other in before}, **passed}


def loaded_after(resident: Set[str], models: Iterable[str | None]) -> Set[str]:
    """What will be loaded when jobs of these models have been drawn, in that order.

    Whether a model that is not resident finds room beside the others is known once it is loaded; here it finds none.
    """
    for model in models:
        if model is not None and model not in resident:
            resident = frozenset({model})
    return resident


def _next(waiting: Sequence[Due], resident: Set[str], passed: Passed, *, not_before: float) -> Due:
    head = waiting[0]
    if head.model is None:
        return head
    for job in waiting:
        if job.priority != head.priority:
            break
        if job.model in resident:
            return job
        if any(passed.get((job.id, model), inf) <= not_before for model in resident):
            break
    return head
