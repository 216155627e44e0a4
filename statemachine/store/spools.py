"""Whose spool has a job's files: who goes first with it, and which folders nobody needs any more.

A lease names the spool of its holder. When it ends, the name stays where the history tells of files that the job goes
on from, and is wiped where it does not: such a job is anybody's at once.
"""

from collections.abc import Sequence
from typing import Final

import msgspec
from sqlalchemy import Connection, Text, and_, bindparam, exists, or_, select

from statemachine.store.schema import Utc, job_leases, jobs, workers

BATCH: Final = 1000
"""Folders in one query. SQLite takes 32,766 variables in a statement."""

_SINCE: Final = bindparam("since", type_=Utc)
_NOW: Final = bindparam("now", type_=Utc)
_SPOOL: Final = bindparam("spool", type_=Text)

KEPT: Final = and_(
    jobs.c.due_at > _SINCE,  # asked first: what has waited for longer than the grace costs no look at its lease
    jobs.c.due_at <= _NOW,  # due later, and yet to be claimed: the clock was set back, and nobody waits for it
    exists().where(
        job_leases.c.job_id == jobs.c.id,
        job_leases.c.spool_host != _SPOOL,
        job_leases.c.spool_host.in_(select(workers.c.spool).where(workers.c.last_seen_at > _SINCE)),
    ),
)
"""Another spool than `spool` has its files, a worker there was heard after `since`, and it came due after that."""

_NEEDLESS: Final = or_(
    jobs.c.finished_at.is_not(None),
    exists().where(job_leases.c.job_id == jobs.c.id, job_leases.c.spool_host.is_distinct_from(_SPOOL)),
)
_THESE: Final = jobs.c.id.in_(bindparam("ids", expanding=True))
_LOOK: Final = select(jobs.c.id, _NEEDLESS.label("needless")).where(_THESE)
_LOCK: Final = select(jobs.c.id).where(_THESE, _NEEDLESS).with_for_update(skip_locked=True, of=jobs)


class Folders(msgspec.Struct, frozen=True, kw_only=True):
    """What a spool need not keep: the files of jobs that have ended or go on elsewhere, and those that no job has."""

    needless: set[str]
    unknown: set[str]


def look(connection: Connection, spool: str, job_ids: Sequence[str], *, lock: bool = False) -> Folders:
    """Sort out the folders of `job_ids` in `spool`.

    `lock`: whose files are needless is claimed by nobody before the transaction ends. What somebody is writing
    meanwhile is left out.
    """
    needless, unknown = set[str](), set[str]()
    for first in range(0, len(job_ids), BATCH):
        asked = {"ids": job_ids[first : first + BATCH], "spool": spool}
        found = {row.id: row.needless for row in connection.execute(_LOOK, asked)}
        unknown |= set(asked["ids"]) - set(found)
        needless |= set(connection.scalars(_LOCK, asked) if lock else (job_id for job_id in found if found[job_id]))
    return Folders(needless=needless, unknown=unknown)
