"""Writing anchors: what changed in the history since the last one, once it can change no more.

A window is a range of `job_events.position`, which is a primary key: anchoring costs an append nothing, and the
history no index. On PostgreSQL positions commit out of order, so a window may be closed at a position only when
everybody who could hold an earlier one has ended. Whoever inserts an event holds a lock on the table from before it
draws the position to the end of its transaction: of those who held it after the position was read, nobody may be left.
On SQLite a position is one above the highest that is there: whoever deletes events must leave the newest one.
"""

from datetime import datetime
from typing import Final

import msgspec
from msgspec.structs import replace
from sqlalchemy import Connection, func, select, text

from statemachine.anchor import Anchor, Key, Leaf, root
from statemachine.store.anchors_schema import anchored_jobs, anchors
from statemachine.store.schema import job_events

MOST: Final = 10_000
"""Events in one window: read and hashed in some 0.1 s."""

_WRITERS: Final = text(
    "SELECT virtualtransaction FROM pg_locks WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' "
    "AND relation = 'job_events'::regclass "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
_SERVER: Final = text("SELECT CAST(pg_postmaster_start_time() AS text)")
_TURN: Final = text("SELECT pg_try_advisory_xact_lock(CAST(CAST('anchors' AS regclass) AS oid)::bigint)")


class Horizon(msgspec.Struct, frozen=True, kw_only=True):
    """A position up to which nothing is added any more, as soon as `writers` have ended."""

    up_to: int
    writers: frozenset[str] = frozenset()
    server: str = ""


def horizon(connection: Connection) -> Horizon:
    """Where the history ends for now."""
    up_to = connection.scalar(select(func.max(job_events.c.position))) or 0
    if connection.dialect.name == "sqlite":
        return Horizon(up_to=up_to)  # one writer at a time: positions are in the order of commits
    # After the position was read, or one who drew an earlier one might begin and be missed in between.
    return Horizon(up_to=up_to, writers=_writers(connection), server=_server(connection))


def settled(connection: Connection, horizon: Horizon) -> bool | None:
    """Whether the writers have ended. None: the server is another one, which may draw those positions again."""
    if connection.dialect.name == "sqlite":
        return True
    if _server(connection) != horizon.server:
        return None
    return not (horizon.writers and horizon.writers & _writers(connection))


def _writers(connection: Connection) -> frozenset[str]:
    return frozenset(connection.scalars(_WRITERS))


def _server(connection: Connection) -> str:
    return str(connection.scalar(_SERVER))


def newest(connection: Connection, *, below: int | None = None) -> Anchor | None:
    """The last link of the chain, or the last below that number."""
    statement = select(anchors).order_by(anchors.c.sequence.desc()).limit(1)
    if below is not None:
        statement = statement.where(anchors.c.sequence < below)
    row = connection.execute(statement).mappings().one_or_none()
    return None if row is None else Anchor(**row)


def anchor_at(connection: Connection, sequence: int) -> Anchor | None:
    """The anchor of that number."""
    row = connection.execute(select(anchors).where(anchors.c.sequence == sequence)).mappings().one_or_none()
    return None if row is None else Anchor(**row)


def write(
    connection: Connection, up_to: int, *, key: Key | None, at: datetime, made_by: str, most: int = MOST
) -> Anchor | None:
    """Anchor what stands behind the newest anchor, up to the settled position `up_to` and at most `most` events of it.

    None where there is nothing to anchor, or another supervisor is at it: nobody waits for one that was stopped in the
    midst of it, for leases would wait as well. The caller owns the transaction.
    """
    if connection.dialect.name == "postgresql" and not connection.scalar(_TURN):
        return None
    last = newest(connection)
    above = 0 if last is None else last.up_to
    rows = connection.execute(
        select(job_events.c.position, job_events.c.job_id, job_events.c.version, job_events.c.digest)
        .where(job_events.c.position > above, job_events.c.position <= up_to)
        .order_by(job_events.c.position)
        .limit(most)
    ).all()
    if not rows:
        return None
    # In the order of positions, so a job's last event stays: its writers hold its row while they draw them.
    leaves = {row.job_id: Leaf(job_id=row.job_id, version=row.version, digest=row.digest) for row in rows}
    anchor = Anchor(
        sequence=1 if last is None else last.sequence + 1,
        above=above,
        up_to=up_to if len(rows) < most else rows[-1].position,
        jobs=len(leaves),
        events=len(rows),
        at=at,
        made_by=made_by,
        previous="" if last is None else last.root,
        key_id=None if key is None else key.id,
    )
    anchor = replace(anchor, root=root(anchor, leaves.values(), key))
    connection.execute(anchors.insert(), msgspec.structs.asdict(anchor))
    connection.execute(
        anchored_jobs.insert(),
        [{"anchor": anchor.sequence, **msgspec.structs.asdict(leaf)} for _, leaf in sorted(leaves.items())],
    )
    return anchor
