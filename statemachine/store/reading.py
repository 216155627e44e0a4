"""Read-only queries for people: lists, leases, workers, dead letters, places in the queue. Both databases."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import Column, ColumnElement, Connection, ScalarSelect, Select, and_, exists, func, or_, select

from statemachine.errors import UnknownJob
from statemachine.store.archived import not_here
from statemachine.store.schema import (
    Row,
    dead_letters,
    job_attempts,
    job_leases,
    job_payloads,
    jobs,
    queues,
    rejected_writes,
    workers,
)

SHOWN: Final = 4
"""So many jobs are named where a prefix fits several."""


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which jobs to list. Times bound `queued_at`; `error` is looked for in type and message, in any case of ASCII.

    `error_class` is that of the job or of any attempt of it; `worker` begins the id of whoever had any attempt of it.
    """

    states: Sequence[str] = ()
    job_type: str | None = None
    user_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    error: str | None = None
    error_class: str | None = None
    worker: str | None = None
    limit: int | None = 50


FAR: Final = 1000
"""Of what is before a job no more is counted, of each kind, than tells that it is more than this."""


class Ahead(msgspec.Struct, frozen=True, kw_only=True):
    """How many jobs are before one: of a higher priority, with an earlier turn of their users, or only older.

    Each is at most one more than `FAR`, which then says that there are more.
    """

    priority: int = 0
    turn: int = 0
    older: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.priority + self.turn + self.older


def resolve(connection: Connection, prefix: str) -> str:
    """The one job whose id begins with `prefix`. Raises UnknownJob when there is none, or more than one.

    One that was archived answers only where none that is here does, and by ArchivedJob.
    """
    start = prefix.strip().lower()
    if not re.fullmatch(r"[0-9a-f-]{1,36}", start):
        raise UnknownJob(f"{prefix!r} is no job id: wanted a UUID or its first characters")
    query = select(jobs.c.id).where(jobs.c.id >= start, jobs.c.id <= start + "~").order_by(jobs.c.id)
    found = [row.id for row in connection.execute(query.limit(SHOWN + 1))]
    if len(found) == 1 or start in found:
        return start if start in found else str(found[0])
    if not found:
        raise not_here(connection, start, whole=len(start) == 36)
    named = ", ".join(found[:SHOWN]) + (" and others" if len(found) > SHOWN else "")
    raise UnknownJob(f"{start} fits more than one job: {named}")


def list_jobs(connection: Connection, wanted: Filter) -> list[Row]:
    """Rows of `jobs` with `progress`, the newest first."""
    return _jobs(connection, fitting(_with_progress(), wanted))


def list_ids(connection: Connection, wanted: Filter) -> list[str]:
    """The ids of the jobs that `list_jobs` gives, in its order."""
    return list(connection.scalars(fitting(select(jobs.c.id), wanted)))


def fitting(query: Select[Any], wanted: Filter) -> Select[Any]:
    """`query`, which selects from `jobs`, narrowed to what is wanted, the newest first."""
    query = query.order_by(jobs.c.queued_at.desc(), jobs.c.id).limit(wanted.limit)
    if wanted.states:
        query = query.where(jobs.c.state.in_(wanted.states))
    if wanted.job_type is not None:
        query = query.where(jobs.c.job_type == wanted.job_type)
    if wanted.user_id is not None:
        query = query.where(jobs.c.user_id == wanted.user_id)
    if wanted.since is not None:
        query = query.where(jobs.c.queued_at >= wanted.since)
    if wanted.until is not None:
        query = query.where(jobs.c.queued_at < wanted.until)
    if wanted.error is not None:
        query = query.where(or_(*(_says(text, wanted.error) for text in (jobs.c.error_type, jobs.c.error_message))))
    if wanted.error_class is not None:
        met = _any_attempt(job_attempts.c.error_class == wanted.error_class)
        query = query.where(or_(jobs.c.error_class == wanted.error_class, met))
    if wanted.worker is not None:
        begins = func.substr(job_attempts.c.worker_id, 1, len(wanted.worker)) == wanted.worker
        query = query.where(_any_attempt(begins))
    return query


def _says(text: Column[str], part: str) -> ColumnElement[bool]:
    """SQLite, and PostgreSQL in some locales, know the two cases of ASCII only: other letters are found as written."""
    return or_(func.lower(text).contains(part.lower(), autoescape=True), text.contains(part, autoescape=True))


