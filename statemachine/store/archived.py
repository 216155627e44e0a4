"""What is said of a job whose history went into an archive."""

from typing import Final

from sqlalchemy import Connection, Text, bindparam, select

from statemachine.errors import ArchivedJob, UnknownJob
from statemachine.store.archive_schema import archived_jobs, archives

_LIKE: Final = (
    select(archived_jobs, archives.c.place)
    .join(archives, archives.c.name == archived_jobs.c.archive)
    .where(
        archived_jobs.c.job_id >= bindparam("first", type_=Text),
        archived_jobs.c.job_id <= bindparam("last", type_=Text),
    )
    .order_by(archived_jobs.c.job_id)
    .limit(2)
)


def not_here(connection: Connection, start: str, *, whole: bool = True) -> UnknownJob:
    """Why no job here has the id `start`, or unless it is `whole` one that begins so: it was archived, or never was."""
    found = connection.execute(_LIKE, {"first": start, "last": start if whole else start + "~"}).all()
    if not found:
        return UnknownJob(f"no job has the id {start}" if whole else f"no job's id begins with {start}")
    if len(found) > 1:
        return UnknownJob(f"{start} fits more than one job that was archived: {found[0].job_id}, {found[1].job_id}, …")
    (job,) = found
    return ArchivedJob(
        f"job {job.job_id} is not here any more: it ended as {job.state} on {job.finished_at:%Y-%m-%d} and was "
        f"archived on {job.archived_at:%Y-%m-%d} into {job.place}/{job.archive}; "
        f"`ourvidz history inspect {job.place} {job.job_id[:8]}` tells of it"
    )
