"""A false year is what the service would have written, and in its shares what it says to be."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text

from ourvidz.bench import ground
from ourvidz.bench.condition import catch_up
from ourvidz.bench.dice import job_id_of
from ourvidz.bench.ground import NotOurs
from ourvidz.bench.life import Life
from ourvidz.bench.loading import load, load_chunk, whole
from ourvidz.bench.story import live
from ourvidz.bench.year import plan_waiting, plan_year
from ourvidz.verifying import Verifying
from statemachine.admission import DeadLetter, NewJob
from statemachine.events import JobFailed, Requeued, RetryScheduled
from statemachine.states import State
from statemachine.store import EventStore, open_store
from statemachine.store.append import append, prepare
from statemachine.store.bulk import write_whole
from statemachine.store.rolling import roll
from statemachine.store.schema import metadata
from tests.servers import _run, database_url
from tests.statemachine.builders import new_job
from workers.presets import PRESETS

UNTIL = datetime(2026, 11, 22, tzinfo=UTC)
JOBS = 4000


@cache
def year() -> list[Life]:
    return [live(errand) for errand in plan_year(JOBS, seed=1, until=UNTIL)]


def stored(store: EventStore) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table, without the positions that the database gives."""
    with store.read() as connection:
        rows = {
            table.name: [dict(row) for row in connection.execute(select(table)).mappings()]
            for table in metadata.sorted_tables
        }
    for row in rows["job_events"]:
        del row["position"]
    del rows["rollup_marks"]  # who loads marks each day once, who appends only days that are over by the clock
    return {name: sorted(found, key=repr) for name, found in rows.items()}


def one_of_each() -> list[Life]:
    """Lives that have between them every kind of step and every error of the year."""
    seen: set[object] = set()
    chosen = []
    for life in sorted(year(), key=lambda life: -len({row.kind for row in life.rows})):
        told = {(row.kind, row.from_state, row.to_state, getattr(row.event, "error_type", None)) for row in life.rows}
        if not told <= seen:
            chosen.append(life)
            seen |= told
    return chosen


def append_by_hand(store: EventStore, life: Life) -> None:
    """Admit the job and append its events group by group, as ingress and workers do."""
    grouped = groupby(life.rows, key=lambda row: (row.at, row.worker_id))
    (_, first), *later = [(key, [row.event for row in group]) for key, group in grouped]
    known = life.content and {name: value for name, value in life.content.items() if name != "enhanced_prompt"}
    arrived = NewJob(job_id=life.job.id, events=first, raw=life.raw, content=known)
    store.admit([arrived], at=life.rows[0].at)
    job = store.load(life.job.id)
    for (at, worker_id), events in later:
        enhanced = any(event.kind == "prompt_enhanced" for event in events)
        personal = {"enhanced_prompt": (life.content or {})["enhanced_prompt"]} if enhanced else None
        write = prepare(job, events, worker_id=worker_id, at=at, personal=personal)
        with store.write() as connection:
            (after,) = append(connection, [write])
        assert not isinstance(after, Exception)
        job = after


@pytest.fixture
def other(request: pytest.FixtureRequest, store: EventStore) -> Iterator[EventStore]:
    """A second database of the same kind."""
    if store.engine.dialect.name == "sqlite":
        path = request.getfixturevalue("tmp_path") / "other.sqlite"
        url = f"sqlite:///{path}"
    else:
        server = request.getfixturevalue("postgres_url")
        name = f"{store.engine.url.database}_other"
        _run(server, f"CREATE DATABASE {name}")
        url = database_url(server, name)
    ground.prepare(url)
    opened = open_store(url)
    yield opened
    opened.close()


def test_a_loaded_life_is_what_admitting_and_appending_it_leaves(store: EventStore, other: EventStore) -> None:
    lives = one_of_each()
    assert len(lives) > 10
    with store.write() as connection:
        write_whole(connection, [whole(life) for life in lives])
    for life in lives:
        append_by_hand(other, life)
    loaded, by_hand = stored(store), stored(other)
    assert loaded["job_events"]
    assert loaded["job_callbacks"]
    assert loaded["job_model_changes"]
    assert loaded == by_hand


def test_waiting_jobs_stand_in_the_order_in_which_admission_puts_them(store: EventStore, other: EventStore) -> None:
    lives = [live(errand) for errand in plan_waiting(40, 7, key="waiting", until=UNTIL)]
    with store.write() as connection:
        write_whole(connection, [whole(life) for life in lives])
    for life in lives:
        append_by_hand(other, life)
    assert {row["turn"] for row in stored(store)["jobs"]} > {0, 1, 2}
    assert stored(store) == stored(other)


