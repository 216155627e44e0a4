"""Checking archives: the files are what was written, each history in them proves itself, and no job is missing."""

from collections.abc import Iterator
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from types import SimpleNamespace

import msgspec
from sqlalchemy import select

from ourvidz.archive import manifest as manifests
from ourvidz.archive.errors import ArchiveDamaged
from ourvidz.archive.parquet import groups, read_group
from statemachine.store import EventStore
from statemachine.store.archive_schema import archived_jobs, archives
from statemachine.store.chain import check as check_chain
from statemachine.store.schema import job_events, jobs

Ends = dict[str, tuple[int, str]]
"""Job → version and digest with which it ended."""


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """One archive: what was looked at, and what is wrong with it."""

    archive: str
    jobs: int = 0
    events: int = 0
    wrong: list[str]


def check(store: EventStore, folder: Path) -> Iterator[Checked]:
    """Check every archive in the folder, and that each one is there which the database says was made in it."""
    with store.read() as connection:
        known = {row.name: row for row in connection.execute(select(archives))}
    missing = {name for name, row in known.items() if row.place == str(folder)}
    for path in sorted(folder.glob(f"{manifests.PREFIX}*")):
        missing.discard(path.name)
        yield _check(path, known[path.name].digest if path.name in known else None, _ends(store, path.name))
    for name in sorted(missing):
        yield Checked(archive=name, wrong=[f"{folder / name}: it is not there any more"])


def _ends(store: EventStore, name: str) -> Ends:
    """What the database says to be in that archive."""
    query = select(archived_jobs).where(archived_jobs.c.archive == name)
    with store.read() as connection:
        return {row.job_id: (row.version, row.digest) for row in connection.execute(query)}


def _check(path: Path, known: str | None, expected: Ends) -> Checked:
    try:
        manifest = manifests.read(path)
        manifests.check(path, manifest)
    except ArchiveDamaged as damaged:
        return Checked(archive=path.name, wrong=[str(damaged)])
    wrong = []
    if known is None:
        wrong.append(f"{path}: this database knows of no such archive")
    elif known != manifests.digest(path / manifests.FILE):
        wrong.append(f"{path}: its {manifests.FILE} is not the one that was written")
    number = 0
    ends, events = (path / manifest.tables[table.name].file for table in (jobs, job_events))
    for group in range(groups(ends)):
        rows = [SimpleNamespace(**row) for row in read_group(events, group)]
        number += len(rows)
        wrong += _histories(
            rows, {row["id"]: (row["version"], row["digest"]) for row in read_group(ends, group)}, expected
        )
    wrong += [f"job {job_id}: it is said to be in here, and is not" for job_id in sorted(expected)]
    return Checked(archive=path.name, jobs=manifest.jobs, events=number, wrong=wrong)


def _histories(events: list[SimpleNamespace], ends: Ends, expected: Ends) -> Iterator[str]:
    """What is wrong with a group of jobs. Those that are found are taken out of `expected`."""
    for job_id, history in groupby(events, key=attrgetter("job_id")):
        found = check_chain(job_id, sorted(history, key=attrgetter("version")))
        yield from (f"job {job_id}: version {finding.version}: {finding.said}" for finding in found.findings)
        end = (found.job.version, found.job.digest)
        if end != ends.pop(job_id, None):
            yield f"job {job_id}: its history does not end as its row in jobs says"
        if end != expected.pop(job_id, end):
            yield f"job {job_id}: its history does not end as the database says"
    yield from (f"job {job_id}: it has no history" for job_id in ends)
