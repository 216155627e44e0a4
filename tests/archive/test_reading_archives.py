"""What is in archives is read by others, with the same names and the same answers as in the database."""

import re
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest
from sqlalchemy import Table, func, select

from docs.answers import ask, write_history
from ourvidz.archive.duck import named, statements
from ourvidz.archive.run import archive
from ourvidz.archive.telling import Step
from ourvidz.migrate import upgrade
from statemachine import decisions
from statemachine.store import EventStore, open_store, views
from statemachine.store.comparing import owner
from statemachine.store.retention import TABLES
from statemachine.store.schema import job_events, jobs, workers
from tests.archive.test_archive import order, seed, silent
from tests.fakes import FakeClock
from tests.statemachine.builders import claimed, live_through
from tests.test_sql_page import QUESTIONS

NOT_ARCHIVED = {name for name in (*jobs.metadata.tables, *views.SQL) if name.startswith(("daily_", "rollup_"))}
NOT_ARCHIVED |= {"dead_letters", "job_leases", "queues", "anchors"}


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


def test_a_folder_is_opened_by_its_own_name_whatever_it_is(store: EventStore, tmp_path: Path) -> None:
    """`arch[12]` is no pattern that finds `arch1`, and a quote ends no string."""
    folder, neighbour = tmp_path / "o'arch[12]*", tmp_path / "o'arch1"
    seed(store, 1)
    archive(store, folder, order(store), tell=silent)
    seed(store, 2)
    archive(store, neighbour, order(store), tell=silent)
    with opened(folder) as duck:
        assert duck.execute("SELECT count(*) FROM jobs").fetchone() == (1,)


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


class Cursor:
    """DuckDB's own wants a package of time zones to give times back."""

    def __init__(self, duck: duckdb.DuckDBPyConnection) -> None:
        self._duck = duck

    def execute(self, question: str) -> None:
        self._found = self._duck.sql(question).to_arrow_table()

    @property
    def description(self) -> list[tuple[str]]:
        return [(name,) for name in self._found.column_names]

    def fetchall(self) -> list[list[Any]]:
        return [list(row.values()) for row in self._found.to_pylist()]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[sqlite3.Cursor, duckdb.DuckDBPyConnection]:
    """The history of docs/sql.md, as far as it has ended: in a database, and in archives."""
    folder = tmp_path_factory.mktemp("night")
    url = f"sqlite:///{folder}/night.sqlite"
    upgrade(url)
    write_history(url)
    store = open_store(url)
    with store.write() as connection:  # workers, and what has not ended, are in no archive
        live = select(jobs.c.id).where(jobs.c.finished_at.is_(None))
        for table in reversed([table for table in TABLES if table is not job_events]):
            connection.execute(table.delete().where(owner(table).in_(live)))
        connection.execute(workers.delete())
    with sqlite3.connect(folder / "night.sqlite") as source, sqlite3.connect(folder / "before.sqlite") as target:
        source.backup(target)
        target.execute("DROP TRIGGER job_events_no_delete")
        target.execute("DELETE FROM job_events WHERE job_id NOT IN (SELECT id FROM jobs)")
    archive(store, folder, order(store), tell=silent)
    with store.read() as connection:
        assert connection.scalar(select(func.count()).select_from(jobs)) == 0
    store.close()
    return sqlite3.connect(folder / "before.sqlite").cursor(), opened(folder)


@pytest.mark.parametrize(
    ("question", "_shown"), [one for one in QUESTIONS if not named(str(one.values[0])) & NOT_ARCHIVED]
)
def test_the_questions_of_the_page_are_answered_from_archives(
    both: tuple[sqlite3.Cursor, duckdb.DuckDBPyConnection], question: str, _shown: str
) -> None:
    """As they stand on the page, but for quotes around `at`."""
    database, duck = both
    names, rows = ask(database, question)
    found, told = ask(Cursor(duck), re.sub(r"\bat\b", '"at"', question))
    assert (found, sorted(told)) == (names, sorted(rows))
