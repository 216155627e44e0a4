"""Projections held against what the history makes of them."""

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import Column, Connection, Table, select

from statemachine.job import Job
from statemachine.store.projections import rows_of
from statemachine.store.schema import Row, jobs

Found = Mapping[str, Mapping[str, list[Row]]]
"""Table name → job id → rows."""

TABLES: Final = tuple(table for table, _ in rows_of(Job(id="")))
"""Every projection."""


def owner(table: Table) -> Column[str]:
    """The column with the job's id."""
    return table.c.id if table is jobs else table.c.job_id


def found_rows(connection: Connection, job_ids: Sequence[str]) -> Found:
    """The rows that are there of these jobs."""
    found: dict[str, dict[str, list[Row]]] = {}
    for table in TABLES:
        of_table = found.setdefault(table.name, {job_id: [] for job_id in job_ids})
        for row in connection.execute(select(table).where(owner(table).in_(job_ids))).mappings():
            of_table[row[owner(table)]].append(dict(row))
    return found


def differences(job: Job, found: Found) -> dict[Table, str]:
    """Each table whose rows of the job are not what its history says → in what, in a few words."""
    different = {}
    for table, fresh in rows_of(job):
        if why := _difference(table, found[table.name][job.id], fresh):
            different[table] = why
    return different


def _difference(table: Table, found: list[Row], fresh: list[Row]) -> str:
    """Empty where the rows are equal, in whatever order."""
    there, wanted = _by_key(table, found), _by_key(table, fresh)
    wrong = []
    if lacking := len(wanted.keys() - there.keys()):
        wrong.append(f"{lacking} of {len(wanted)} rows missing")
    if strange := len(there.keys() - wanted.keys()):
        wrong.append(f"{strange} of {len(there)} rows without an event")
    columns = {
        name for key in wanted.keys() & there.keys() for name in wanted[key] if wanted[key][name] != there[key][name]
    }
    if columns:
        wrong.append(f"other values in {', '.join(name for name in (c.name for c in table.c) if name in columns)}")
    return ", ".join(wrong)


def _by_key(table: Table, rows: list[Row]) -> dict[tuple[object, ...], Row]:
    keys = [column.name for column in table.primary_key]
    return {tuple(row[key] for key in keys): row for row in rows}
