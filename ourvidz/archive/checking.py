"""Checking archives: the files are what was written, and each history in them still proves itself."""

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
from statemachine.store.archive_schema import archives
from statemachine.store.chain import check as check_chain
from statemachine.store.schema import job_events, jobs


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """One archive: what was looked at, and what is wrong with it."""

    archive: str
    jobs: int
    events: int
    wrong: list[str]


def check(store: EventStore, folder: Path) -> Iterator[Checked]:
    """Check every archive in the folder, against its manifest, the manifest against the database, and all histories."""
    with store.read() as connection:
        known = {row.name: row.digest for row in connection.execute(select(archives.c.name, archives.c.digest))}
    for path in sorted(folder.glob(f"{manifests.PREFIX}*")):
        yield _check(path, known.get(path.name))


def _check(path: Path, known: str | None) -> Checked:
    try:
        manifest = manifests.read(path)
        manifests.check(path, manifest)
    except ArchiveDamaged as damaged:
        return Checked(archive=path.name, jobs=0, events=0, wrong=[str(damaged)])
    wrong = []
    if known is None:
        wrong.append(f"{path}: this database knows of no such archive")
    elif known != manifests.digest(path / manifests.FILE):
        wrong.append(f"{path}: its {manifests.FILE} is not the one that was written")
    number = 0
    for group in range(groups(path / manifest.tables[jobs.name].file)):
        ends = {row["id"]: row for row in read_group(path / manifest.tables[jobs.name].file, group)}
        events = [SimpleNamespace(**row) for row in read_group(path / manifest.tables[job_events.name].file, group)]
        number += len(events)
        for job_id, history in groupby(events, key=attrgetter("job_id")):
            end = ends.pop(job_id, None)
            found = check_chain(job_id, sorted(history, key=attrgetter("version")))
            wrong += [f"job {job_id}: version {finding.version}: {finding.said}" for finding in found.findings]
            if end is None or (found.job.version, found.job.digest) != (end["version"], end["digest"]):
                wrong.append(f"job {job_id}: its history does not end as its row in jobs says")
        wrong += [f"job {job_id}: it has no history" for job_id in ends]
    return Checked(archive=path.name, jobs=manifest.jobs, events=number, wrong=wrong)
