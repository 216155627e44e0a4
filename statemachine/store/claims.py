"""Claims, leases and heartbeats."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec
from sqlalchemy import ColumnElement, Connection, Integer, Select, and_, bindparam, func, or_, select, update

from statemachine import decisions
from statemachine.job import Job, Stored
from statemachine.states import State
from statemachine.store.append import append, prepare
from statemachine.store.codec import replay, stored
from statemachine.store.projections import upsert
from statemachine.store.schema import Utc, job_events, job_leases, jobs, queues


class Claimant(msgspec.Struct, frozen=True, kw_only=True):
    """Who claims, and what it can do."""

    worker_id: str
    host: str
    device: str
    job_types: Sequence[str]
    lease_seconds: float


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds a job at the moment, and until when."""

    job_id: str
    worker_id: str
    token: int
    expires_at: datetime | None
    renewed_at: datetime | None


_PAUSED: Final = select(queues.c.name).where(queues.c.paused_at.is_not(None))
_FREE: Final = and_(
    jobs.c.finished_at.is_(None),
    jobs.c.worker_id.is_(None),
    or_(jobs.c.resume_at.is_(None), jobs.c.resume_at <= bindparam("now", type_=Utc)),
    jobs.c.queue.not_in(_PAUSED),
)
_TOLD: Final = jobs.c.state == State.CALLBACK.value


def _in_order(which: ColumnElement[bool]) -> Select[str]:
    """Built once: making and hashing such a statement costs more than running it."""
    order = (jobs.c.priority.desc(), jobs.c.turn, jobs.c.queued_at)
    return select(jobs.c.id).where(_FREE, which).order_by(*order).limit(bindparam("limit", type_=Integer))


_DRAWING: Final = _in_order(and_(~_TOLD, jobs.c.job_type.in_(bindparam("types", expanding=True))))
_TELLING: Final = _in_order(_TOLD)
_LOCK_DRAWING: Final = _DRAWING.with_for_update(skip_locked=True, of=jobs)
_LOCK_TELLING: Final = _TELLING.with_for_update(skip_locked=True, of=jobs)


def any_due(connection: Connection, who: Claimant, *, now: datetime) -> bool:
    """Is there anything for `who`? Takes no lock."""
    asked = {"now": now, "types": list(who.job_types), "limit": 1}
    return any(connection.scalar(statement, asked) is not None for statement in (_DRAWING, _TELLING))


def claim(connection: Connection, who: Claimant, *, drawing: int, telling: int, now: datetime) -> list[Job]:
    """Lease due jobs to `who`, in the order: priority, round-robin over users, age.

    Up to `drawing` of the types that it can make; and up to `telling` of which only the callback is left: they need
    no model, so every worker may take any.

    On PostgreSQL several claimants pass each other by SKIP LOCKED; on SQLite the transaction is immediate.
    """
    chosen: list[str] = []
    for statement, limit in ((_LOCK_DRAWING, drawing), (_LOCK_TELLING, telling)):
        if limit > 0:
            chosen += connection.scalars(statement, {"now": now, "types": list(who.job_types), "limit": limit})
    if not chosen:
        return []
    held = load_many(connection, chosen)
    group = [
        prepare(
            held[job_id],
            decisions.claim(held[job_id], worker=who.worker_id, host=who.host, device=who.device),
            worker_id=who.worker_id,
            at=now,
        )
        for job_id in chosen
    ]
    claimed = [job for job in append(connection, group) if isinstance(job, Job)]
    until = now + timedelta(seconds=who.lease_seconds)
    upsert(
        connection,
        job_leases,
        [
            {
                "job_id": job.id,
                "worker_id": who.worker_id,
                "token": job.token,
                "expires_at": until,
                "renewed_at": now,
                "spool_host": who.host,
                "progress": None,
                "progress_at": None,
            }
            for job in claimed
        ],
    )
    return claimed


def renew(
    connection: Connection,
    worker_id: str,
    held: Mapping[str, tuple[int, str | None]],
    *,
    until: datetime,
    now: datetime,
) -> set[str]:
    """Extend the worker's leases in `held` (job id → token, progress as JSON) and return the ids still held."""
    kept: set[str] = set()
    for job_id, (token, progress) in sorted(held.items()):
        statement = (
            update(job_leases)
            .where(job_leases.c.job_id == job_id, job_leases.c.worker_id == worker_id, job_leases.c.token == token)
            .values(
                expires_at=until,
                renewed_at=now,
                progress=progress,
                progress_at=now if progress is not None else job_leases.c.progress_at,
            )
            .returning(job_leases.c.job_id)
        )
        kept.update(connection.scalars(statement))
    return kept


def held_by_anyone(connection: Connection) -> list[Lease]:
    """Every job that somebody holds, with its lease; a job whose lease row is missing has no expiry."""
    rows = connection.execute(
        select(jobs.c.id, jobs.c.worker_id, jobs.c.token, job_leases.c.expires_at, job_leases.c.renewed_at)
        .select_from(
            jobs.outerjoin(job_leases, and_(job_leases.c.job_id == jobs.c.id, job_leases.c.token == jobs.c.token))
        )
        .where(jobs.c.finished_at.is_(None), jobs.c.worker_id.is_not(None))
    )
    return [
        Lease(job_id=r.id, worker_id=r.worker_id, token=r.token, expires_at=r.expires_at, renewed_at=r.renewed_at)
        for r in rows
    ]


def next_due(connection: Connection, *, now: datetime) -> datetime | None:
    """When the earliest of the waiting retries is due."""
    earliest: datetime | None = connection.scalar(
        select(func.min(jobs.c.resume_at)).where(
            jobs.c.finished_at.is_(None), jobs.c.worker_id.is_(None), jobs.c.resume_at > now
        )
    )
    return earliest


_HISTORIES: Final = (
    select(job_events)
    .where(job_events.c.job_id.in_(bindparam("ids", expanding=True)))
    .order_by(job_events.c.job_id, job_events.c.version)
)


def load_many(connection: Connection, job_ids: Iterable[str]) -> dict[str, Job]:
    """Replay the given jobs from their events."""
    histories: dict[str, list[Stored]] = {job_id: [] for job_id in job_ids}
    for row in connection.execute(_HISTORIES, {"ids": list(histories)}):
        histories[row.job_id].append(stored(row))
    return {job_id: replay(job_id, history) for job_id, history in histories.items()}
