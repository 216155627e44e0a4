"""Writing an archive: under a temporary name, with a manifest, made durable, renamed. Nothing is removed here."""

import secrets
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Final

import msgspec
from sqlalchemy import Table

from ourvidz._version import __version__
from ourvidz.archive.manifest import FILE, FORMAT, PREFIX, Manifest, TableFile, digest, encoded
from ourvidz.archive.parquet import TableWriter
from ourvidz.archive.telling import Step, Tell
from ourvidz.durably import sync
from statemachine.states import State
from statemachine.store import EventStore
from statemachine.store.retention import TABLES, Chosen, Rows, choose, read_rows
from statemachine.store.schema import job_payloads, jobs
from statemachine.store.schema_version import REQUIRED

PARTIAL: Final = ".partial-"
"""Names of archives that are not complete begin so. Whoever finds one may remove it."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be archived. `payloads`: with what is personal.

    `jobs_in_group` are read in one snapshot and held in memory together, some 20,000 events; `groups` are one archive:
    what a run has written when it is killed is not much.
    """

    ends_before: Mapping[State, datetime]
    payloads: bool
    by: str
    jobs_in_group: int = 1000
    groups: int = 50

    @property
    def tables(self) -> tuple[Table, ...]:
        """What an archive of it holds."""
        return (*TABLES, job_payloads) if self.payloads else TABLES


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """A complete archive, and the last job in it, behind which the next one goes on."""

    path: Path
    last: Chosen


def write(store: EventStore, folder: Path, order: Order, *, after: Chosen | None, tell: Tell) -> Written | None:
    """Write the next archive of jobs behind `after`. None when there are no more."""
    groups = _groups(store, order, after)
    first = next(groups, None)
    if first is None:
        return None
    now = store.now().astimezone(UTC)
    name = f"{PREFIX}{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
    partial = folder / (PARTIAL + name)
    partial.mkdir()
    states: Counter[str] = Counter()
    ends: list[Chosen] = []
    with ExitStack() as stack:
        writers = [TableWriter(table, partial / f"{table.name}.parquet") for table in order.tables]
        for writer in writers:
            stack.enter_context(closing(writer))
        for chosen, rows in chain([first], groups):
            for writer in writers:
                writer.write(rows[writer.table])
            states.update(row["state"] for row in rows[jobs])
            ends += [chosen[0], chosen[-1]]
            tell(Step(archive=name, what="writing", jobs=states.total()))
    manifest = Manifest(
        format=FORMAT,
        name=name,
        made_at=now,
        made_by=order.by,
        program=__version__,
        schema=REQUIRED,
        jobs=states.total(),
        states=dict(states),
        first_finished_at=ends[0].finished_at,
        last_finished_at=ends[-1].finished_at,
        tables={writer.table.name: _described(writer) for writer in writers},
    )
    (partial / FILE).write_bytes(encoded(manifest))
    for file in partial.iterdir():
        sync(file)
    sync(partial)
    tell(Step(archive=name, what="written", jobs=manifest.jobs, of=manifest.jobs))
    path = partial.rename(folder / name)
    sync(folder)
    tell(Step(archive=name, what="complete", jobs=manifest.jobs, of=manifest.jobs))
    return Written(path=path, last=ends[-1])


def _groups(store: EventStore, order: Order, after: Chosen | None) -> Iterator[tuple[list[Chosen], Rows]]:
    """Jobs and their rows. Each group is one snapshot: SQLite's log must not grow for as long as all of them take."""
    for _ in range(order.groups):
        with store.read() as connection:
            chosen = choose(connection, order.ends_before, after=after, limit=order.jobs_in_group)
            rows = read_rows(connection, [job.job_id for job in chosen], tables=order.tables)
        if not chosen:
            return
        yield chosen, rows
        after = chosen[-1]


def _described(writer: TableWriter) -> TableFile:
    path = writer.path
    return TableFile(file=path.name, rows=writer.rows, bytes=path.stat().st_size, digest=digest(path))