def test_the_loaded_projections_are_what_rebuilding_makes(store: EventStore) -> None:
    url = store.engine.url.render_as_string(hide_password=False)
    chunk = list(plan_year(200, seed=2, until=UNTIL))
    assert load_chunk(url, chunk).jobs == 200
    rebuilt = list(store.rebuild())
    assert len(rebuilt) == 200
    assert [job for job in rebuilt if job.changed] == []


def test_what_is_loaded_verifies_with_its_payloads_and_its_anchors(store: EventStore) -> None:
    url = store.engine.url.render_as_string(hide_password=False)
    load_chunk(url, list(plan_year(120, seed=2, until=UNTIL, days=5)))
    caught_up = catch_up(store)
    assert caught_up.anchors == 1
    verifying = Verifying(store)
    assert [finding for batch in verifying.everything() for finding in batch] == []
    assert (verifying.looked.jobs, verifying.looked.anchors) == (120, 1)


def test_several_processes_write_each_job_once_and_a_second_load_nothing(store: EventStore) -> None:
    url = store.engine.url.render_as_string(hide_password=False)
    errands = list(plan_year(1100, seed=3, until=UNTIL))
    assert [part.jobs for part in load(url, errands, processes=2)] == [500, 500, 100]
    assert {row["id"] for row in stored(store)["jobs"]} == {errand.job_id for errand in errands}
    assert [part.there for part in load(url, errands, processes=1)] == [500, 500, 100]


def test_what_is_loaded_into_days_that_are_rolled_up_is_counted_all_the_same(store: EventStore) -> None:
    url = store.engine.url.render_as_string(hide_password=False)
    for jobs in (60, 90):
        load_chunk(url, list(plan_year(jobs, seed=4, until=UNTIL, days=5)))
        assert len(list(roll(store.engine, UNTIL))) > 1
    with store.read() as connection:
        assert connection.scalar(text("SELECT SUM(queued) FROM daily_output")) == 150
        assert connection.scalar(text("SELECT SUM(queued) FROM rollup_output")) == 150


def test_the_same_seed_is_the_same_year_and_another_is_another() -> None:
    one = [live(errand) for errand in plan_year(50, seed=1, until=UNTIL)]
    same = [live(errand) for errand in plan_year(50, seed=1, until=UNTIL)]
    another = [live(errand) for errand in plan_year(50, seed=2, until=UNTIL)]
    assert [life.job for life in one] == [life.job for life in same]
    assert {life.job.id for life in one}.isdisjoint(life.job.id for life in another)
    assert one[0].job.id == job_id_of("1 of 50: 0")


def test_its_shares_are_those_of_a_service_in_use() -> None:
    lives = year()

    def share(count: int) -> float:
        return count / len(lives)

    assert all(life.job.state.terminal for life in lives)
    assert max(life.at for life in lives) < UNTIL
    assert {life.job.job_type for life in lives} == set(PRESETS)
    retried = sum(any(isinstance(row.event, RetryScheduled) for row in life.rows) for life in lives)
    assert 0.07 < share(retried) < 0.09
    assert 0.015 < share(sum(life.job.state is State.FAILED for life in lives)) < 0.025
    assert 0.005 < share(sum(life.job.state is State.CANCELLED for life in lives)) < 0.015
    assert any(isinstance(row.event, Requeued) for life in lives for row in life.rows)
    failures = {row.event.error_type for life in lives for row in life.rows if isinstance(row.event, JobFailed)}
    assert failures == {
        "InvalidPayload", "ContentPolicy", "ReferenceRefused", "OutOfMemoryError", "Poison", "CallbackUndeliverable",
    }  # fmt: skip
    asked = [life.job.user_id for life in lives]
    busiest = max(asked.count(user) for user in set(asked))
    assert busiest > 5 * len(asked) / len(set(asked))


def test_false_jobs_go_into_no_database_that_is_in_use(store: EventStore) -> None:
    url = store.engine.url.render_as_string(hide_password=False)
    ground.prepare(url)
    load_chunk(url, list(plan_year(5, seed=1, until=UNTIL)))
    ground.prepare(url)
    real = new_job()
    store.admit([real])
    with pytest.raises(NotOurs, match=f"holds job {real.job_id}"):
        ground.prepare(url)


def test_a_database_with_dead_letters_is_in_use_too(store: EventStore) -> None:
    store.admit([DeadLetter(raw=b"x", reason="not JSON", queue="sdxl_queue", source="redis")])
    with pytest.raises(NotOurs, match="holds dead letters"):
        ground.prepare(store.engine.url.render_as_string(hide_password=False))


def test_another_program_s_database_gets_no_tables_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "theirs.sqlite"
    with closing(sqlite3.connect(path)) as theirs:
        theirs.execute("CREATE TABLE customers (name TEXT)")
        with pytest.raises(NotOurs, match="has a table customers"):
            ground.prepare(f"sqlite:///{path}")
        assert theirs.execute("SELECT name FROM sqlite_master").fetchall() == [("customers",)]
