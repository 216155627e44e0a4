"""Retention: which jobs are old enough to go, and their removal through the one door.

A job goes whole or not at all, and only if whoever archived it hands in the very rows that are here: they are compared
under the job's lock, in the transaction that removes them. Its id stays known.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Final, NamedTuple

import msgspec
from sqlalchemy import ColumnElement, Connection, Table, and_, delete, exists, false, func, or_, select

from statemachine.events import ContentErased
from statemachine.states import State
from statemachine.store.anchors_schema import anchors
from statemachine.store.archive_schema import archived_jobs
from statemachine.store.comparing import owner
from statemachine.store.projections import inserting
from statemachine.store.rolling import DAY, GRACE, midnight, seal
from statemachine.store.rollups import rollup_state
from statemachine.store.schema import (
    Row,
    Utc,
    dead_letters,
    job_assets,
    job_attempts,
    job_callbacks,
    job_events,
    job_leases,
    job_model_changes,
    job_payloads,
    jobs,
    rejected_writes,
    retention_door,
    workers,
)

_WITH_THE_JOB: Final = (jobs, job_events, job_attempts, job_assets, job_callbacks, job_model_changes)
TABLES: Final = (*_WITH_THE_JOB, rejected_writes)
"""What an archive holds of a job. `job_payloads` are personal, and only in an archive that was asked to hold them."""

AT_ONCE: Final = 50
"""Jobs in one removing transaction: whoever else wants to write to SQLite waits for it."""

_DOOR: Final = 1

Rows = Mapping[Table, Sequence[Row]]


class Chosen(NamedTuple):
    """A job that may go, and when it ended."""

    finished_at: datetime
    job_id: str


class Old(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs that may go, of those that ended in one way."""

    state: str
    jobs: int
    first: datetime
    last: datetime


