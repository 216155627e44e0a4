"""Appending: many jobs' events in one transaction, each job's all or none."""

import json
from datetime import datetime
from functools import cache
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Dialect, Integer, Text, TextClause, bindparam, select, text, update
from sqlalchemy.types import TypeEngine

from statemachine.errors import Conflict, FencedOut, Forked, StaleJob
from statemachine.events import Event
from statemachine.job import Job, Stored
from statemachine.store.codec import canonical, seal_all
from statemachine.store.projections import IMMUTABLE, job_row, upsert, write_details
from statemachine.store.rolling import touch
from statemachine.store.schema import Row, job_events, job_leases, job_payloads, jobs, rejected_writes

GROUP: Final = 200
"""Jobs in one UPDATE. SQLite takes 32,766 variables in a statement."""
MOVING: Final = tuple(column.name for column in jobs.c if column.name not in IMMUTABLE)


class Sealed(msgspec.Struct, frozen=True, kw_only=True):
    """Events that are ready to be written behind `before`. Sealed once: a retry writes the same bytes."""

    before: Job
    after: Job
    rows: list[Stored]
    worker_id: str | None
    at: datetime
    personal: dict[str, Any] | None = None


def prepare(
    job: Job,
    events: list[Event],
    *,
    worker_id: str | None,
    at: datetime,
    personal: dict[str, Any] | None = None,
) -> Sealed:
    """Judge and seal `events`. Raises IllegalEvent, and ValueError where there are none; touches no database."""
    if not events:
        raise ValueError(f"job {job.id}: expected events to append behind version {job.version}, got none")
    rows, after = seal_all(job, events, worker_id=worker_id, at=at)
    return Sealed(before=job, after=after, rows=rows, worker_id=worker_id, at=at, personal=personal)


def append(connection: Connection, group: list[Sealed]) -> list[Job | Conflict]:
    """Write each of `group` right after the version and under the token that it names, or nothing of it.

    Returns, in order, the job as it now stands, or StaleJob (another writer was first: reload and judge again) or
    FencedOut (final; a row in `rejected_writes` tells of it). A write that is already there, because a commit's
    acknowledgement was lost, is a success. The caller owns the transaction; jobs in a group are distinct.
    """
    ordered = sorted(
        group, key=lambda sealed: sealed.before.id
    )  # PostgreSQL locks mostly in this order, and tells who loses a deadlock to try again
    won = _move(connection, ordered)
    winners = [sealed for sealed in ordered if sealed.before.id in won]
    if winners:
        write_events(connection, [row for sealed in winners for row in sealed.rows])
        write_details(connection, [(sealed.before, sealed.after) for sealed in winners])
        requeued = [s.before.finished_at for s in winners if s.before.finished_at and not s.after.finished_at]
        if requeued:
            touch(connection, requeued)  # they ended on that day no longer
        _follow_leases(connection, winners)
        for sealed in winners:
            if sealed.personal is not None:
                _merge_personal(connection, sealed.before.id, sealed.personal)
    results: dict[str, Job | Conflict] = {sealed.before.id: sealed.after for sealed in winners}
    for sealed in ordered:
        if sealed.before.id not in won:
            results[sealed.before.id] = _judge_loser(connection, sealed)
    return [results[sealed.before.id] for sealed in group]


def write_events(connection: Connection, rows: list[Stored]) -> None:
    """Insert the rows as they are. Projections that are written with them are of the same moments."""
    connection.execute(job_events.insert(), [event_row(row) for row in rows])
    touch(connection, {row.at for row in rows})


def event_row(row: Stored) -> Row:
    """The event's row in `job_events`, without its position."""
    return {
        "job_id": row.job_id,
        "version": row.version,
        "kind": row.kind,
        "from_state": None if row.from_state is None else row.from_state.value,
        "to_state": row.to_state.value,
        "run": row.run,
        "stage": row.stage,
        "attempt": row.attempt,
        "worker_id": row.worker_id,
        "at": row.at,
        "data": row.data,
        "digest": row.digest,
    }


def _move(connection: Connection, ordered: list[Sealed]) -> set[str]:
    """Compare version, token and digest and write the projection's rows in one UPDATE; return the ids that it found.

    A restored database gives versions and tokens away once more: only the digest says that it is the same history.
    """
    found: set[str] = set()
    for start in range(0, len(ordered), GROUP):
        part = ordered[start : start + GROUP]
        values: Row = {}
        for number, sealed in enumerate(part):
            after = job_row(sealed.after)
            values[f"id_{number}"] = sealed.before.id
            values[f"expected_version_{number}"] = sealed.before.version
            values[f"expected_token_{number}"] = sealed.before.token
            values[f"expected_digest_{number}"] = sealed.before.digest
            values.update({f"{name}_{number}": after[name] for name in MOVING})
        found.update(connection.scalars(_update(len(part), connection.dialect), values))
    return found


