"""Two versions of the program on one database: neither loses, refuses or misreads what the other wrote."""

import json
import subprocess
import sys
from typing import Any

import pytest
from sqlalchemy import text

from ourvidz.migrate import current, upgrade
from statemachine import decisions
from statemachine import events as e
from statemachine.errors import SchemaMismatch
from statemachine.states import State
from statemachine.store import EventStore, open_store
from statemachine.store.codec import digest
from statemachine.store.schema_version import REQUIRED
from tests.statemachine.builders import asset, claimant, claimed, finish, new_job, upload


def expand(store: EventStore, floor: str = REQUIRED) -> None:
    """A later version's migration: it adds, and says who may stay."""
    with store.write() as connection:
        connection.execute(text("ALTER TABLE jobs ADD COLUMN node TEXT"))
        connection.execute(text("CREATE TABLE nodes (name TEXT PRIMARY KEY)"))
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        connection.execute(text("UPDATE schema_floor SET version = :floor"), {"floor": floor})


def start_tomorrow(url: str, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.programs.tomorrow", url, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def tomorrow(url: str, *arguments: str) -> Any:
    said, _ = (process := start_tomorrow(url, *arguments)).communicate(timeout=60)
    assert process.returncode == 0
    return json.loads(said)


def test_a_job_goes_to_and_fro_between_two_versions(fresh_database: str) -> None:
    today = open_store(fresh_database)
    expand(today)
    today.check_schema()
    job = claimed(today)
    begun = [*decisions.start(job), e.Degraded(what="batch", why="no memory")]
    job = today.append(job, begun, worker_id="w1")
    today.append(job, decisions.interrupt(job, reason="worker died", by="s", now=today.now()))
    tomorrow(fresh_database, "generate", job.id)

    job = today.load(job.id)
    assert job.state is State.UPLOADING
    today.append(job, decisions.interrupt(job, reason="worker died", by="s", now=today.now()))
    (job,) = today.claim(claimant(), drawing=1)
    job = finish(today, upload(today, job))
    assert (job.state, job.degraded) == (State.COMPLETED, (("batch", "no memory"),))

    history = today.history(job.id)
    unknown = [row.event.stored_kind for row in history if isinstance(row.event, e.Unknown)]
    assert unknown == ["latents_mirrored", "lessened"]
    assert [row.digest for row in history] == [
        digest(before, row) for before, row in zip(["", *(row.digest for row in history)], history, strict=False)
    ]
    assert [one.changed for one in today.rebuild()] == [()]
    told = tomorrow(fresh_database, "tell", job.id)
    assert told["events"].count("Lessened") == 2  # its own, and what today calls degraded
    assert told["changed"] == [[]]
    today.close()


def test_both_work_on_one_queue(fresh_database: str) -> None:
    today = open_store(fresh_database)
    expand(today)
    new = [new_job() for _ in range(12)]
    today.admit(new)
    other = start_tomorrow(fresh_database, "work", "tomorrow")
    mine = []
    while got := today.claim(claimant("today"), drawing=1):
        for job in got:
            made = [*decisions.start(job), asset(), e.MediaGenerated(device_seconds=1.5, engine="null")]
            mine.append(finish(today, upload(today, today.append(job, made, worker_id="today"))).id)
    said, _ = other.communicate(timeout=60)
    assert sorted(mine + json.loads(said)) == sorted(one.job_id for one in new)
    assert {one.changed for one in today.rebuild()} == {()}
    today.close()


def test_tables_that_want_a_later_program_are_refused_and_left_alone(fresh_database: str) -> None:
    store = open_store(fresh_database)
    expand(store, floor="9000")
    wanted = f"of version 9999 and want a program for 9000 or later, this one is for {REQUIRED}"
    with pytest.raises(SchemaMismatch, match=wanted):
        store.check_schema()
    with pytest.raises(SchemaMismatch, match=wanted):
        upgrade(fresh_database)
    store.close()


def test_upgrading_by_the_earlier_program_changes_nothing(fresh_database: str) -> None:
    store = open_store(fresh_database)
    expand(store)
    assert upgrade(fresh_database) == ("9999", "9999")
    assert current(fresh_database) == ("9999", REQUIRED)
    store.close()
