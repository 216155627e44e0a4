"""Verifying: each job's history against itself, against its projections and against the anchors."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Engine, select

from statemachine.errors import UnknownJob
from statemachine.finding import Finding, Wrong
from statemachine.job import Job
from statemachine.store.against_anchors import Known, contradictions, known_of, late
from statemachine.store.anchors import newest
from statemachine.store.anchors_schema import anchored_jobs, anchors
from statemachine.store.archive_schema import archived_jobs, archives
from statemachine.store.chain import History, Upload, check
from statemachine.store.comparing import Found, differences, found_rows
from statemachine.store.database import reading
from statemachine.store.reading import resolve
from statemachine.store.schema import Row, job_events, job_payloads, jobs
from statemachine.store.walking import EVERYWHERE, next_ids, next_of

LATE: Final = timedelta(hours=1)
_PLACES: Final = (*EVERYWHERE, anchored_jobs.c.job_id)
"""Where a job may be found, though somebody has removed it from the others."""


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """One job was looked at. `job` is what its history adds up to, as far as it can be read.

    `late` of its events were anchored late; `payload` is its row in `job_payloads`, for who knows what digests are made
    of.
    """

    job: Job
    events: int = 0
    late: int = 0
    archived: bool = False
    uploads: list[Upload] = []
    payload: Row | None = None
    findings: list[Finding]


def verify(
    engine: Engine, job_ids: Sequence[str] | None = None, *, patience: timedelta = LATE
) -> Iterator[list[Verified]]:
    """Look at the given jobs, or at all that anything tells of; a batch at a time, each on one snapshot.

    An event is late that waited longer for its anchor than `patience`.
    """
    after, ordered = "", None if job_ids is None else sorted(set(job_ids))
    while True:
        with reading(engine) as connection:
            batch = next_ids(connection, after, _PLACES) if ordered is None else next_of(ordered, after)
            done = list(_verify(connection, batch, patience)) if batch else []
        if not batch:
            return
        yield done
        after = batch[-1]


def whose(connection: Connection, prefix: str) -> str:
    """The one job whose id begins with `prefix`, also where nothing is left of it but what anchors know.

    Raises UnknownJob when there is none, or more than one.
    """
    try:
        return resolve(connection, prefix)
    except UnknownJob:
        start = prefix.strip().lower()
        found = set[str]()
        for column in (anchored_jobs.c.job_id, job_events.c.job_id):
            begins = select(column).distinct().where(column >= start, column <= start + "~").limit(2)
            found.update(connection.scalars(begins))
        if len(found) != 1:
            raise
        return found.pop()


def since(connection: Connection, moment: datetime) -> list[str]:
    """The jobs that were queued since then, or anchored since then, or that no anchor covers yet."""
    last = newest(connection)
    above = 0 if last is None else last.up_to
    covered = select(anchored_jobs.c.job_id).join(anchors, anchors.c.sequence == anchored_jobs.c.anchor)
    places = [
        select(jobs.c.id).where(jobs.c.queued_at >= moment),
        covered.where(anchors.c.at >= moment),
        select(job_events.c.job_id).where(job_events.c.position > above),
    ]
    return sorted({job_id for statement in places for job_id in connection.scalars(statement)})


def _verify(connection: Connection, batch: Sequence[str], patience: timedelta) -> Iterator[Verified]:
    rows: dict[str, list[Any]] = {job_id: [] for job_id in batch}
    events = select(job_events).where(job_events.c.job_id.in_(batch))
    for row in connection.execute(events.order_by(job_events.c.job_id, job_events.c.version)):
        rows[row.job_id].append(row)
    known, found, last = known_of(connection, batch), found_rows(connection, batch), newest(connection)
    ends = select(archived_jobs).where(archived_jobs.c.job_id.in_(batch))
    archived = {row["job_id"]: dict(row) for row in connection.execute(ends).mappings()}
    names = select(archives.c.name).where(archives.c.name.in_({row["archive"] for row in archived.values()}))
    known_archives = set(connection.scalars(names)) if archived else set()
    contents = select(job_payloads).where(job_payloads.c.job_id.in_(batch))
    payloads = {row["job_id"]: dict(row) for row in connection.execute(contents).mappings()}
    up_to = 0 if last is None else last.up_to
    for job_id in batch:
        left = any(rows_of_job[job_id] for rows_of_job in (rows, *found.values()))
        if job_id in archived and not left:
            findings = list(_against_archive(archived[job_id], known[job_id], known_archives))
            yield Verified(job=Job(id=job_id), archived=True, findings=findings)
        else:
            history, findings = _one(job_id, rows[job_id], known[job_id], found, up_to)
            yield Verified(
                job=history.job,
                events=len(rows[job_id]),
                late=late(rows[job_id], known[job_id], patience),
                uploads=history.uploads,
                payload=payloads.get(job_id),
                findings=findings,
            )


def _one(job_id: str, rows: list[Any], known: list[Known], found: Found, up_to: int) -> tuple[History, list[Finding]]:
    history = check(job_id, rows)
    findings = [*history.findings, *contradictions(job_id, rows, known, up_to)]
    counted = max((row["version"] for row in found[jobs.name][job_id]), default=0)
    if not rows and not known:
        findings.append(Finding(kind=Wrong.NO_HISTORY, job_id=job_id, said="it has a row in `jobs`, and no event"))
    elif counted > history.job.version and not findings:
        first = history.job.version + 1
        said = f"`jobs` counts {counted} events, and the history ends before version {first}"
        findings.append(Finding(kind=Wrong.MISSING, job_id=job_id, version=first, said=said))
    elif not findings:
        findings += [
            Finding(kind=Wrong.PROJECTION, job_id=job_id, version=history.job.version, said=f"{table.name}: {why}")
            for table, why in differences(history.job, found).items()
        ]
    return history, findings


def _against_archive(end: Row, known: list[Known], known_archives: set[str]) -> Iterator[Finding]:
    """A job goes when its last event is anchored, where there are anchors: they know of it what it ended with."""
    if end["archive"] not in known_archives:
        said = f"it is said to be in the archive {end['archive']}, and there is none"
        yield Finding(kind=Wrong.CUT, job_id=end["job_id"], version=1, said=said)
    elif known and (known[-1].version, known[-1].digest) != (end["version"], end["digest"]):
        last = known[-1]
        said = f"it is said to have ended with version {end['version']} in {end['archive']}, and anchor {last.anchor} "
        said += f"covers another version {last.version}"
        yield Finding(kind=Wrong.CUT, job_id=last.job_id, version=last.version, anchor=last.anchor, said=said)
