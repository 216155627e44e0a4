"""What somebody can do to a history who may do anything with the database."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from msgspec.structs import replace
from sqlalchemy import Connection, delete, select, text, update

from statemachine.job import Stored
from statemachine.states import State
from statemachine.store import EventStore
from statemachine.store.anchors import horizon, write
from statemachine.store.append import write_events
from statemachine.store.codec import digest, stored
from statemachine.store.comparing import TABLES, owner
from statemachine.store.schema import job_events

GUARDED = ("job_events", "anchors", "anchored_jobs")


def anchor(store: EventStore, **how: Any) -> None:
    """Anchor all that is there, as a supervisor does."""
    with store.write() as connection:
        write(connection, horizon(connection).up_to, **{"key": None, "at": store.now(), "made_by": "s", **how})


@contextmanager
def unguarded(store: EventStore) -> Iterator[Connection]:
    """A transaction in which no trigger is in the way."""
    with store.write() as connection:
        if connection.dialect.name == "postgresql":
            for table in GUARDED:
                connection.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER USER"))
        else:
            kept = connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).scalars().all()
            for name in kept:
                connection.execute(text(f"DROP TRIGGER {name}"))
        yield connection


def change(store: EventStore, job_id: str, version: int, **columns: Any) -> None:
    """Put other values into one event."""
    with unguarded(store) as connection:
        connection.execute(update(job_events).where(_at(job_id, version)).values(**columns))


def remove(store: EventStore, job_id: str, *versions: int) -> None:
    """Remove events."""
    with unguarded(store) as connection:
        for version in versions:
            connection.execute(delete(job_events).where(_at(job_id, version)))


def remove_all(store: EventStore, job_id: str) -> None:
    """Remove a job with whatever follows from its events."""
    with unguarded(store) as connection:
        for table in (*TABLES, job_events):
            connection.execute(delete(table).where(owner(table) == job_id))


def swap(store: EventStore, job_id: str, one: int, other: int) -> None:
    """Exchange the places of two events."""
    with unguarded(store) as connection:
        for before, after in ((one, -1), (other, one), (-1, other)):
            connection.execute(update(job_events).where(_at(job_id, before)).values(version=after))


def hash_anew(store: EventStore, job_id: str) -> None:
    """Make all digests, and the projections, fit what the events say by now."""
    before = ""
    with unguarded(store) as connection:
        for row in connection.execute(
            select(job_events).where(job_events.c.job_id == job_id).order_by(job_events.c.version)
        ):
            before = digest(before, stored(row))
            connection.execute(update(job_events).where(_at(job_id, row.version)).values(digest=before))
    cover(store, job_id)


def insert(store: EventStore, rows: list[Stored], *, position: int) -> None:
    """Put events where they never were, at a position of one's choice."""
    with unguarded(store) as connection:
        write_events(connection, rows)
        last = rows[-1]
        for number, row in enumerate(rows):
            connection.execute(
                update(job_events).where(_at(last.job_id, row.version)).values(position=position + number)
            )
    cover(store, rows[-1].job_id)


def cover(store: EventStore, job_id: str) -> None:
    """Make the projections fit."""
    for _ in store.rebuild([job_id]):
        continue


def sealed_at(rows: list[Stored], **changes: Any) -> Stored:
    """One more event behind these, as the last of them with other values; its digest fits."""
    states = {name: State(value) for name, value in changes.items() if name in ("from_state", "to_state") and value}
    row = replace(rows[-1], version=rows[-1].version + 1, **{**changes, **states})
    return replace(row, digest=digest(rows[-1].digest, row))


def _at(job_id: str, version: int) -> Any:
    return (job_events.c.job_id == job_id) & (job_events.c.version == version)
