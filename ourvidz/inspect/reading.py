"""Reading a job and its surroundings from the store: as it is, or as it was."""

from datetime import datetime

from ourvidz.inspect.situation import Situation
from ourvidz.layers import SPOOL_GRACE_SECONDS
from ourvidz.wording import stamp
from statemachine.errors import Refused
from statemachine.job import Stored
from statemachine.store import EventStore
from statemachine.store.chain import check
from statemachine.store.codec import replay
from statemachine.store.reading import ahead, lease, list_workers, paused_queue, rejected, resolve
from statemachine.store.verify import verify


def situation_of(store: EventStore, prefix: str, *, spool_grace: float = SPOOL_GRACE_SECONDS) -> Situation:
    """All that is known of the job whose id begins with `prefix`. Raises UnknownJob."""
    now = store.now()
    with store.read() as connection:
        job_id = resolve(connection, prefix)
        held = lease(connection, job_id)
        refused = rejected(connection, job_id)
        everyone = list_workers(connection)
        before = ahead(connection, job_id, now)
    # Read last: an attempt that ended meanwhile must not be shown with the lease it no longer has.
    history = store.history(job_id)
    job = replay(job_id, history)
    with store.read() as connection:
        paused = paused_queue(connection, job.queue)
    return Situation(
        job=job,
        history=history,
        now=max(now, job.last_at or now),
        lease=held if held is not None and held["token"] == job.token else None,
        content=store.content(job_id),
        rejected=refused,
        workers=everyone,
        ahead=before if job.worker_id is None and not job.state.terminal else None,
        paused=paused,
        spool=held["spool_host"] if held is not None and job.worker_id is None else None,
        spool_grace=spool_grace,
        findings=[finding for batch in verify(store.engine, [job_id]) for job in batch for finding in job.findings],
    )


def situation_at(store: EventStore, prefix: str, at: int | datetime) -> Situation:
    """The job as it was right after the event of version `at`, or at that time. Raises UnknownJob and Refused.

    What its history tells, and the refused writes, which are dated. Of its leases, of the workers and of the queue
    nobody keeps what they were; nor of its projections, so that its history is held against itself alone.
    """
    with store.read() as connection:
        job_id = resolve(connection, prefix)
        refused = rejected(connection, job_id)
    whole = store.history(job_id)
    history = _until(whole, at, store.now())
    moment = at if isinstance(at, datetime) else history[-1].at
    return Situation(
        job=replay(job_id, history),
        history=history,
        now=moment,
        content=store.content(job_id),
        rejected=[row for row in refused if row["at"] <= moment],
        past=True,
        findings=check(job_id, history).findings,
    )


def _until(history: list[Stored], at: int | datetime, now: datetime) -> list[Stored]:
    job_id = history[0].job_id
    if isinstance(at, datetime):
        if at > now:
            raise Refused(f"{stamp(at)} is not over: nobody knows yet how job {job_id} will be")
        before = [row for row in history if row.at <= at]
        if not before:
            raise Refused(f"job {job_id} came at {stamp(history[0].at)}: at {stamp(at)} there was none")
        return before
    if not 1 <= at <= len(history):
        raise Refused(f"job {job_id} has had the versions 1 to {len(history)}, not {at}")
    return history[:at]
