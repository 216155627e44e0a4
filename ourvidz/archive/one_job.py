"""One job out of archives, as it was when it had ended."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Final

from sqlalchemy import Table

from ourvidz.archive.manifest import PREFIX
from ourvidz.archive.parquet import select_rows
from ourvidz.inspect.situation import Situation
from statemachine.errors import UnknownJob
from statemachine.store.chain import check
from statemachine.store.codec import stored
from statemachine.store.comparing import owner
from statemachine.store.schema import Row, job_events, job_payloads, jobs, rejected_writes

_ID: Final = re.compile(r"[0-9a-f-]{1,36}")


def situation_in(folder: Path, prefix: str) -> Situation:
    """The job whose id begins with `prefix`, of its latest version where it is in several archives of the folder.

    Raises UnknownJob when there is none, or more than one.
    """
    start = prefix.strip().lower()
    if not _ID.fullmatch(start):
        raise UnknownJob(f"{prefix!r} is no job id: wanted a UUID or its first characters")
    found = [(row, path) for path in sorted(folder.glob(f"{PREFIX}*")) for row in _rows(path, jobs, start, start + "~")]
    ids = sorted({row["id"] for row, _ in found})
    if not ids:
        raise UnknownJob(f"no job in {folder} has an id that begins with {start}")
    if len(ids) > 1:
        raise UnknownJob(f"{start} fits more than one job: {ids[0]}, {ids[1]}, …")
    (job_id,) = ids
    _, path = max(found, key=lambda one: one[0]["version"])
    rows = sorted(_rows(path, job_events, job_id, job_id), key=lambda row: row["version"])
    history = [stored(SimpleNamespace(**row)) for row in rows]
    proven = check(job_id, history)
    return Situation(
        job=proven.job,
        history=history,
        now=history[-1].at,
        content=next((json.loads(row["content"]) for row in _payloads(path, job_id) if row["content"]), {}),
        rejected=_rows(path, rejected_writes, job_id, job_id),
        past=True,
        findings=proven.findings,
    )


def _rows(path: Path, table: Table, first: str, last: str) -> list[Row]:
    return select_rows(path / f"{table.name}.parquet", owner(table).name, first, last)


def _payloads(path: Path, job_id: str) -> list[Row]:
    """None where the archive was made without what is personal."""
    there = (path / f"{job_payloads.name}.parquet").exists()
    return _rows(path, job_payloads, job_id, job_id) if there else []
