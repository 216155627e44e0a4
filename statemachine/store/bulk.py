"""Whole histories at once: what admitting and appending them event by event would have left, a hundred times faster."""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Final

import msgspec
from sqlalchemy import Connection, Table

from statemachine.job import Job, Stored
from statemachine.store.append import event_row
from statemachine.store.projections import rows_of
from statemachine.store.rolling import MOMENTS, touch
from statemachine.store.schema import Row, job_events, job_payloads


class Whole(msgspec.Struct, frozen=True, kw_only=True):
    """A job that nobody holds, all its events, and what is personal of it, as `admit` and `append` would have it."""

    job: Job
    rows: list[Stored]
    raw: bytes
    content: str | None


def write_whole(connection: Connection, histories: Sequence[Whole]) -> None:
    """Write jobs that are not there yet, all or none; the caller owns the transaction.

    Events go in by their time, so that a job's stand as far apart as they would if many had been at work.
    """
    events = [row for history in histories for row in history.rows]
    events.sort(key=lambda row: (row.at, row.job_id, row.version))
    insert(connection, job_events, [event_row(row) for row in events])
    projected: dict[Table, list[Row]] = {}
    for history in histories:
        for table, rows in rows_of(history.job):
            projected.setdefault(table, []).extend(rows)
    for table, rows in projected.items():
        insert(connection, table, rows)
    # Days that were rolled up before are counted again.
    every = chain.from_iterable(projected.values())
    touch(connection, {row[name] for row in every for name in MOMENTS if row.get(name) is not None})
    payloads = [{"job_id": each.job.id, "raw": each.raw, "content": each.content} for each in histories]
    insert(connection, job_payloads, payloads)


def insert(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Insert rows of the same columns: by COPY on PostgreSQL, where an INSERT takes five times as long."""
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        names = list(rows[0])
        _copy(connection, table, names, ([row[name] for name in names] for row in rows))
    else:
        connection.execute(table.insert(), list(rows))


_QUOTED: Final = '"{}"'.format


def _copy(connection: Connection, table: Table, names: list[str], rows: Iterable[Sequence[object]]) -> None:
    driver = connection.connection.driver_connection
    assert driver is not None  # there is one as long as the connection is open
    columns = ", ".join(_QUOTED(name) for name in names)
    with driver.cursor() as cursor, cursor.copy(f"COPY {table.name} ({columns}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)
