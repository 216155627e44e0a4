"""What a trial adds up to."""

from collections import Counter
from dataclasses import dataclass
from typing import Final

from benchmarks.queues.trial import BEFORE_SECONDS, Story

WINDOW_SECONDS: Final = 4.0
FULL: Final = 0.9
"""Of the rate before the fault, over a window: that is full again."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Counts of jobs and steps; seconds from the end of the fault. None: not within the trial, or no fault.

    `first` is the first job that ended after it, `full` when jobs end as fast as before it again, `caught_up` the end
    of the last job that was accepted before it ended. `longest_push` is how long a producer waited for an answer.
    """

    accepted: int
    ended: int
    lost: int
    failed: int
    told_twice: int
    steps: int
    repeated: int
    longest_push: float
    a_second: float
    first: float | None = None
    full: float | None = None
    caught_up: float | None = None


def figures(story: Story) -> Figures:
    """Count."""
    ends: dict[str, float] = {}
    for told in sorted(story.outcomes, key=lambda told: told.at):
        ends.setdefault(told.job_id, told.at)
    times = Counter(told.job_id for told in story.outcomes)
    failed = {told.job_id for told in story.outcomes if told.status == "failed"}
    after = story.fault_ended
    return Figures(
        accepted=len(story.accepted),
        ended=len(ends),
        lost=len(story.accepted) - len(ends),
        failed=len(failed),
        told_twice=sum(count > 1 for count in times.values()),
        steps=len(story.steps),
        repeated=len(story.steps) - len(set(story.steps)),
        longest_push=max(story.waits, default=0.0),
        a_second=len(ends) / (max(ends.values()) - story.begun) if ends else 0.0,
        first=None if after is None else min((at - after for at in ends.values() if at >= after), default=None),
        full=_full(story, sorted(ends.values())),
        caught_up=_caught_up(story, ends),
    )


def _full(story: Story, ends: list[float]) -> float | None:
    """When the first window begins in which jobs end as fast as they did before the fault."""
    if story.fault_began is None or story.fault_ended is None:
        return None
    before = sum(story.fault_began - BEFORE_SECONDS / 2 <= at < story.fault_began for at in ends)
    wanted = FULL * before * WINDOW_SECONDS / (BEFORE_SECONDS / 2)
    for begin in (at for at in ends if at >= story.fault_ended):
        if sum(begin <= at < begin + WINDOW_SECONDS for at in ends) >= wanted:
            return begin - story.fault_ended
    return None


def _caught_up(story: Story, ends: dict[str, float]) -> float | None:
    after = story.fault_ended
    if after is None:
        return None
    due = [job_id for job_id, at in story.accepted.items() if at <= after]
    if any(job_id not in ends for job_id in due):
        return None
    return max(0.0, max((ends[job_id] for job_id in due), default=after) - after)
