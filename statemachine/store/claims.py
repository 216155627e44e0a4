"""Claims, leases and heartbeats."""

from collections.abc import Iterable, Mapping, Sequence, Set
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, Integer, Select, and_, bindparam, case, not_, or_, select, update

from statemachine import decisions
from statemachine.errors import IllegalEvent, UnreadableHistory
from statemachine.job import Job, Stored
from statemachine.states import State
from statemachine.store.affinity import LOOK_AHEAD, Affinity, Due, loaded_after
from statemachine.store.append import Sealed, append, prepare
from statemachine.store.codec import replay, stored
from statemachine.store.projections import upsert
from statemachine.store.schema import Utc, job_events, job_leases, jobs, queues
from statemachine.store.spools import KEPT


class Claimant(msgspec.Struct, frozen=True, kw_only=True):
    """Who claims, and what it can do.

    `spool` is the name of the spool in which it works; a job whose files another one has is left to that one for
    `grace_seconds`, see `spools.KEPT`. `resident` are the model variants that are loaded; whether their jobs may go
    first is said by an `Affinity`.
    """

    worker_id: str
    host: str
    spool: str
    device: str
    job_types: Sequence[str]
    lease_seconds: float
    grace_seconds: float
    resident: Sequence[str] = ()
    empty_handed: bool = True
    version: str | None = None

    def asks(self, now: datetime, passed_over: Iterable[str]) -> dict[str, Any]:
        """What a claim at `now` is bound to, beside its limit."""
        since = now - timedelta(seconds=self.grace_seconds)
        types, left = list(self.job_types), list(passed_over)
        return {"now": now, "since": since, "spool": self.spool, "types": types, "passed_over": left}


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
    jobs.c.id.not_in(bindparam("passed_over", expanding=True)),
)
_TOLD: Final = jobs.c.state == State.CALLBACK.value
_TO_DRAW: Final = and_(
    ~_TOLD,
    jobs.c.queue.not_in(_PAUSED),
    jobs.c.job_type.in_(bindparam("types", expanding=True)),
    not_(KEPT),
)


def _in_order(which: ColumnElement[bool], *columns: ColumnElement[Any]) -> Select[Any]:
    """Built once: making and hashing such a statement costs more than running it."""
    order = (jobs.c.priority.desc(), jobs.c.turn, jobs.c.queued_at)
    return select(jobs.c.id, *columns).where(_FREE, which).order_by(*order).limit(bindparam("limit", type_=Integer))


_DRAWING: Final = _in_order(_TO_DRAW)
_TELLING: Final = _in_order(_TOLD)
_LOCK_DRAWING: Final = _DRAWING.with_for_update(skip_locked=True, of=jobs)
_LOCK_TELLING: Final = _TELLING.with_for_update(skip_locked=True, of=jobs)
_NEEDED_MODEL: Final = case((jobs.c.state != State.UPLOADING.value, jobs.c.model), else_=None)
_AHEAD: Final = _in_order(_TO_DRAW, _NEEDED_MODEL, jobs.c.priority)
_LOCK_THESE: Final = (
    select(jobs.c.id)
    .where(_FREE, _TO_DRAW, jobs.c.id.in_(bindparam("ids", expanding=True)))
    .with_for_update(skip_locked=True, of=jobs)
)


def any_due(connection: Connection, who: Claimant, *, now: datetime, passed_over: Iterable[str]) -> bool:
    """Is there anything for `who`? Takes no lock."""
    asked = {**who.asks(now, passed_over), "limit": 1}
    return any(connection.scalar(statement, asked) is not None for statement in (_DRAWING, _TELLING))


