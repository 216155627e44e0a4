"""Queues: how long they are, and holding and releasing them. Claims leave jobs of a paused queue where they are."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, case, func, or_, select

from statemachine.store.projections import upsert
from statemachine.store.schema import jobs, queues


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """One queue at one moment. `by` and `reason` are of whoever paused it, or let it go on, last."""

    name: str
    waiting: int = 0
    resting: int = 0
    in_work: int = 0
    oldest_due_at: datetime | None = None
    paused_at: datetime | None = None
    by: str | None = None
    reason: str | None = None


def queue_lengths(connection: Connection, names: Sequence[str], now: datetime) -> list[Queue]:
    """The queues of these names and all others that jobs or pauses know of.

    `waiting` are due and held by nobody, the earliest since `oldest_due_at`; `resting` wait for a later try.
    """
    due = jobs.c.worker_id.is_(None) & or_(jobs.c.resume_at.is_(None), jobs.c.resume_at <= now)
    rests = jobs.c.worker_id.is_(None) & (jobs.c.resume_at > now)

    def number(which: Any) -> Any:
        return func.coalesce(func.sum(case((which, 1), else_=0)), 0)

    query = (
        select(
            jobs.c.queue.label("name"),
            number(due).label("waiting"),
            number(rests).label("resting"),
            number(jobs.c.worker_id.is_not(None)).label("in_work"),
            func.min(case((due, jobs.c.due_at))).label("oldest_due_at"),
        )
        .where(jobs.c.finished_at.is_(None))
        .group_by(jobs.c.queue)
    )
    found = {row.name: dict(row._mapping) for row in connection.execute(query)}
    for row in connection.execute(select(queues)):
        told = {"name": row.name, "paused_at": row.paused_at, "by": row.paused_by, "reason": row.reason}
        found[row.name] = found.get(row.name, {}) | told
    every = [*names, *sorted(set(found) - set(names))]
    return [Queue(**found.get(name, {"name": name})) for name in every]


def pause(connection: Connection, name: str, *, by: str, reason: str, at: datetime) -> bool:
    """Claim nothing more from the queue. False, and nothing is changed, where it is paused already."""
    return _set(connection, name, at, by=by, reason=reason)


def resume(connection: Connection, name: str, *, by: str, reason: str) -> bool:
    """Claim from it again. False, and nothing is changed, where it is not paused."""
    return _set(connection, name, None, by=by, reason=reason)


def _set(connection: Connection, name: str, paused_at: datetime | None, *, by: str, reason: str) -> bool:
    before = connection.scalar(select(queues.c.paused_at).where(queues.c.name == name).with_for_update())
    if (before is None) == (paused_at is None):
        return False
    upsert(connection, queues, [{"name": name, "paused_at": paused_at, "paused_by": by, "reason": reason}])
    return True