def _any_attempt(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """By the key of `job_attempts`, job by job as they are looked at: there is no index that would have to be kept."""
    return exists().where(job_attempts.c.job_id == jobs.c.id, condition)


def jobs_by_id(connection: Connection, job_ids: Sequence[str]) -> list[Row]:
    """Rows of `jobs` with `progress`, in the order of their queueing."""
    return _jobs(connection, _with_progress().where(jobs.c.id.in_(job_ids)).order_by(jobs.c.queued_at, jobs.c.id))


def live_jobs(connection: Connection, limit: int) -> list[Row]:
    """Jobs that are not finished, those in work first, then the oldest."""
    query = _with_progress().where(jobs.c.finished_at.is_(None))
    order = (jobs.c.worker_id.is_(None), jobs.c.priority.desc(), jobs.c.turn, jobs.c.queued_at)
    return _jobs(connection, query.order_by(*order).limit(limit))


def unwanted(connection: Connection, job_ids: Sequence[str]) -> dict[str, int]:
    """Job id → token of those whose end was asked for while nothing was decided yet."""
    query = select(jobs.c.id, jobs.c.token).where(
        jobs.c.id.in_(job_ids), jobs.c.cancel_requested, jobs.c.outcome.is_(None)
    )
    return {row.id: row.token for row in connection.execute(query)}


def counts(connection: Connection) -> dict[str, int]:
    """State → number of jobs."""
    query = select(jobs.c.state, func.count().label("number")).group_by(jobs.c.state)
    return {row.state: row.number for row in connection.execute(query)}


def ahead(connection: Connection, job_id: str, now: datetime) -> Ahead | None:
    """The jobs that are due, need the same model, and are claimed before this one; None when it does not wait."""
    mine = connection.execute(select(jobs).where(jobs.c.id == job_id)).one_or_none()
    if mine is None or mine.finished_at is not None or mine.worker_id is not None:
        return None
    equal = jobs.c.priority == mine.priority
    reasons = {
        "priority": jobs.c.priority > mine.priority,
        "turn": and_(equal, jobs.c.turn < mine.turn),
        "older": and_(equal, jobs.c.turn == mine.turn, jobs.c.queued_at < mine.queued_at),
    }
    waiting = and_(
        jobs.c.finished_at.is_(None),
        jobs.c.worker_id.is_(None),
        or_(jobs.c.resume_at.is_(None), jobs.c.resume_at <= now),
        jobs.c.model == mine.model if mine.model is not None else jobs.c.model.is_(None),
    )

    def counted(which: ColumnElement[bool]) -> ScalarSelect[int]:
        """A range of the order in which jobs are claimed, and thus of its index."""
        found = select(jobs.c.id).where(waiting, which).limit(FAR + 1).subquery()
        return select(func.count()).select_from(found).scalar_subquery()

    query = select(*(counted(which).label(name) for name, which in reasons.items()))
    return Ahead(**connection.execute(query).mappings().one())


def lease(connection: Connection, job_id: str) -> Row | None:
    """The job's row of `job_leases`, `progress` decoded."""
    row = connection.execute(select(job_leases).where(job_leases.c.job_id == job_id)).mappings().one_or_none()
    return None if row is None else {**row, "progress": _progress(row["progress"])}


def personal(connection: Connection, job_id: str) -> tuple[bytes | None, str | None]:
    """The payload as it came, and the content as JSON; None for what was erased or never there."""
    query = select(job_payloads.c.raw, job_payloads.c.content).where(job_payloads.c.job_id == job_id)
    row = connection.execute(query).one_or_none()
    return (None, None) if row is None else (None if row.raw is None else bytes(row.raw), row.content)


def rejected(connection: Connection, job_id: str) -> list[Row]:
    """Writes of this job that were refused, oldest first."""
    query = select(rejected_writes).where(rejected_writes.c.job_id == job_id).order_by(rejected_writes.c.id)
    return [dict(row) for row in connection.execute(query).mappings()]


def list_workers(connection: Connection) -> list[Row]:
    """Rows of `workers`, the latest heard first; lists in them decoded, `jobs` the ids they hold."""
    held: dict[str, list[str]] = {}
    holding = select(jobs.c.worker_id, jobs.c.id).where(jobs.c.finished_at.is_(None), jobs.c.worker_id.is_not(None))
    for worker_id, job_id in connection.execute(holding):
        held.setdefault(worker_id, []).append(job_id)
    query = select(workers).order_by(workers.c.last_seen_at.desc(), workers.c.worker_id)
    return [
        {
            **row,
            "models": _names(row["models"]),
            "job_types": _names(row["job_types"]),
            "resident": _names(row["resident"] or "[]"),
            "jobs": held.get(row["worker_id"], []),
        }
        for row in connection.execute(query).mappings()
    ]


def paused_queue(connection: Connection, name: str) -> Row | None:
    """The row of a queue that is paused, or None."""
    query = select(queues).where(queues.c.name == name, queues.c.paused_at.is_not(None))
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else dict(row)


def list_dead_letters(connection: Connection, *, limit: int, waiting_only: bool = False) -> list[Row]:
    """Rows of `dead_letters`, the newest first."""
    query = select(dead_letters).order_by(dead_letters.c.id.desc()).limit(limit)
    if waiting_only:
        query = query.where(dead_letters.c.requeued_at.is_(None))
    return [dict(row) for row in connection.execute(query).mappings()]


def dead_letter(connection: Connection, letter_id: int) -> Row | None:
    """One row of `dead_letters`."""
    row = connection.execute(select(dead_letters).where(dead_letters.c.id == letter_id)).mappings().one_or_none()
    return None if row is None else dict(row)


def _with_progress() -> Select[Any]:
    return select(jobs, job_leases.c.progress).select_from(jobs.outerjoin(job_leases, job_leases.c.job_id == jobs.c.id))


def _jobs(connection: Connection, query: Select[Any]) -> list[Row]:
    return [{**row, "progress": _progress(row["progress"])} for row in connection.execute(query).mappings()]


def _progress(text: str | None) -> dict[str, Any] | None:
    if not text:
        return None
    try:
        decoded = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return {"doing": text}
    return decoded if isinstance(decoded, dict) else {"doing": str(decoded)}


def _names(text: str) -> list[str]:
    """A JSON list or object, or names with commas between them."""
    try:
        decoded = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return [name.strip() for name in text.split(",") if name.strip()]
    return [str(name) for name in decoded] if isinstance(decoded, list | dict) else [str(decoded)]
