"""A job's history held against itself: versions, digests, transitions. Needs nothing but its rows."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from statemachine.errors import UnreadableHistory
from statemachine.events import AssetUploaded, Unknown
from statemachine.finding import Finding, Wrong, gone
from statemachine.job import Job, Stored
from statemachine.store.codec import chained, digest, envelope, follow, stored
from statemachine.table import REPLAY

FIRST: Final = "job_queued"
SEARCHES: Final = 8
"""For how many events of a job it is looked where they belong: each costs as many digests as events in the square."""


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """The last event that tells of a file in storage."""

    job_id: str
    version: int
    file: AssetUploaded

    @property
    def place(self) -> str:
        """Where the file is."""
        return f"{self.file.bucket}/{self.file.key}"


class History(msgspec.Struct, frozen=True, kw_only=True):
    """What the rows add up to, as far as they can be read, and what is wrong with them."""

    job: Job
    findings: list[Finding]
    uploads: list[Upload]


def check(job_id: str, rows: Sequence[Any]) -> History:
    """Check rows of `job_events`, or events that were read from them, in the order of their versions.

    Where an event is missing or was changed, what it led to is not held against those behind it.
    """
    findings = list(_links(job_id, rows))
    job, believed, uploads = Job(id=job_id), not findings, dict[str, Upload]()
    for row in rows:
        try:
            event = stored(row)
            after = follow(job, event)
        except UnreadableHistory as error:
            findings.append(_wrong(Wrong.UNREADABLE, row, str(error).partition(": ")[2]))
            break
        if believed and (why := _illegal(job, event)):
            findings.append(_wrong(Wrong.ILLEGAL, row, why))
        job = after
        if isinstance(event.event, AssetUploaded):
            upload = Upload(job_id=job_id, version=row.version, file=event.event)
            uploads[upload.place] = upload  # a later run puts its own file in an earlier one's place
    return History(job=job, findings=findings, uploads=list(uploads.values()))


def _links(job_id: str, rows: Sequence[Any]) -> Iterator[Finding]:
    """Each event follows from the one before it, from the first on."""
    version, before, blamed, searches = 0, "", False, 0
    for row in rows:
        if row.version > version + 1:
            said = f"{gone('version', version + 1, row.version - 1)} missing"
            yield Finding(kind=Wrong.MISSING, job_id=job_id, version=version + 1, said=said)
            blamed = True
        elif row.version <= version:
            yield _wrong(Wrong.MOVED, row, f"stands behind version {version}")
            blamed = True
        elif digest(before, row) == row.digest:
            blamed = False
        else:
            written, searches = _written_as(row, rows) if searches < SEARCHES else None, searches + 1
            if written is None:
                yield _wrong(Wrong.CHANGED, row, f"this {row.kind}, or the event before it, is not what was written")
            elif written != row.version:
                yield _wrong(Wrong.MOVED, row, f"this {row.kind} was written as version {written}")
            elif not blamed:
                yield _wrong(Wrong.CHANGED, row, "the event before it is not the one that it was written behind")
            blamed = written != row.version
        version, before = row.version, row.digest


def _written_as(row: Any, rows: Sequence[Any]) -> int | None:
    """The version at which the row was written as it is, behind any of these events. None where it was changed."""
    befores = ["", *(one.digest for one in rows)]
    for other in rows:
        said = envelope(row, version=other.version)
        if any(chained(before, said) == row.digest for before in befores):
            return int(other.version)
    return None


def _illegal(job: Job, stored: Stored) -> str | None:
    """Why the event may not follow where it stands. Kinds of a later version are believed."""
    event = stored.event
    if (stored.version == 1) != (event.kind == FIRST):
        return f"a history begins with {FIRST}, and with it alone: this is {stored.kind}"
    if job.last_at is not None and stored.at < job.last_at:
        return f"{stored.kind} is dated before the event that it follows"
    known = job.state if job.version else None
    if stored.from_state is not known:
        return f"{stored.kind} is said to have met the state {stored.from_state}, and it was {known}"
    if stored.run != getattr(event, "run", job.run):
        return f"{stored.kind} is said to be of run {stored.run}, and the run was {job.run}"
    if isinstance(event, Unknown) or stored.to_state in REPLAY.get((event.kind, job.state), ()):
        return None
    return f"{stored.kind} may not lead from {job.state} to {stored.to_state}"


def _wrong(kind: Wrong, row: Any, said: str) -> Finding:
    return Finding(kind=kind, job_id=row.job_id, version=row.version, said=said)
