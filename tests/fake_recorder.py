"""A fake of `workers.tools.Recorder`: the store in memory, with the real decisions and the real fold."""

from typing import Any

import msgspec

from statemachine import decisions
from statemachine import events as e
from statemachine.errors import FencedOut
from statemachine.evolve import evolve, target
from statemachine.job import Job, Stored
from statemachine.machine import judge
from tests.fakes import Effect, FakeClock, around, nothing
from workers.spool import sha256


class FakeRecorder:
    """The store in memory: events are judged and folded by the real state machine, leases are tokens.

    As the real one, it writes behind what an operator wrote in between, and raises FencedOut under an old token.
    """

    def __init__(self, clock: FakeClock, effect: Effect = nothing, *, lease_seconds: float = 30.0) -> None:
        self.jobs: dict[str, Job] = {}
        self.history: dict[str, list[Stored]] = {}
        self.contents: dict[str, dict[str, Any]] = {}
        self.progressed: list[dict[str, Any]] = []
        self._clock = clock
        self._effect = effect
        self._lease_seconds = lease_seconds

    def admit(self, job_id: str, events: list[e.Event], content: dict[str, Any] | None = None) -> Job:
        """A new job, as ingress writes it."""
        self.jobs[job_id], self.history[job_id] = Job(id=job_id), []
        self.contents[job_id] = dict(content or {})
        return self.write(job_id, *events)

    def claim(self, job_id: str, *, worker: str = "w1", version: str = "1.2.3") -> Job:
        """Give the lease to `worker`, whoever had it before."""
        job = self.jobs[job_id]
        return self.write(job_id, *decisions.claim(job, worker=worker, host="host", device="cpu", version=version))

    def write(self, job_id: str, *events: e.Event) -> Job:
        """Append as an operator or the supervisor does: under no lease, and through no hook."""
        job, rows = self.jobs[job_id], []
        for event in events:
            stored = self._sealed(job, event)
            job = evolve(job, stored)
            rows.append(stored)
        self.history[job_id] += rows
        self.jobs[job_id] = job
        return job

    def record(self, job: Job, events: list[e.Event], *, personal: dict[str, Any] | None = None) -> Job:
        with around(self._effect, "recorder.record"):
            self._check(job)
            known = self.jobs[job.id]
            after = self.write(job.id, *(events if known.version == job.version else decisions.rejudged(known, events)))
            if personal is not None:
                self.contents[job.id] |= personal
        return after

    def renew(self, job: Job) -> float:
        with around(self._effect, "recorder.renew"):
            self._check(job)
        return self._lease_seconds

    def content(self, job: Job) -> dict[str, Any]:
        return dict(self.contents[job.id])

    def progress(self, job: Job, progress: dict[str, Any]) -> None:
        self.progressed.append(progress)

    def kinds(self, job_id: str) -> list[str]:
        """The kinds of the job's events, in order."""
        return [stored.kind for stored in self.history[job_id]]

    def _check(self, job: Job) -> None:
        found = self.jobs[job.id].token
        if found != job.token:
            raise FencedOut(job.id, job.token, found)

    def _sealed(self, job: Job, event: e.Event) -> Stored:
        to = target(job, event)
        judge(job.id, event.kind, job.state, to)
        data = msgspec.json.encode(event).decode()
        attempt = event.attempt if isinstance(event, e.StageStarted) else None
        if attempt is None and job.open_attempt is not None:
            attempt = job.open_attempt.attempt
        return Stored(
            job_id=job.id,
            version=job.version + 1,
            kind=event.kind,
            from_state=job.state,
            to_state=to,
            run=event.run if isinstance(event, e.Requeued) else job.run,
            stage=str(job.state),
            attempt=attempt,
            worker_id=event.worker if isinstance(event, e.Claimed) else job.worker_id,
            at=self._clock.now(),
            data=data,
            digest=sha256(f"{job.digest}{event.kind}{data}".encode()),
            event=event,
        )
