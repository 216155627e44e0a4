"""Rolling days up, and noticing what changes in a day that is rolled up already."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Final

from sqlalchemy import Connection, Engine, Select, TextClause, bindparam, delete, func, select, text, update

from statemachine.store.database import reading, transaction
from statemachine.store.facts import Fact, summed
from statemachine.store.rollups import BEGINNING, ROLLUPS, rollup_marks, rollup_spans, rollup_state
from statemachine.store.schema import Utc, jobs
from statemachine.store.views import worded

DAY: Final = timedelta(days=1)
GRACE: Final = timedelta(hours=1)
"""A day is rolled up so long after its end, and when everybody has ended who wrote before it was over."""

_WRITES_SINCE: Final = text(
    "SELECT min(xact_start) FROM pg_stat_activity "
    "WHERE datname = current_database() AND backend_xid IS NOT NULL AND pid <> pg_backend_pid()"
)

MOMENTS: Final = ("queued_at", "finished_at", "ended_at", "at")
"""The columns of projections by whose day their rows are counted."""


def midnight(moment: datetime) -> datetime:
    """When the day of `moment` begins, in UTC."""
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def touch(connection: Connection, moments: Iterable[datetime]) -> None:
    """Leave a mark on each day in `moments` that may be rolled up: what is written there comes late, or is moved.

    It belongs into the transaction that writes it. For today's writes it is one small read.
    """
    days = {midnight(moment) for moment in moments}
    closed = connection.execute(_closed(connection.dialect.name)).scalar_one()
    _mark(connection, [day for day in sorted(days) if day < closed])


def _mark(connection: Connection, days: list[datetime]) -> None:
    if days:
        connection.execute(rollup_marks.insert(), [{"begins": day, "ends": day + DAY} for day in days])


@cache
def _closed(dialect: str) -> Select[datetime]:
    """Days before this may be rolled up by the time the transaction commits.

    On SQLite nobody rolls up while somebody writes. On PostgreSQL somebody may, but only a day that has been over for
    an hour: so each write into a day that is over leaves a mark, whether or not it is rolled up yet.
    """
    if dialect == "sqlite":
        return select(rollup_state.c.open_from)
    today = func.date_trunc("day", func.clock_timestamp(), "UTC", type_=Utc)
    return select(func.greatest(rollup_state.c.open_from, today, type_=Utc))


def due(connection: Connection, now: datetime) -> list[datetime]:
    """The days to be rolled up, or once more, as their midnights; the oldest first."""
    state = connection.execute(select(rollup_state)).one()
    marked = connection.scalars(select(rollup_spans.c.begins).where(rollup_spans.c.begins < state.open_from))
    first = state.open_from
    if first == BEGINNING:
        first = _first(connection, otherwise=now)
    open_days = (midnight(_over(connection, now)) - first) // DAY
    return [*sorted(marked), *(first + DAY * number for number in range(max(0, open_days)))]


def _over(connection: Connection, now: datetime) -> datetime:
    """Whatever is written into a day before this leaves a mark. Whoever was stopped within a transaction left none."""
    oldest = None if connection.dialect.name == "sqlite" else connection.scalar(_WRITES_SINCE)
    return now - GRACE if oldest is None else min(now - GRACE, oldest)


def recount(connection: Connection) -> None:
    """Have every day that is rolled up and may still change counted anew."""
    state = connection.execute(select(rollup_state)).one()
    begin = max(state.sealed_until, _first(connection, state.open_from))
    _mark(connection, [begin + DAY * number for number in range((state.open_from - begin) // DAY)])


def _first(connection: Connection, otherwise: datetime) -> datetime:
    """The day of the oldest job: there is nothing that could be older."""
    oldest = connection.scalar(select(func.min(jobs.c.queued_at, type_=Utc)))
    return otherwise if oldest is None else midnight(oldest)


def roll(engine: Engine, now: datetime) -> Iterator[datetime]:
    """Roll up what is due, a day a transaction; yield each one's midnight when it is committed.

    Where somebody else is at it already, nothing is done: the views are right all the same.
    """
    while _is_due(engine, now):
        with transaction(engine) as connection:
            day = _roll_next(connection, now)
        if day is None:
            return
        yield day


def _is_due(engine: Engine, now: datetime) -> bool:
    with reading(engine) as connection:  # SQLite's one write lock is not taken for nothing
        return bool(due(connection, now))


def _roll_next(connection: Connection, now: datetime) -> datetime | None:
    """Roll up the next day; None where another has the rollups in hand, or has been quicker."""
    state = connection.execute(select(rollup_state).with_for_update(skip_locked=True)).one_or_none()
    days = [] if state is None else due(connection, now)
    if state is None or not days:
        return None
    _count(connection, days[0])
    if days[0] >= state.open_from:
        connection.execute(update(rollup_state).values(open_from=days[0] + DAY))
    # What comes late into a sealed day has nothing to be counted with any more: that day stays as it was.
    connection.execute(delete(rollup_marks).where(rollup_marks.c.begins < state.sealed_until))
    return days[0]


def seal(connection: Connection, until: datetime) -> None:
    """Let the days before `until`, a midnight, never change again; then jobs that ended in them may be removed.

    What was marked in them is counted for the last time. Raises ValueError for a day that is not rolled up yet. The
    caller owns the transaction, and removes the jobs in it.
    """
    state = connection.execute(select(rollup_state).with_for_update()).one()
    if until > state.open_from:
        raise ValueError(f"the days from {state.open_from:%Y-%m-%d} on are not rolled up yet, so none is sealed there")
    for day in connection.scalars(select(rollup_spans.c.begins).where(rollup_spans.c.begins < until)).all():
        _count(connection, day)
    connection.execute(delete(rollup_marks).where(rollup_marks.c.begins < until))
    sealed = max(until, state.sealed_until)
    connection.execute(update(rollup_state).values(sealed_until=sealed))


def _count(connection: Connection, day: datetime) -> None:
    # The marks go first: who commits behind this leaves another one, and is counted the next time.
    connection.execute(delete(rollup_marks).where(rollup_marks.c.begins == day))
    for fact, table in ROLLUPS.items():
        connection.execute(delete(table).where(table.c.day == f"{day:%Y-%m-%d}"))
        connection.execute(_counting(fact, connection.dialect.name), {"begins": day, "ends": day + DAY})


@cache
def _counting(fact: Fact, dialect: str) -> TextClause:
    columns = ", ".join(["day", *fact.keys, *fact.sums])
    counted = summed(fact, "(SELECT :begins AS begins, :ends AS ends)", keys=list(fact.keys), moment="DAY(at) AS day")
    statement = worded(f"INSERT INTO {ROLLUPS[fact].name} ({columns})\n{counted}", dialect)
    return text(statement).bindparams(bindparam("begins", type_=Utc), bindparam("ends", type_=Utc))
