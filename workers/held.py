"""The jobs that this worker holds, and how far each is."""

import json
import threading
from dataclasses import dataclass
from typing import Any, Final

from statemachine.job import Job
from statemachine.states import State
from workers.lane import BEGIN_THEMSELVES

STAGE_LIMITS: Final[dict[State, float]] = {
    State.FETCHING_REFS: 300.0,
    State.ENHANCING: 600.0,
    State.GENERATING: 4 * 3600.0,
    State.UPLOADING: 1800.0,
    State.CALLBACK: 300.0,
}
"""Seconds. A stage that takes longer is not renewed: its lease ends, and another worker takes the job up."""


Progress = dict[str, Any]
"""How far an attempt is: step, of and seconds; or doing, in words."""


@dataclass
class _Held:
    job: Job
    until: float
    progress: Progress | None = None


class Held:
    """Thread-safe: lanes take and let go, the heartbeat reads."""

    def __init__(self) -> None:
        self._jobs: dict[str, _Held] = {}
        self._lock = threading.Lock()

    def keep(self, job: Job, *, monotonic: float) -> None:
        """The job as it now stands; its stage's time limit begins when the stage changes or the device takes it up.

        A thread that is late with an older token changes nothing: this worker may have claimed the job anew.
        """
        with self._lock:
            known = self._jobs.get(job.id)
            if known is None or (known.job.token <= job.token and _at(known.job) != _at(job)):
                self._jobs[job.id] = _Held(job, _until(job, monotonic))
            elif known.job.token <= job.token:
                known.job = job

    def begin(self, job: Job, *, monotonic: float) -> None:
        """An attempt begins: the time that it waited in this worker does not count."""
        with self._lock:
            known = self._jobs.get(job.id)
            if known is None or known.job.token <= job.token:
                self._jobs[job.id] = _Held(job, _until(job, monotonic))

    def release(self, job: Job) -> None:
        """Not ours any more, under this token. Safe to call twice."""
        with self._lock:
            known = self._jobs.get(job.id)
            if known is not None and known.job.token <= job.token:
                del self._jobs[job.id]

    def progress(self, job_id: str, progress: Progress) -> None:
        """How far the attempt is, for the next heartbeat."""
        with self._lock:
            if job_id in self._jobs:
                self._jobs[job_id].progress = progress

    def renewable(self, *, monotonic: float) -> dict[str, tuple[int, str | None]]:
        """Job id → token and progress of those whose stage is within its time limit."""
        with self._lock:
            return {
                job_id: (held.job.token, None if held.progress is None else json.dumps(held.progress))
                for job_id, held in self._jobs.items()
                if monotonic <= held.until
            }

    def in_work(self) -> list[tuple[Job, Progress | None]]:
        """What is held, and how far each is."""
        with self._lock:
            return [(held.job, held.progress) for held in self._jobs.values()]

    def jobs(self) -> list[Job]:
        """What is held."""
        with self._lock:
            return [held.job for held in self._jobs.values()]


def _waits(job: Job) -> bool:
    """It lies before the device, which may have a whole video of another to end first."""
    return job.state in BEGIN_THEMSELVES and job.open_attempt is None


def _at(job: Job) -> tuple[State, bool]:
    return job.state, _waits(job)


def _until(job: Job, monotonic: float) -> float:
    return monotonic + (STAGE_LIMITS[State.GENERATING] if _waits(job) else STAGE_LIMITS.get(job.state, 300.0))
