"""Operators' acts: many jobs locked, judged and written in one transaction, while workers go on beside it."""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Final

import msgspec
from sqlalchemy import Connection, select
from sqlalchemy.exc import SQLAlchemyError

from statemachine.errors import IllegalEvent, Refused, StatemachineError, StoreAway, UnknownJob, UnreadableHistory
from statemachine.events import Event
from statemachine.job import Job
from statemachine.store.append import Sealed, append, prepare
from statemachine.store.claims import load_many
from statemachine.store.schema import job_payloads, jobs
from statemachine.store.store import EventStore

BATCH: Final = 100
"""Jobs in one transaction: their workers wait for it to end, some 0.1 s."""

Decide = Callable[[Job, bool], list[Event]]
"""From a job, and whether it has the content that matters, to what is to be written. Raises Refused."""

Decided = Job | Exception
"""The job as it then stands, or why nothing was written."""


class Content(msgspec.Struct, frozen=True):
    """What an act has to do with personal content. `held_of` says which of the jobs have any that matters to it.

    `then` does its part to the jobs that were written, in the same transaction.
    """

    held_of: Callable[[Connection, Collection[str]], set[str]]
    then: Callable[[Connection, Sequence[str], datetime], None] | None = None


def operate(
    store: EventStore, job_ids: Sequence[str], decide: Decide, *, dry: bool = False, content: Content | None = None
) -> dict[str, Decided]:
    """Write what `decide` makes of each job. `dry`: only look what it would be. Raises StoreAway.

    Each job is judged as it stands while nobody else can write it, so there is no version to be late for. What one
    job meets is its own: the others are written. Call it with at most `BATCH` jobs.
    """
    now, about = store.now(), content or _TO_WORK_ON
    try:
        with store.read() if dry else store.write() as connection:
            done = _operate(connection, job_ids, decide, at=now, dry=dry, content=about)
    except SQLAlchemyError as error:
        if len(job_ids) == 1:
            return {job_ids[0]: error}
        done = _one_by_one(store, job_ids, decide, dry=dry, content=about)  # one bad row must harm no neighbour
    except StoreAway as away:
        if len(job_ids) == 1 or not _deadlocked(away):
            raise
        # Who holds one row at a time is in nobody's way.
        done = _one_by_one(store, job_ids, decide, dry=dry, content=about)
    if not dry and any(isinstance(result, Job) for result in done.values()):
        store.wakeups.notify()
    return done


def _one_by_one(
    store: EventStore, job_ids: Sequence[str], decide: Decide, *, dry: bool, content: Content
) -> dict[str, Decided]:
    return {job_id: operate(store, [job_id], decide, dry=dry, content=content)[job_id] for job_id in job_ids}


def _deadlocked(away: StoreAway) -> bool:
    """Whether PostgreSQL ended the transaction for the sake of a group of workers' writes, which lock in any order."""
    return getattr(getattr(away.__cause__, "orig", None), "sqlstate", None) == "40P01"


def _operate(
    connection: Connection, job_ids: Sequence[str], decide: Decide, *, at: datetime, dry: bool, content: Content
) -> dict[str, Decided]:
    order = select(jobs.c.id).where(jobs.c.id.in_(job_ids)).order_by(jobs.c.id)
    found = set(connection.scalars(order if dry else order.with_for_update(of=jobs)))
    kept = content.held_of(connection, found)
    done: dict[str, Decided] = {}
    group: list[Sealed] = []
    for job_id in job_ids:
        if job_id not in found:
            done[job_id] = UnknownJob(f"no job has the id {job_id}")
            continue
        try:
            job = load_many(connection, [job_id])[job_id]
            events = decide(job, job_id in kept)
            if events:
                group.append(prepare(job, events, worker_id=None, at=at))
            else:
                done[job_id] = job
        except (Refused, IllegalEvent, UnreadableHistory) as error:
            done[job_id] = error
    written: Sequence[Job | StatemachineError] = (
        [sealed.after for sealed in group] if dry else append(connection, group) if group else []
    )
    if content.then is not None and not dry:
        content.then(connection, [job.id for job in written if isinstance(job, Job)], at)
    return done | {sealed.before.id: result for sealed, result in zip(group, written, strict=True)}


def _whole(connection: Connection, job_ids: Collection[str]) -> set[str]:
    """Those of which there is enough to begin another run."""
    query = select(job_payloads.c.job_id).where(
        job_payloads.c.job_id.in_(job_ids), job_payloads.c.content.is_not(None), job_payloads.c.erased_at.is_(None)
    )
    return set(connection.scalars(query))


_TO_WORK_ON: Final = Content(_whole)

__all__ = ["BATCH", "Content", "Decide", "Decided", "operate"]
