"""Removing personal content from the database, in the transaction that tells of it.

The history keeps its digests: who has the payload can still prove that it was this one. What no transaction reaches are
a database's older bytes, its log, replicas and backups; for SQLite's see `database.forget_older_bytes`.
"""

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import Connection, func, or_, select, update

from statemachine.store.database import forget_older_bytes
from statemachine.store.operating import Content, Decide, Decided, operate
from statemachine.store.schema import dead_letters, job_payloads
from statemachine.store.store import EventStore


def erase(store: EventStore, job_ids: Sequence[str], decide: Decide, *, dry: bool = False) -> dict[str, Decided]:
    """As `operate`; of each job for which `decide` has events, payload, prompts and dead letters go with them.

    `decide` is told whether anything personal of the job is in the database.
    """
    done = operate(store, job_ids, decide, dry=dry, content=Content(_held, _remove))
    if not dry:
        forget_older_bytes(store.engine)
    return done


def _held(connection: Connection, job_ids: Collection[str]) -> set[str]:
    payloads = select(job_payloads.c.job_id).where(
        job_payloads.c.job_id.in_(job_ids), or_(job_payloads.c.raw.is_not(None), job_payloads.c.content.is_not(None))
    )
    letters = select(dead_letters.c.job_id).where(
        dead_letters.c.job_id.in_(job_ids), func.length(dead_letters.c.raw) > 0
    )
    return set(connection.scalars(payloads)) | set(connection.scalars(letters))


def _remove(connection: Connection, job_ids: Sequence[str], at: datetime) -> None:
    """A dead letter keeps its digest, its reason and when it came: only its bytes are a person's."""
    connection.execute(
        update(job_payloads).where(job_payloads.c.job_id.in_(job_ids)).values(raw=None, content=None, erased_at=at)
    )
    connection.execute(update(dead_letters).where(dead_letters.c.job_id.in_(job_ids)).values(raw=b""))
