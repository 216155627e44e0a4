"""Removing from the database what a complete archive holds: read back, compared, and only then removed."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec
from sqlalchemy import Table, select

from ourvidz.archive import manifest as manifests
from ourvidz.archive.manifest import Manifest
from ourvidz.archive.parquet import groups, read_group
from ourvidz.archive.telling import Step, Tell
from statemachine.store import EventStore
from statemachine.store.archive_schema import archives
from statemachine.store.comparing import owner
from statemachine.store.projections import upsert
from statemachine.store.retention import AT_ONCE, TABLES, Rows, remove
from statemachine.store.schema import Row, job_payloads, jobs
from statemachine.store.schema_version import REQUIRED

_NAMED: Final = {table.name: table for table in (*TABLES, job_payloads)}


class Emptied(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the jobs in one archive."""

    archive: str
    removed: int
    left: list[str]


def unfinished(store: EventStore, folder: Path) -> list[Path]:
    """Complete archives in the folder of which the database does not know that all was removed, the oldest first."""
    with store.read() as connection:
        done = set(connection.scalars(select(archives.c.name).where(archives.c.done_at.is_not(None))))
    return [path for path in sorted(folder.glob(f"{manifests.PREFIX}*")) if path.name not in done]


def empty(store: EventStore, path: Path, *, by: str, tell: Tell) -> Emptied | None:
    """Remove the jobs that are here just as they are in the archive. Safe to run twice, and after a crash anywhere.

    Raises ArchiveDamaged before anything is removed. None for an archive of other tables than today's, which cannot be
    compared: its jobs stay, and go into another one.
    """
    manifest = manifests.read(path)
    if manifest.schema != REQUIRED:
        return None
    manifests.check(path, manifest)
    _register(store, path, manifest, done_at=None)
    removed, left = 0, list[str]()
    for rows in _portions(path, manifest):
        with store.write() as connection:
            found = remove(connection, rows, archive=manifest.name, by=by, at=store.now())
        removed += len(found.removed)
        left += found.left
        tell(Step(archive=manifest.name, what="removing", jobs=removed, of=manifest.jobs))
    _register(store, path, manifest, done_at=store.now())
    tell(Step(archive=manifest.name, what="done", jobs=removed, of=manifest.jobs))
    return Emptied(archive=manifest.name, removed=removed, left=left)


def _register(store: EventStore, path: Path, manifest: Manifest, *, done_at: datetime | None) -> None:
    row = {
        "name": manifest.name,
        "place": str(path.parent),
        "digest": manifests.digest(path / manifests.FILE),
        "jobs": manifest.jobs,
        "first_finished_at": manifest.first_finished_at,
        "last_finished_at": manifest.last_finished_at,
        "made_at": manifest.made_at,
        "made_by": manifest.made_by,
        "done_at": done_at,
    }
    with store.write() as connection:
        upsert(connection, archives, [row])


def _portions(path: Path, manifest: Manifest) -> Iterator[Rows]:
    """All that is in the archive, the rows of at most `AT_ONCE` jobs at a time."""
    files = {_NAMED[name]: path / table.file for name, table in manifest.tables.items()}
    for number in range(groups(files[jobs])):
        rows = {table: read_group(file, number) for table, file in files.items()}
        ids = [row["id"] for row in rows[jobs]]
        for first in range(0, len(ids), AT_ONCE):
            some = set(ids[first : first + AT_ONCE])
            yield {table: _of(table, table_rows, some) for table, table_rows in rows.items()}


def _of(table: Table, rows: list[Row], job_ids: set[str]) -> list[Row]:
    job_id = owner(table).name
    return [row for row in rows if row[job_id] in job_ids]