class Removed(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the jobs that were handed in."""

    removed: list[str]
    left: list[str]
    """They are not what was handed in: requeued, written to, or rebuilt since. Or they are too young to go."""


def choose(
    connection: Connection, ends_before: Mapping[State, datetime], *, after: Chosen | None = None, limit: int
) -> list[Chosen]:
    """Jobs that may go, the first to end first, those behind `after`."""
    rolled_up = connection.execute(select(rollup_state.c.open_from)).scalar_one()
    query = select(jobs.c.finished_at, jobs.c.id).where(_may_go(connection, ends_before, rolled_up))
    if after is not None:
        at, job_id = after
        query = query.where(jobs.c.finished_at >= at, or_(jobs.c.finished_at > at, jobs.c.id > job_id))
    rows = connection.execute(query.order_by(jobs.c.finished_at, jobs.c.id).limit(limit))
    return [Chosen(row.finished_at, row.id) for row in rows]


def count(connection: Connection, ends_before: Mapping[State, datetime], *, now: datetime) -> list[Old]:
    """How many jobs may go once all days that are over are rolled up, state by state."""
    first, last = (each(jobs.c.finished_at, type_=Utc) for each in (func.min, func.max))
    query = select(jobs.c.state, func.count(), first, last).group_by(jobs.c.state).order_by(jobs.c.state)
    rows = connection.execute(query.where(_may_go(connection, ends_before, midnight(now - GRACE))))
    return [Old(state=state, jobs=number, first=first, last=last) for state, number, first, last in rows]


def _may_go(connection: Connection, ends_before: Mapping[State, datetime], rolled_up: datetime) -> ColumnElement[bool]:
    """Left are jobs that are too young; that ended on a day that is not rolled up yet; that no anchor covers yet, where
    there are anchors at all; whose erasure is not finished, since nobody would find their files any more; and the job
    with the newest event of all, whose position SQLite would give away again.
    """
    wanted = [and_(jobs.c.state == state.value, jobs.c.finished_at < at) for state, at in ends_before.items()]
    last = and_(
        job_events.c.job_id == jobs.c.id,
        job_events.c.version == jobs.c.version,
        job_events.c.kind != ContentErased.kind,
    )
    settled = job_events.c.position <= _settled(connection)
    ended = jobs.c.finished_at.is_not(None)  # says the same, and lets the index of ended jobs be used
    return and_(ended, or_(false(), *wanted), jobs.c.finished_at < rolled_up, exists().where(last, settled))


def _settled(connection: Connection) -> int:
    """Up to which position events may go: what is anchored, where there are anchors at all, but not the newest."""
    newest = connection.scalar(select(func.max(job_events.c.position))) or 0
    anchored = connection.scalar(select(func.max(anchors.c.up_to)))
    return newest - 1 if anchored is None else min(newest - 1, anchored)


def read_rows(connection: Connection, job_ids: Sequence[str], *, tables: Sequence[Table] = TABLES) -> Rows:
    """All rows of these jobs, each table's in the order of jobs and keys."""
    found = {}
    for table in tables:
        names = [column.name for column in table.columns]
        query = select(table).where(owner(table).in_(job_ids)).order_by(owner(table), *table.primary_key)
        found[table] = [dict(zip(names, row, strict=True)) for row in connection.execute(query)]
    return found


def remove(connection: Connection, kept: Rows, *, archive: str, by: str, at: datetime) -> Removed:
    """Remove the jobs in `kept` that are here as they are there, and note all of them as archived.

    A job that is not here, and is known as archived nowhere, was lost with a restored database: it is noted as well.
    The caller owns the transaction, which should be short: hand in at most `AT_ONCE` jobs.
    """
    archived = {row["id"]: row for row in kept[jobs]}
    here = set(
        connection.scalars(select(jobs.c.id).where(jobs.c.id.in_(archived)).order_by(jobs.c.id).with_for_update())
    )
    theirs = _by_job(kept)
    ours = _by_job(read_rows(connection, sorted(here), tables=list(kept)))
    # In a restored database the jobs of an older archive may be too young once more.
    settled = _settled(connection)
    young = {row["job_id"] for row in kept[job_events] if row["position"] > settled}
    going = {job_id for job_id in here - young if ours[job_id] == theirs[job_id]}
    left = here - going
    if going:  # their days will be counted no more
        seal(connection, midnight(max(archived[job_id]["finished_at"] for job_id in going)) + DAY)
    with _door(connection, by=by, reason=f"archived in {archive}", at=at):
        for table in (*_WITH_THE_JOB, job_payloads, job_leases):
            connection.execute(delete(table).where(owner(table).in_(going)))
    # Only those that were compared: the job's lock keeps nobody from being refused once more.
    refused = [row["id"] for row in kept[rejected_writes] if row["job_id"] in going]
    connection.execute(delete(rejected_writes).where(rejected_writes.c.id.in_(refused)))
    gone = [_known(row, archive, at) for job_id, row in archived.items() if job_id not in left]
    if gone:
        connection.execute(inserting(connection.dialect.name, archived_jobs).on_conflict_do_nothing(), gone)
    return Removed(removed=sorted(going), left=sorted(left))


def _by_job(rows: Rows) -> dict[str, list[tuple[str, Row]]]:
    found: dict[str, list[tuple[str, Row]]] = {}
    for table in sorted(rows, key=lambda table: table.name):
        job_id = owner(table).name
        for row in rows[table]:
            found.setdefault(row[job_id], []).append((table.name, row))
    return found


def _known(row: Row, archive: str, at: datetime) -> Row:
    same = {name: row[name] for name in ("payload_digest", "state", "version", "digest", "finished_at")}
    return {"job_id": row["id"], "archive": archive, "archived_at": at, **same}


def forget_workers(connection: Connection, before: datetime) -> int:
    """Remove the rows of workers that were last heard before that time and hold nothing; return how many."""
    holding = select(jobs.c.worker_id).where(jobs.c.finished_at.is_(None), jobs.c.worker_id.is_not(None))
    gone = delete(workers).where(workers.c.last_seen_at < before, workers.c.worker_id.not_in(holding))
    return connection.execute(gone).rowcount


def forget_letters(connection: Connection, before: datetime, *, limit: int) -> int:
    """Remove at most `limit` dead letters that came before that time, whether requeued or not; return how many."""
    oldest = select(dead_letters.c.id).where(dead_letters.c.at < before).order_by(dead_letters.c.at).limit(limit)
    return connection.execute(delete(dead_letters).where(dead_letters.c.id.in_(oldest))).rowcount


@contextmanager
def _door(connection: Connection, *, by: str, reason: str, at: datetime) -> Iterator[None]:
    """Deleting events is possible within, in this transaction. Who else comes to the door waits for its end."""
    connection.execute(retention_door.insert(), {"id": _DOOR, "opened_by": by, "reason": reason, "at": at})
    yield
    connection.execute(retention_door.delete().where(retention_door.c.id == _DOOR))
