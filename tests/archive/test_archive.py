"""Archiving: whatever happens, a job is in the database or in a complete archive, and what others read is the same."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, select

from ourvidz.archive import manifest as manifests
from ourvidz.archive.errors import ArchiveBusy, ArchiveDamaged
from ourvidz.archive.parquet import groups, read_group
from ourvidz.archive.run import Run, archive
from ourvidz.archive.telling import Step
from ourvidz.archive.writing import Order
from ourvidz.backup import back_up
from statemachine import decisions
from statemachine.states import TERMINAL
from statemachine.store import EventStore, open_store
from statemachine.store.archive_schema import archived_jobs, archives
from statemachine.store.retention import TABLES, Rows, read_rows
from statemachine.store.schema import Row, job_payloads, jobs
from tests.fakes import Crash, FakeClock
from tests.statemachine.builders import live_through, new_job

DAY = 86_400.0


@pytest.fixture
def store(store: EventStore) -> EventStore:
    store.clock = FakeClock()
    return store


def seed(store: EventStore, number: int) -> list[str]:
    """Jobs that ended two days ago, and one that waits, since nobody can make it."""
    ids = [live_through(store) for _ in range(number)]
    store.admit([new_job(job_type="video7b_fast_enhanced")])
    assert isinstance(store.clock, FakeClock)
    store.clock.advance(2 * DAY)
    return sorted(ids)


def order(store: EventStore, *, payloads: bool = False, groups: int = 2) -> Order:
    """All that has ended, two jobs a group."""
    return Order(
        ends_before=dict.fromkeys(TERMINAL, store.now()), payloads=payloads, by="me", jobs_in_group=2, groups=groups
    )


def silent(step: Step) -> None:
    """Nobody listens."""


def here(store: EventStore) -> list[str]:
    """Jobs that ended and are in the database."""
    with store.read() as connection:
        return list(connection.scalars(select(jobs.c.id).where(jobs.c.finished_at.is_not(None)).order_by(jobs.c.id)))


def rows_here(store: EventStore, job_ids: list[str]) -> Rows:
    with store.read() as connection:
        return read_rows(connection, job_ids)


def rows_in(folder: Path) -> dict[str, list[Row]]:
    """What all complete archives hold, as somebody else would read it: by the files alone."""
    found: dict[str, list[Row]] = {table.name: [] for table in TABLES}
    for path in sorted(folder.glob("archive-*")):
        manifest = manifests.read(path)
        manifests.check(path, manifest)
        for name, table in manifest.tables.items():
            file = path / table.file
            rows = [row for number in range(groups(file)) for row in read_group(file, number)]
            assert len(rows) == table.rows
            found.setdefault(name, []).extend(rows)
    return found


def by_name(rows: Rows) -> dict[str, list[Row]]:
    return {table.name: list(table_rows) for table, table_rows in rows.items()}


def sorted_rows(rows: dict[str, list[Row]]) -> dict[str, list[Row]]:
    """As the order of jobs is another in archives."""
    return {name: sorted(table_rows, key=lambda row: str(list(row.values()))) for name, table_rows in rows.items()}


def test_an_archive_holds_every_row_of_what_is_removed(store: EventStore, tmp_path: Path) -> None:
    ids = seed(store, 5)
    before = by_name(rows_here(store, ids))
    run = archive(store, tmp_path, order(store), tell=silent)
    assert [(one.removed, one.left) for one in run.emptied] == [(4, []), (1, [])]
    assert here(store) == []
    assert sorted_rows(rows_in(tmp_path)) == sorted_rows(before)
    with store.read() as connection:
        assert connection.scalar(select(func.count()).select_from(jobs)) == 1
        assert connection.scalar(select(func.count()).select_from(job_payloads)) == 1
        known = connection.execute(select(archives).order_by(archives.c.jobs.desc())).all()
    assert [(one.place, one.jobs, one.made_by) for one in known] == [(str(tmp_path), 4, "me"), (str(tmp_path), 1, "me")]
    assert all(one.digest == manifests.digest(tmp_path / one.name / "manifest.json") for one in known)
    assert archive(store, tmp_path, order(store), tell=silent) == Run(emptied=[], skipped=[])


def test_what_is_personal_goes_with_the_job_unless_it_is_to_be_kept(store: EventStore, tmp_path: Path) -> None:
    (job_id,) = seed(store, 1)
    archive(store, tmp_path / "without", order(store), tell=silent)
    (kept,) = seed(store, 1)
    archive(store, tmp_path / "with", order(store, payloads=True), tell=silent)
    files = [path.read_bytes() for path in (tmp_path / "without").rglob("*.parquet")]
    assert files
    assert not any(b"heron" in data for data in files)
    (row,) = rows_in(tmp_path / "with")["job_payloads"]
    assert (row["job_id"], row["raw"], row["content"]) == (kept, b'{"a": 1}', '{"prompt":"a heron"}')
    with store.read() as connection:
        assert not set(connection.scalars(select(job_payloads.c.job_id))) & {job_id, kept}


class Dying(EventStore):
    """Dies inside of a write, before its commit, or just behind it."""

    def __init__(self, store: EventStore, effect: Callable[[], None]) -> None:
        super().__init__(store.engine, clock=store.clock, wakeups=store.wakeups)
        self._effect = effect

    @contextmanager
    def write(self) -> Iterator[Connection]:
        with super().write() as connection:
            yield connection
            self._effect()
        self._effect()


class Death:
    """Dies at one of its steps, counted from 0; or at none, and counts them."""

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self.steps = 0

    def __call__(self, *_: object) -> None:
        self.steps += 1
        if self.steps - 1 == self.at:
            raise Crash


def test_a_crash_at_any_step_loses_nothing_and_the_next_run_finishes(store: EventStore, tmp_path: Path) -> None:
    """Before the end, each job is here, or in a complete archive with the very rows that it had here; or in both."""
    counting = Death()
    seed(store, 3)
    archive(Dying(store, counting), tmp_path / "all", order(store, groups=1), tell=counting)
    assert counting.steps > 20
    for step in range(counting.steps):
        folder = tmp_path / str(step)
        ids = seed(store, 3)
        before = by_name(rows_here(store, ids))
        death = Death(step)
        with pytest.raises(Crash):
            archive(Dying(store, death), folder, order(store, groups=1), tell=death)
        kept, left = rows_in(folder), here(store)
        gone = [job_id for job_id in ids if job_id not in left]
        with store.read() as connection:
            known = set(connection.scalars(select(archived_jobs.c.job_id).where(archived_jobs.c.job_id.in_(ids))))
        assert known == set(gone)
        assert by_name(rows_here(store, left)) == of(before, left)
        assert sorted_rows(of(kept, gone)) == sorted_rows(of(before, gone))
        archive(store, folder, order(store), tell=silent)
        assert here(store) == []
        assert sorted_rows(rows_in(folder)) == sorted_rows(before)  # and no job is there twice
        assert not list(folder.glob(".partial-*"))
        with store.read() as connection:
            assert connection.scalar(select(func.count()).where(archives.c.done_at.is_(None))) == 0


def of(rows: dict[str, list[Row]], job_ids: list[str]) -> dict[str, list[Row]]:
    """Those of these jobs."""
    return {
        name: [row for row in table_rows if row["id" if name == "jobs" else "job_id"] in job_ids]
        for name, table_rows in rows.items()
    }


def test_a_job_that_is_requeued_while_it_is_archived_stays(store: EventStore, tmp_path: Path) -> None:
    requeued, other = seed(store, 2)

    def requeue(step: Step) -> None:
        if step.what == "complete":
            store.append(store.load(requeued), decisions.requeue(store.load(requeued), by="me", reason="again"))

    run = archive(store, tmp_path, order(store), tell=requeue)
    assert [(one.removed, one.left) for one in run.emptied] == [(1, [requeued])]
    assert store.load(requeued).run == 2
    assert store.admit([new_job(other)])[0].verdict == "duplicate"


@pytest.mark.parametrize("damage", ["change", "remove", "manifest"])
def test_nothing_is_removed_for_an_archive_that_is_damaged(store: EventStore, tmp_path: Path, damage: str) -> None:
    """The disk lost what it had said was on it, before anything was removed."""
    ids = seed(store, 2)

    def harm(step: Step) -> None:
        if step.what == "complete":
            path = tmp_path / step.archive
            match damage:
                case "change":
                    file = path / "job_assets.parquet"
                    file.write_bytes(file.read_bytes()[:-9] + b"123456789")
                case "remove":
                    (path / "job_events.parquet").unlink()
                case _:
                    (path / "manifest.json").write_text("{}")

    with pytest.raises(ArchiveDamaged):
        archive(store, tmp_path, order(store), tell=harm)
    assert here(store) == ids
    (damaged,) = tmp_path.glob("archive-*")
    shutil.rmtree(damaged)
    assert sum(one.removed for one in archive(store, tmp_path, order(store), tell=silent).emptied) == 2


def test_an_archive_of_other_tables_is_left_alone(store: EventStore, tmp_path: Path) -> None:
    """It cannot be compared any more. What is in it is still here, and goes into another one."""
    ids = seed(store, 2)
    death = Death(2)
    with pytest.raises(Crash):
        archive(store, tmp_path, order(store), tell=death)
    (path,) = tmp_path.glob("archive-*")
    file = path / "manifest.json"
    file.write_text(file.read_text().replace(f'"schema": "{manifests.read(path).schema}"', '"schema": "0001"'))
    run = archive(store, tmp_path, order(store), tell=silent)
    assert run.skipped == [path.name]
    assert [one.removed for one in run.emptied] == [len(ids)]


def test_only_one_at_a_time_archives_into_a_folder(store: EventStore, tmp_path: Path) -> None:
    seed(store, 1)

    def second(step: Step) -> None:
        with pytest.raises(ArchiveBusy, match="somebody else is archiving into it"):
            archive(store, tmp_path, order(store), tell=silent)

    assert len(archive(store, tmp_path, order(store), tell=second).emptied) == 1


def test_what_a_restored_database_has_again_is_found_in_its_archive(empty_sqlite: Path, tmp_path: Path) -> None:
    """Nothing is archived twice; and a job that came behind the backup is known as archived, not taken once more."""
    path, copy = tmp_path / "ourvidz.sqlite", tmp_path / "copy.sqlite"
    shutil.copy(empty_sqlite, path)
    store = open_store(f"sqlite:///{path}", clock=FakeClock())
    seed(store, 2)
    back_up(path, copy)
    (later,) = seed(store, 1)
    made = archive(store, tmp_path / "archives", order(store), tell=silent)
    now = order(store)
    store.close()
    restored = open_store(f"sqlite:///{copy}", clock=store.clock)
    assert len(here(restored)) == 2
    again = archive(restored, tmp_path / "archives", now, tell=silent)
    assert {one.archive for one in again.emptied} == {one.archive for one in made.emptied}
    assert (sum(one.removed for one in again.emptied), here(restored)) == (2, [])
    assert restored.admit([new_job(later)])[0].verdict == "duplicate"
    restored.close()
