"""`ourvidz history`: what an operator asks of old jobs and their archives."""

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb
import pytest
from sqlalchemy import text

from ourvidz.archive.ages import Ages, parse
from ourvidz.exit_codes import ExitCode
from ourvidz.inspect.document import OF_THE_MOMENT
from statemachine.states import State
from statemachine.store import open_store
from tests.archive.test_reading_archives import fail
from tests.fakes import FakeClock
from tests.statemachine.builders import live_through, new_job
from tests.test_cli import Run, base, fails, run

__all__ = ["base", "run"]


@pytest.fixture
def old(base: Run, tmp_path: Path) -> list[str]:
    """Two jobs that completed and one that failed a hundred days ago, and one that waits since then."""
    url = f"sqlite:///{tmp_path}/ourvidz-data/ourvidz.sqlite"
    store = open_store(url, clock=FakeClock(datetime.now(UTC) - timedelta(days=100)))
    ids = [live_through(store), live_through(store)]
    fail(store)
    store.admit([new_job()])
    store.close()
    return ids


def told(base: Run, *arguments: str, **env: str) -> Any:
    done = base("history", *arguments, "--json", **env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_old_jobs_go_into_archives_and_are_found_there(base: Run, old: list[str], tmp_path: Path) -> None:
    would = told(base, "archive", "--to", "archives", "--older-than", "90d", "--dry-run")
    assert [(one["state"], one["jobs"]) for one in would["jobs"]] == [("completed", 2), ("failed", 1)]
    assert not (tmp_path / "archives").exists()
    done = told(base, "archive", "--to", "archives", "--older-than", "90d", "--state", "completed", "--by", "ada")
    (emptied,) = done["emptied"]
    assert (emptied["removed"], emptied["left"], done["forgotten"]) == (2, [], {"workers": 0, "dead_letters": 0})
    (listed,) = told(base, "list")["archives"]
    assert (listed["name"], listed["jobs"], listed["made_by"]) == (emptied["archive"], 2, "ada")
    assert listed["place"] == done["place"] == str(tmp_path / "archives")
    assert emptied["archive"] in base("history", "list").stdout
    assert (tmp_path / "archives").stat().st_mode & 0o777 == 0o700
    asked = base("jobs", "inspect", old[0][:8])
    assert asked.returncode == ExitCode.UNKNOWN_JOB
    assert f"job {old[0]} is not here any more: it ended as completed on" in asked.stderr
    assert f"into {tmp_path}/archives/{emptied['archive']}" in asked.stderr
    sql = base("history", "views", "archives").stdout
    with duckdb.connect() as duck:
        duck.execute(sql)
        assert sorted(row[0] for row in duck.execute("SELECT job_id FROM completion_statistics").fetchall()) == sorted(
            old
        )


def test_an_archived_job_is_inspected_as_it_was(base: Run, old: list[str], tmp_path: Path) -> None:
    before = json.loads(base("jobs", "inspect", old[0], "--json").stdout)
    told(base, "archive", "--to", "archives", "--older-than", "90d", "--payloads")
    after = told(base, "inspect", "archives", old[0][:8])
    assert before.keys() == after.keys()
    assert {key: after[key] for key in before.keys() - OF_THE_MOMENT} == {
        key: before[key] for key in before.keys() - OF_THE_MOMENT
    }
    assert "heron" in json.dumps(after)
    (tmp_path / "ourvidz-data" / "ourvidz.sqlite").unlink()
    shown = base("history", "inspect", "archives", old[1])
    assert (shown.returncode, "Completed" in shown.stdout) == (0, True), shown.stderr
    nobody = "f" * 36
    fails(
        base("history", "inspect", "archives", nobody),
        ExitCode.UNKNOWN_JOB,
        f"no job in {tmp_path}/archives has an id that begins with {nobody}",
    )


def test_the_setting_says_what_is_old(base: Run, old: list[str], tmp_path: Path) -> None:
    ages = {"OURVIDZ_RETENTION": "completed=365d, failed=90d"}
    done = told(base, "archive", "--to", "archives", **ages)
    assert [one["removed"] for one in done["emptied"]] == [1]
    assert told(base, "archive", "--to", "archives", "--state", "completed", **ages)["emptied"] == []
    said = base("history", "archive", "--to", "archives", OURVIDZ_RETENTION="completed=90d")
    assert said.stdout.strip().endswith(": 2 jobs")
    assert said.stderr.strip() == "2 jobs archived; no worker and no dead letter forgotten"


def test_what_cannot_be_is_a_sentence(base: Run, tmp_path: Path) -> None:
    done = base("history", "archive", "--to", "archives")
    fails(done, ExitCode.USAGE, "nothing says how old a job must be: --older-than, or the setting retention")
    done = base("history", "archive", "--to", "archives", OURVIDZ_RETENTION="completed=1y")
    assert done.returncode == ExitCode.WRONG_SETTING
    assert "wanted days for any of completed, failed, cancelled, workers, dead_letters" in done.stderr
    done = base("history", "archive", "--to", "archives", "--older-than", "1d", "--state", "queued")
    assert done.returncode == ExitCode.USAGE
    assert "--state wants one of completed, failed, cancelled" in done.stderr
    fails(base("history", "check", "nowhere"), ExitCode.USAGE, "nowhere: there is no archive in it")
    assert base("history", "list").stderr.strip() == "nothing was archived yet"


def test_an_archive_that_was_changed_is_found(base: Run, old: list[str], tmp_path: Path) -> None:
    told(base, "archive", "--to", "archives", "--older-than", "90d")
    (checked,) = told(base, "check", "archives")["archives"]
    assert (checked["jobs"], checked["wrong"]) == (3, [])
    (file,) = tmp_path.glob("archives/archive-*/job_events.parquet")
    whole = file.read_bytes()
    file.write_bytes(whole[:-8] + b"12345678")
    done = base("history", "check", "archives")
    assert (done.returncode, done.stderr.strip()) == (ExitCode.ERROR, "1 thing is wrong, in 1 archive")
    assert f"{file.name}: wanted the job_events with sha256" in done.stdout
    file.write_bytes(whole)
    manifest = file.with_name("manifest.json")
    manifest.write_text(manifest.read_text().replace('"jobs": 3', '"jobs": 4'))
    assert "its manifest.json is not the one that was written" in base("history", "check", "archives").stdout


def test_an_archive_or_a_job_that_is_missing_is_found(base: Run, old: list[str], tmp_path: Path) -> None:
    told(base, "archive", "--to", "archives", "--older-than", "90d", "--state", "failed")
    told(base, "archive", "--to", "archives", "--older-than", "90d")
    store = open_store(f"sqlite:///{tmp_path}/ourvidz-data/ourvidz.sqlite")
    with store.write() as connection:  # somebody removed a job, and says that it was archived
        made_up = text("UPDATE archived_jobs SET job_id = :other WHERE job_id = :id")
        connection.execute(made_up, {"id": old[0], "other": (other := str(uuid4()))})
    store.close()
    said = base("history", "check", "archives").stdout
    assert f"job {other}: it is said to be in here, and is not" in said
    (gone,) = (path.parent for path in tmp_path.glob("archives/*/manifest.json") if '"failed": 1' in path.read_text())
    shutil.rmtree(gone)
    assert f"{gone}: it is not there any more" in base("history", "check", "archives").stdout


def test_a_history_that_was_changed_before_it_was_archived_is_found(base: Run, old: list[str], tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/ourvidz-data/ourvidz.sqlite")
    with store.write() as connection:
        connection.execute(text("DROP TRIGGER job_events_no_update"))
        changed = text("UPDATE job_events SET worker_id = 'x' WHERE job_id = :id AND version = 3")
        connection.execute(changed, {"id": old[0]})
    store.close()
    told(base, "archive", "--to", "archives", "--older-than", "90d")
    done = base("history", "check", "archives")
    assert done.returncode == ExitCode.ERROR
    assert f"job {old[0]}: version 3:" in done.stdout


def test_ages_are_days_each_named_once() -> None:
    ages = parse("completed = 365d,cancelled=1d, workers=30d")
    assert ages == Ages(
        ends={State.COMPLETED: timedelta(days=365), State.CANCELLED: timedelta(days=1)}, workers=timedelta(days=30)
    )
    assert parse("") == Ages()
    for wrong in ("completed", "completed=1w", "queued=1d", "failed=1d,failed=2d", "completed=-1d"):
        with pytest.raises(ValueError, match="not an age in days"):
            parse(wrong)
