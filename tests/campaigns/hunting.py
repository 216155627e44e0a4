"""SIGKILL at a chosen step of a chosen job: the engine process that draws it, or its whole worker.

The engine is stopped first (SIGSTOP), until its worker has written down all that it had said. So what dies has made a
known number of steps, and one that turns out to be elsewhere is let go on unharmed.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

import psutil
from sqlalchemy import Connection, func, select

from statemachine.store import EventStore
from statemachine.store.reading import lease
from statemachine.store.schema import job_assets, job_events, jobs, workers
from tests.campaigns.service import CampaignFailed, wait_until

When = Literal["early", "middle", "last"]
Victim = Literal["engine", "worker"]
QUIET_SECONDS: Final = 30.0


@dataclass(frozen=True)
class Aim:
    """When a job's engine is to die, and whether its worker dies with it."""

    when: When
    victim: Victim

    def window(self, of: int) -> range:
        """The steps at which a kill counts. At the last one: it is in work, or just made and not decoded yet."""
        third = of // 3
        match self.when:
            case "early":
                return range(1, third + 1)
            case "middle":
                return range(third + 1, of - third)
            case "last":
                return range(of - 1, of + 1)

    def raised_at(self, of: int) -> int:
        """The checkpoint at which to look closer: a few steps are made until the engine stands still."""
        return {"early": 1, "middle": of // 2 - 1, "last": of - 3}[self.when]


@dataclass(frozen=True)
class Kill:
    """What died: an engine that had made `step` of `of` steps, `kept` of them in the history's last checkpoint.

    `version` is the job's at that time.
    """

    job_id: str
    victim: Victim
    step: int
    of: int
    kept: int
    version: int

    @property
    def repeated(self) -> int:
        """Steps that were made and have to be made again. The one in work is not among them."""
        return self.step - self.kept


def shoot(store: EventStore, job_id: str, aim: Aim) -> Kill | None:
    """Kill if the job is where it is to be killed; None where it is not, or not yet, or not any more."""
    with store.read() as connection:
        told = _checkpoint(connection, job_id)
        if told is None or told[0] < aim.raised_at(told[1]):
            return None
        at = connection.execute(
            select(workers.c.pid, workers.c.engine_pid).where(
                workers.c.worker_id == select(jobs.c.worker_id).where(jobs.c.id == job_id).scalar_subquery()
            )
        ).one_or_none()
    if at is None or at.engine_pid is None:
        return None
    try:
        worker, engine = psutil.Process(at.pid), psutil.Process(at.engine_pid)
        engine.suspend()
    except psutil.NoSuchProcess:
        return None  # the row tells of an engine that is gone
    kill = None
    try:
        kill = _standing(store, job_id, aim)
    finally:
        if kill is None:
            engine.resume()
    if kill is not None:
        for process in (worker, engine) if aim.victim == "worker" else (engine,):
            process.kill()
    return kill


def _standing(store: EventStore, job_id: str, aim: Aim) -> Kill | None:
    """How far the job is, its engine standing still; None when it is not where it is aimed at."""
    renewals: list[datetime] = []
    found: Kill | None = None

    def heard() -> bool:
        """The renewal after the next one: what was in the pipe when the engine was stopped is in the history then."""
        nonlocal found
        with store.read() as connection:
            row, kept = lease(connection, job_id), _checkpoint(connection, job_id)
            state, version = connection.execute(select(jobs.c.state, jobs.c.version).where(jobs.c.id == job_id)).one()
            drawn = connection.scalar(select(func.count()).where(job_assets.c.job_id == job_id))
        if row is None or row["worker_id"] is None or kept is None or state != "generating" or drawn:
            found = None
            return True
        progress = row["progress"] or {}
        # Behind the last step it says that it decodes, and no number.
        found = Kill(job_id, aim.victim, progress.get("step", kept[1]), kept[1], kept[0], version)
        if row["renewed_at"] not in renewals:
            renewals.append(row["renewed_at"])
        return len(renewals) > 2

    if wait_until(heard, QUIET_SECONDS) is None:
        raise CampaignFailed(f"the lease of job {job_id} was not renewed twice within {QUIET_SECONDS:g} s")
    return found if found is not None and found.step in aim.window(found.of) else None


def _checkpoint(connection: Connection, job_id: str) -> tuple[int, int] | None:
    """Step and number of steps of the last one in the history."""
    query = select(job_events.c.data).where(job_events.c.job_id == job_id, job_events.c.kind == "checkpointed")
    data = connection.scalar(query.order_by(job_events.c.version.desc()).limit(1))
    if data is None:
        return None
    told = json.loads(data)
    return told["step"], told["of"]
