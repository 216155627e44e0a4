"""Admission: arrivals become jobs or dead letters, all in one transaction."""

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Final, NamedTuple

from msgspec.structs import replace
from sqlalchemy import Connection, Integer, Text, bindparam, func, select, union_all
from sqlalchemy.sql.dml import ReturningInsert

from statemachine.admission import Admission, DeadLetter, NewJob, Verdict
from statemachine.events import JobQueued
from statemachine.job import Job, Stored
from statemachine.states import State
from statemachine.store.append import write_events
from statemachine.store.archive_schema import archived_jobs
from statemachine.store.codec import canonical, seal_all
from statemachine.store.letters import bury
from statemachine.store.projections import inserting, job_row, upsert, write_details
from statemachine.store.schema import job_payloads, jobs


class _Sealed(NamedTuple):
    """A job whose row is inserted, and what belongs to it."""

    new: NewJob
    rows: list[Stored]
    job: Job


def admit(connection: Connection, arrivals: Sequence[NewJob | DeadLetter], *, at: datetime) -> list[Admission]:
    """Give each arrival its verdict. Idempotent on id and payload digest; the caller owns the transaction."""
    inserted = [_insert(connection, one, at=at) if isinstance(one, NewJob) else None for one in arrivals]
    archived = _take_back_archived(connection, [one.job.id for one in inserted if one is not None])
    new = [one if one is not None and one.job.id not in archived else None for one in inserted]
    _write(connection, [one for one in new if one is not None])
    verdicts = []
    for arrival, written in zip(arrivals, new, strict=True):
        if isinstance(arrival, DeadLetter):
            verdicts.append(_bury(connection, arrival, at=at))
        elif written is None:
            verdicts.append(_known(connection, arrival, at=at))
        else:
            verdicts.append(Admission(verdict=Verdict.NEW, job_id=arrival.job_id))
    return verdicts


def _insert(connection: Connection, new: NewJob, *, at: datetime) -> _Sealed | None:
    """Insert the job's row. None where its id was here before."""
    queued = _queued(new)
    queued = replace(queued, turn=_turn(connection, queued))
    rows, job = seal_all(Job(id=new.job_id), [queued, *new.events[1:]], worker_id=None, at=at)
    return _Sealed(new, rows, job) if _insert_if_new(connection, job) else None


def _queued(new: NewJob) -> JobQueued:
    queued = new.events[0]
    if not isinstance(queued, JobQueued):
        raise TypeError(f"job {new.job_id}: expected job_queued first, got {queued.kind}")
    return queued


def _take_back_archived(connection: Connection, job_ids: Sequence[str]) -> set[str]:
    """Delete the rows of those that were archived, and return their ids.

    Asked behind the inserts, since each of them waits for whoever is just archiving that very job.
    """
    if not job_ids:
        return set()
    archived = set(connection.scalars(_ARCHIVED, {"ids": job_ids}))
    if archived:
        connection.execute(jobs.delete().where(jobs.c.id.in_(archived)))
    return archived


def _write(connection: Connection, new: Sequence[_Sealed]) -> None:
    """All that belongs to the rows that were inserted."""
    if not new:
        return
    write_events(connection, [row for one in new for row in one.rows])
    write_details(connection, [(Job(id=one.job.id), one.job) for one in new])
    payloads = [
        {
            "job_id": one.job.id,
            "raw": one.new.raw,
            "content": None if one.new.content is None else canonical(one.new.content),
        }
        for one in new
    ]
    upsert(connection, job_payloads, payloads)


def _insert_if_new(connection: Connection, job: Job) -> bool:
    """INSERT … ON CONFLICT DO NOTHING: of two arrivals with one id, one is told that it is new."""
    return connection.scalar(_if_new(connection.dialect.name), job_row(job)) is not None


_ARCHIVED: Final = select(archived_jobs.c.job_id).where(archived_jobs.c.job_id.in_(bindparam("ids", expanding=True)))


@cache
def _if_new(dialect: str) -> ReturningInsert[str]:
    statement: ReturningInsert[str] = (
        inserting(dialect, jobs).on_conflict_do_nothing(index_elements=["id"]).returning(jobs.c.id)
    )
    return statement


# One statement, since a job may be archived between two. One row, though it may be here and in an archive: a restored
# database can be given the job anew just while it is told that it was archived.
_KNOWN: Final = union_all(
    select(jobs.c.payload_digest, jobs.c.state).where(jobs.c.id == bindparam("of_job", type_=Text)),
    select(archived_jobs.c.payload_digest, archived_jobs.c.state + ", and archived").where(
        archived_jobs.c.job_id == bindparam("of_job", type_=Text)
    ),
).limit(1)


def _known(connection: Connection, new: NewJob, *, at: datetime) -> Admission:
    queued = _queued(new)
    digest, state = connection.execute(_KNOWN, {"of_job": new.job_id}).one()
    if digest == queued.payload_digest:
        return Admission(verdict=Verdict.DUPLICATE, job_id=new.job_id)
    reason = f"job {new.job_id} is known with another content (it is {state}); it is left as it is"
    letter = DeadLetter(raw=new.raw, reason=reason, queue=queued.queue, source=queued.source, job_id=new.job_id)
    return _bury(connection, letter, at=at)


def _bury(connection: Connection, letter: DeadLetter, *, at: datetime) -> Admission:
    bury(connection, letter, at=at)
    return Admission(verdict=Verdict.DEAD, job_id=letter.job_id, reason=letter.reason)


_WAITING: Final = jobs.c.finished_at.is_(None) & jobs.c.worker_id.is_(None)
_SERVING: Final = (
    select(jobs.c.turn)
    .where(
        _WAITING,
        jobs.c.resume_at.is_(None),  # a retry that is parked for hours is nobody's turn
        jobs.c.state != State.CALLBACK.value,
        jobs.c.priority == bindparam("of_priority", type_=Integer),
    )
    .order_by(jobs.c.turn)
    .limit(1)
)
_OWN: Final = select(func.max(jobs.c.turn)).where(
    _WAITING, jobs.c.state != State.CALLBACK.value, jobs.c.priority == bindparam("of_priority", type_=Integer)
)
_OWN_OF_USER: Final = _OWN.where(jobs.c.user_id == bindparam("of_user", type_=Text))
_OWN_OF_NOBODY: Final = _OWN.where(jobs.c.user_id.is_(None))


def _turn(connection: Connection, queued: JobQueued) -> int:
    """The job's place in the round-robin between users (start-time fair queueing).

    One behind the user's last waiting job of that priority, and never before the turn that is being served: a user
    with a hundred jobs and one with a single one alternate, and the order is an index, not a computation at each
    claim. Jobs that name no user are one user's.
    """
    serving = connection.scalar(_SERVING, {"of_priority": queued.priority})
    own = connection.scalar(
        _OWN_OF_NOBODY if queued.user_id is None else _OWN_OF_USER,
        {"of_priority": queued.priority, "of_user": queued.user_id},
    )
    return max(serving or 0, 0 if own is None else own + 1)
