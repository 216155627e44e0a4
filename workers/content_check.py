"""What is personal of a job, held against the digests that its history has of it."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from statemachine.finding import Finding, Wrong
from statemachine.job import Job
from workers import values
from workers.arrivals import Unreadable, parse
from workers.request import CONTENT
from workers.spool import sha256


def content_findings(job: Job, row: Mapping[str, Any] | None) -> Iterator[Finding]:
    """What is wrong with the job's row in `job_payloads`, if it has a history that can be held against it."""
    raw, content = (None, None) if row is None else (row["raw"], row["content"])
    if not job.version:
        return
    if job.erased is not None:
        if raw is not None or content is not None:
            yield _wrong(job, Wrong.ERASED_LEFT, "`job_payloads` has its content still, and it was to go")
        return
    if not _came(raw, job.payload_digest):
        yield _wrong(job, Wrong.CONTENT, "the payload is not the one that came")
    kept = _read(content)
    asked = {name: kept.get(name) for name in CONTENT}
    if job.content_digest is not None and values.digest(asked) != job.content_digest:
        yield _wrong(job, Wrong.CONTENT, "prompts or references are not those that came")
    enhanced = kept.get("enhanced_prompt")
    if (None if enhanced is None else sha256(str(enhanced).encode())) != job.enhanced_digest:
        yield _wrong(job, Wrong.CONTENT, "the enhanced prompt is not the one that was accepted", version=None)


def _came(raw: bytes | None, digest: str) -> bool:
    if raw is None:
        return False
    try:
        return values.digest(parse(raw, max_bytes=len(raw)).payload) == digest
    except Unreadable:
        return False


def _read(content: str | None) -> dict[str, Any]:
    try:
        read = json.loads(content or "{}")
    except ValueError:
        return {}
    return read if isinstance(read, dict) else {}


def _wrong(job: Job, kind: Wrong, said: str, *, version: int | None = 1) -> Finding:
    return Finding(kind=kind, job_id=job.id, version=version, said=said)
