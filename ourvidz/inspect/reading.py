"""Reading a job and its surroundings from the store."""

from ourvidz.inspect.situation import Situation
from ourvidz.layers import SPOOL_GRACE_SECONDS
from statemachine.store import EventStore
from statemachine.store.codec import replay
from statemachine.store.reading import lease, list_workers, paused_queue, place, rejected, resolve


def situation_of(store: EventStore, prefix: str, *, spool_grace: float = SPOOL_GRACE_SECONDS) -> Situation:
    """All that is known of the job whose id begins with `prefix`. Raises UnknownJob."""
    now = store.now()
    with store.read() as connection:
        job_id = resolve(connection, prefix)
        held = lease(connection, job_id)
        refused = rejected(connection, job_id)
        everyone = list_workers(connection)
        ahead = place(connection, job_id, now)
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
        place=ahead if job.worker_id is None and not job.state.terminal else None,
        paused=paused,
        spool=held["spool_host"] if held is not None and job.worker_id is None else None,
        spool_grace=spool_grace,
    )
