"""Making the projections again from the events alone."""

from collections.abc import Iterator, Sequence

import msgspec
from sqlalchemy import Connection, Engine, delete, select

from statemachine.job import Job
from statemachine.store.claims import load_many
from statemachine.store.comparing import Found, differences, found_rows, owner
from statemachine.store.database import reading, transaction
from statemachine.store.projections import rows_of, upsert
from statemachine.store.rolling import MOMENTS, recount, touch
from statemachine.store.schema import jobs
from statemachine.store.walking import next_ids, next_of


class Rebuilt(msgspec.Struct, frozen=True, kw_only=True):
    """One job's projections were made again; `changed` names the tables whose rows were not equal."""

    job_id: str
    changed: tuple[str, ...]


def rebuild(engine: Engine, job_ids: Sequence[str] | None = None) -> Iterator[Rebuilt]:
    """Rebuild the given jobs, or all, in batches of one transaction each; what is yielded is committed.

    Behind all of them, the days that are rolled up are marked to be counted anew.
    """
    after, ordered = "", None if job_ids is None else sorted(set(job_ids))
    while batch := _batch(engine, ordered, after):
        with transaction(engine) as connection:
            # The rows are locked first, so that no append slips between reading the events and writing the rows.
            connection.execute(select(jobs.c.id).where(jobs.c.id.in_(batch)).order_by(jobs.c.id).with_for_update())
            found = found_rows(connection, batch)
            done = [_rebuild_one(connection, job, found) for job in load_many(connection, batch).values()]
        yield from done
        after = batch[-1]
    if job_ids is None:
        with transaction(engine) as connection:
            recount(connection)


def _batch(engine: Engine, ordered: Sequence[str] | None, after: str) -> Sequence[str]:
    """The next ids: of the given ones, or of all that have events or a row."""
    if ordered is not None:
        return next_of(ordered, after)
    with reading(engine) as connection:
        return next_ids(connection, after)


def _rebuild_one(connection: Connection, job: Job, found: Found) -> Rebuilt:
    different, fresh = differences(job, found), dict(rows_of(job))
    for table in different:
        connection.execute(delete(table).where(owner(table) == job.id))
        upsert(connection, table, fresh[table])
    if different:
        rows = [row for table in fresh for row in (*found[table.name][job.id], *fresh[table])]
        touch(connection, {row[name] for row in rows for name in MOMENTS if row.get(name) is not None})
    return Rebuilt(job_id=job.id, changed=tuple(table.name for table in different))