def claim(
    connection: Connection,
    who: Claimant,
    *,
    drawing: int,
    telling: int,
    now: datetime,
    passed_over: dict[str, str],
    affinity: Affinity | None = None,
) -> list[Job]:
    """Lease due jobs to `who`, in the order: priority, round-robin over users, age; resident models by `affinity`.

    Up to `drawing` of the types that it can make; and up to `telling` of which only the callback is left: they need
    no model, so every worker may take any. Jobs in `passed_over` (id → why) are left where they are; those that
    cannot be claimed for what their history says are added to it. One that is on trial is claimed alone, by who is
    empty-handed; anybody else leaves the device to it and takes nothing to draw that stands behind it.

    On PostgreSQL several claimants pass each other by SKIP LOCKED; on SQLite the transaction is immediate.
    """
    chosen: list[str] = []
    if affinity is not None and affinity.window > 0 and who.resident:
        chosen += _choose(connection, who, affinity, drawing, now=now, passed_over=passed_over)
        drawing = 0
    for statement, limit in ((_LOCK_DRAWING, drawing), (_LOCK_TELLING, telling)):
        if limit > 0:
            chosen += connection.scalars(statement, {**who.asks(now, passed_over), "limit": limit})
    group: list[Sealed] = []
    leaving = False
    for job_id in chosen:
        # One history that cannot be read, or that is not what its row says, must not keep all others from their turn.
        try:
            job = load_many(connection, [job_id])[job_id]
            on_trial = decisions.on_trial(job)
            leaving = leaving or (on_trial and (bool(group) or not who.empty_handed))
            if leaving and (on_trial or job.state is not State.CALLBACK):
                continue
            events = decisions.claim(job, worker=who.worker_id, host=who.host, device=who.device, version=who.version)
            group.append(prepare(job, events, worker_id=who.worker_id, at=now))
            if on_trial:
                break
        except (UnreadableHistory, IllegalEvent) as error:
            passed_over[job_id] = str(error)
    if not group:
        return []
    claimed: list[Job] = []
    for sealed, result in zip(group, append(connection, group), strict=True):
        if isinstance(result, Job):
            claimed.append(result)
        else:
            passed_over[sealed.before.id] = str(result)  # under our lock: the row is not what its history says
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
                "spool_host": who.spool,
                "progress": None,
                "progress_at": None,
            }
            for job in claimed
        ],
    )
    return claimed


def _choose(
    connection: Connection,
    who: Claimant,
    affinity: Affinity,
    count: int,
    *,
    now: datetime,
    passed_over: Iterable[str],
) -> list[str]:
    """Lock the next `count` jobs by affinity. Only what is taken is locked: the others stay there for everybody."""
    chosen: list[str] = []
    seen = list(passed_over)
    resident: Set[str] = frozenset(who.resident)
    while len(chosen) < count:
        asked = who.asks(now, seen)
        due = [Due(*row) for row in connection.execute(_AHEAD, {**asked, "limit": LOOK_AHEAD})]
        wanted = affinity.prefer(due, resident, count=count - len(chosen))
        ids = [job.id for job in wanted]
        locked = set(connection.scalars(_LOCK_THESE, {**asked, "ids": ids}))
        chosen += [job_id for job_id in ids if job_id in locked]
        affinity.took(due, [job for job in wanted if job.id in locked])
        if len(locked) == len(ids):
            break
        resident = loaded_after(resident, [job.model for job in wanted if job.id in locked])
        seen += ids  # some are being taken by another claimant: look past them
    return chosen


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


def free(connection: Connection, lease: Lease) -> bool:
    """End a lease that was not renewed since it was seen. False: it was, and its holder has been told so.

    The holder's renewal and this write the same row, so of the two one comes first and the other finds it changed.
    """
    if lease.renewed_at is None:
        return True  # no row to renew: there is nothing that its holder could have been told
    ended = connection.execute(
        update(job_leases)
        .where(
            job_leases.c.job_id == lease.job_id,
            job_leases.c.token == lease.token,
            job_leases.c.renewed_at == lease.renewed_at,
        )
        .values(worker_id=None, expires_at=None)
    )
    return ended.rowcount == 1


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