@cache
def _update(count: int, dialect: Dialect) -> TextClause:
    """UPDATE … FROM (VALUES …) RETURNING for `count` jobs.

    As text that is made once a size: SQLAlchemy's own VALUES is compiled anew at each call, for 3 ms.
    """
    types: dict[str, TypeEngine[Any]] = {name: jobs.c[name].type for name in MOVING}
    types |= {"id": Text(), "expected_version": Integer(), "expected_token": Integer(), "expected_digest": Text()}
    # A column of nothing but NULLs is text to PostgreSQL, so the first row says what each is.
    typed = dialect.name == "postgresql"
    first = [f"CAST(:{name}_0 AS {kind.compile(dialect)})" if typed else f":{name}_0" for name, kind in types.items()]
    others = [", ".join(f":{name}_{number}" for name in types) for number in range(1, count)]
    rows = ", ".join(f"({row})" for row in [", ".join(first), *others])
    changes = ", ".join(f'"{name}" = fresh."{name}"' for name in MOVING)
    quoted = ", ".join(f'"{name}"' for name in types)
    statement = text(
        f"WITH fresh ({quoted}) AS (VALUES {rows}) UPDATE jobs SET {changes} FROM fresh "  # noqa: S608  # our names
        "WHERE jobs.id = fresh.id AND jobs.version = fresh.expected_version AND jobs.token = fresh.expected_token "
        "AND jobs.digest = fresh.expected_digest RETURNING jobs.id"
    )
    binds = [bindparam(f"{name}_{number}", type_=kind) for number in range(count) for name, kind in types.items()]
    return statement.bindparams(*binds)


def _follow_leases(connection: Connection, winners: list[Sealed]) -> None:
    """A lease ends with the event that ends it, in the same transaction."""
    ended = [s.after.id for s in winners if s.after.state.terminal]
    freed = [s.after for s in winners if not s.after.state.terminal and s.before.worker_id and not s.after.worker_id]
    if ended:
        connection.execute(job_leases.delete().where(job_leases.c.job_id.in_(ended)))
    if freed:
        connection.execute(
            update(job_leases)
            .where(job_leases.c.job_id.in_([job.id for job in freed]))
            .values(worker_id=None, expires_at=None, progress=None, progress_at=None)
        )
    bare = [job.id for job in freed if not job.spooled]
    if bare:  # nobody has to go on where the last holder was
        connection.execute(update(job_leases).where(job_leases.c.job_id.in_(bare)).values(spool_host=None))


def _merge_personal(connection: Connection, job_id: str, personal: dict[str, Any]) -> None:
    known = connection.scalar(select(job_payloads.c.content).where(job_payloads.c.job_id == job_id))
    content = {**(json.loads(known) if known else {}), **personal}
    upsert(connection, job_payloads, [{"job_id": job_id, "content": canonical(content)}])


def _judge_loser(connection: Connection, sealed: Sealed) -> Job | Conflict:
    job, last = sealed.before, sealed.rows[-1]
    if _digest_at(connection, job.id, last.version) == last.digest:
        return sealed.after  # the commit went through, only its acknowledgement was lost
    found = connection.execute(select(jobs.c.version, jobs.c.token).where(jobs.c.id == job.id)).one_or_none()
    conflict = FencedOut(job.id, job.token, None if found is None else found.token)
    if found is not None and found.token == job.token:
        if found.version > job.version and _digest_at(connection, job.id, job.version) == job.digest:
            return StaleJob(job.id, job.version, found.version)
        conflict = Forked(job.id, job.token, job.version)
    connection.execute(
        rejected_writes.insert(),
        {
            "job_id": job.id,
            "worker_id": sealed.worker_id,
            "token": job.token,
            "found_token": None if found is None else found.token,
            "version": job.version,
            "found_version": None if found is None else found.version,
            "kinds": ",".join(row.kind for row in sealed.rows),
            "reason": str(conflict),
            "at": sealed.at,
        },
    )
    return conflict


def _digest_at(connection: Connection, job_id: str, version: int) -> str | None:
    at = select(job_events.c.digest).where(job_events.c.job_id == job_id, job_events.c.version == version)
    return connection.scalar(at)
