"""Going through all jobs in the order of their ids, a batch at a time."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from sqlalchemy import Column, Connection, select

from statemachine.store.schema import job_events, jobs

BATCH: Final = 200
EVERYWHERE: Final = (job_events.c.job_id, jobs.c.id)
"""Where a job may be found: neither its events nor its row are believed to be there."""


def next_ids(connection: Connection, after: str, columns: Sequence[Column[str]] = EVERYWHERE) -> list[str]:
    """The ids that come next behind `after`, of those that stand in any of `columns`, each of which has an index."""
    found: set[str] = set()
    for column in columns:
        found.update(connection.scalars(select(column).distinct().where(column > after).order_by(column).limit(BATCH)))
    return sorted(found)[:BATCH]


def next_of(ordered: Sequence[str], after: str) -> Sequence[str]:
    """The same, of ids that are known, each once and in order."""
    first = bisect_right(ordered, after)
    return ordered[first : first + BATCH]
