"""What is in archives is read by others, with the same names and the same answers as in the database."""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest
from sqlalchemy import Table, select

from ourvidz.archive.duck import statements
from ourvidz.archive.run import archive
from ourvidz.archive.telling import Step
from statemachine import decisions
from statemachine.store import EventStore, views
from statemachine.store.retention import TABLES
from statemachine.store.schema import job_events, jobs
from tests.archive.test_archive import order, seed, silent
from tests.fakes import FakeClock
from tests.statemachine.builders import claimed, live_through


@pytest.fixture
def store(store: EventStore) -> EventStore:
    store.clock = FakeClock()
    return store


def fail(store: EventStore) -> None:
    """A job that fails at its first attempt."""
    job = claimed(store)
    job = store.append(job, decisions.start(job, device="cpu"))
    trouble = decisions.give_up(job, error_class="permanent", error_type="Broken", message="m", now=store.now())
    job = store.append(job, trouble)
    store.append(job, decisions.finish(job, now=store.now(), notified=False))


def opened(folder: Path) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    for statement in statements(folder):
        connection.execute(statement)
    return connection


def plain(value: Any) -> Any:
    """Numbers as numbers, times as times: what a sum of integers is called differs from database to database."""
    if isinstance(value, Decimal | int | float):
        return round(float(value), 6)
    return value.astimezone(UTC) if isinstance(value, datetime) else value


def answers(rows: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
    return sorted((tuple(plain(value) for value in row) for row in rows), key=str)


def declared(name: str) -> Table:
    return {**jobs.metadata.tables, **views.declared.tables}[name]


def test_every_table_and_view_says_in_duckdb_what_it_said_in_the_database(store: EventStore, tmp_path: Path) -> None:
    """But for the daily views, which stay where the rollups are."""
    fail(store)
    seed(store, 3)
    with store.write() as connection:  # what waits is in no archive, so the database must not tell of it either
        connection.execute(jobs.delete().where(jobs.c.finished_at.is_(None)))
    names = [table.name for table in TABLES if table is not job_events]
    names += [name for name in views.SQL if not name.startswith(("daily_", "rollup_"))]
    with store.read() as connection:
        expected = {name: answers(connection.execute(select(declared(name))).all()) for name in names}
    archive(store, tmp_path, order(store), tell=silent)
    with opened(tmp_path) as duck:
        for name in names:
            columns = ", ".join(f'"{column.name}"' for column in declared(name).columns)
            found = duck.sql(f"SELECT {columns} FROM {name}").to_arrow_table().to_pylist()
            assert answers([list(row.values()) for row in found]) == expected[name], name
    assert len(expected["jobs"]) == 4
    assert len(expected["report_failures"]) == 1


def test_a_job_that_is_in_two_archives_is_that_of_its_latest_version(store: EventStore, tmp_path: Path) -> None:
    """Requeued while it was archived, and archived once more when it had ended again."""
    (job_id,) = seed(store, 1)

    def requeue(step: Step) -> None:
        job = store.load(job_id)
        if step.what == "complete" and job.run == 1:
            store.append(job, decisions.requeue(job, by="me", reason="again"))

    archive(store, tmp_path, order(store), tell=requeue)
    live_through(store, job_id)
    (other,) = seed(store, 1)
    events = len(store.history(job_id)) + len(store.history(other))
    archive(store, tmp_path, order(store), tell=silent)
    assert len(list(tmp_path.glob("archive-*/jobs.parquet"))) == 2
    with opened(tmp_path) as duck:
        assert duck.execute("SELECT run FROM jobs WHERE id = ?", [job_id]).fetchall() == [(2,)]
        assert duck.execute("SELECT count(*) FROM job_events").fetchone() == (events,)
        assert duck.execute("SELECT count(*) FROM jobs").fetchone() == (2,)


def test_pandas_reads_times_in_utc_and_whole_numbers(store: EventStore, tmp_path: Path) -> None:
    fail(store)
    seed(store, 1)
    archive(store, tmp_path, order(store), tell=silent)
    (path,) = tmp_path.glob("archive-*")
    frame = pd.read_parquet(path / "jobs.parquet", dtype_backend="numpy_nullable")
    assert str(frame["finished_at"].dtype) == "datetime64[us, UTC]"
    assert frame["finished_at"].min() == datetime(2025, 7, 16, 12, tzinfo=UTC)
    assert (str(frame["seed"].dtype), set(frame["seed"])) == ("Int64", {7})
    assert (str(frame["cancel_requested"].dtype), str(frame["id"].dtype)) == ("boolean", "string")
    attempts = pd.read_parquet(path / "job_attempts.parquet", dtype_backend="numpy_nullable")
    assert str(attempts["attempt"].dtype) == "Int32"
    assert attempts.groupby("outcome").size().to_dict() == {"failed": 1, "succeeded": 3}
