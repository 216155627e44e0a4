"""What the views say is what is counted from the events of histories that took any turn, on both databases alike."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from functools import cache
from itertools import groupby
from typing import Any

import pytest
from sqlalchemy import Connection, Table, select, text

from statemachine.expectations import EXPECTATIONS, expected
from statemachine.job import Attempt
from statemachine.store import EventStore, device_reports, job_reports, open_store, views
from statemachine.store.rebuild import rebuild
from tests.servers import database
from tests.statemachine.counting import Facts, attempts_of, between, events_of, failures_of, made_in, outcome_of
from tests.statemachine.walks import walk

SEEDS = (1, 2)
KINDS = ("sqlite", "postgresql")
Walks = Callable[[str, int], EventStore]


@pytest.fixture(scope="module")
def walks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walks]:
    """(kind of database, seed) → a store in which jobs took every turn; each is walked once."""
    with ExitStack() as open_databases:

        @cache
        def made(kind: str, seed: int) -> EventStore:
            folder = tmp_path_factory.mktemp(f"walk-{kind}-{seed}")
            url = open_databases.enter_context(database(request, kind, folder))
            return walk(open_databases.enter_context(closing(open_store(url))), seed)

        yield made


@pytest.fixture(params=[(kind, seed) for kind in KINDS for seed in SEEDS], ids=lambda of: f"{of[0]}-{of[1]}")
def walked(request: pytest.FixtureRequest, walks: Walks) -> EventStore:
    """A store in which jobs took every turn."""
    return walks(*request.param)


def rows(connection: Connection, view: Table) -> list[Facts]:
    return [dict(row) for row in connection.execute(select(view)).mappings()]


def key(row: Facts) -> tuple[str, int, str]:
    """The stage of a run."""
    return row["job_id"], row["run"], row["stage"]


def near(value: float | None) -> Any:
    """That number, however it was added up."""
    return None if value is None else pytest.approx(value, abs=1e-6)


def total(values: list[float | None]) -> float | None:
    """As SQL's SUM: of nothing it is nothing."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def on_devices(store: EventStore, job_ids: Iterable[str]) -> dict[tuple[str, int, str, int], Attempt]:
    """The attempts as replay has them: of due times and device time there is a test of its own."""
    return {
        (job_id, one.run, one.stage.value, one.attempt): one
        for job_id in job_ids
        for one in store.load(job_id).attempts
    }


def test_jobs(walked: EventStore) -> None:
    with walked.read() as connection:
        told = rows(connection, job_reports.report_jobs)
        histories = events_of(connection)
    found = {row["job_id"]: row for row in told}
    assert len(found) == len(told)
    assert set(found) == set(histories)
    replayed = on_devices(walked, histories)
    for job_id, history in histories.items():
        row, run, attempts = found[job_id], history[-1]["run"], attempts_of(history)
        begun = next(event["at"] for event in history if event["run"] == run)
        of_run = [attempt for attempt in attempts if attempt["run"] == run]
        outcome, at, _ = outcome_of(history)
        assets, device_seconds = made_in(history)
        ended = history[-1]["to_state"] in ("completed", "failed", "cancelled")
        assert (row["state"], row["outcome"], row["run"]) == (history[-1]["to_state"], outcome, run)
        assert (row["attempts"], row["retries"]) == (len(attempts), sum(one["attempt"] > 1 for one in of_run))
        assert (row["assets"], row["bytes"]) == (len(assets), sum(one["bytes"] for one in assets.values()))
        assert (row["queued_at"], row["run_at"], row["outcome_at"]) == (history[0]["at"], begun, at)
        assert row["queued_day"] == f"{history[0]['at']:%Y-%m-%d}"
        assert row["queued_hour"] == f"{history[0]['at']:%Y-%m-%d %H:00}"
        assert row["wait_seconds"] == (between(begun, of_run[0]["at"]) if of_run else None)
        assert row["work_seconds"] == near(total([one["seconds"] for one in of_run]))
        only_tells = run > 1 and at == begun
        assert row["total_seconds"] == (None if at is None or only_tells else between(begun, at))
        assert row["telling_seconds"] == (between(at, history[-1]["at"]) if ended and at else None)
        assert row["finished_day"] == (f"{history[-1]['at']:%Y-%m-%d}" if ended else None)
        assert row["device_seconds"] == device_seconds
        times = [one for (owner, *_), one in replayed.items() if owner == job_id]
        assert row["spent_seconds"] == near(total([one.device_seconds for one in times]))
        assert row["wasted_seconds"] == near(total([one.wasted_seconds for one in times]))


def test_attempts_and_stages(walked: EventStore) -> None:
    with walked.read() as connection:
        told = rows(connection, job_reports.report_attempts)
        stages = rows(connection, job_reports.report_stages)
        histories = events_of(connection)
    counted = [attempt for history in histories.values() for attempt in attempts_of(history)]
    replayed = on_devices(walked, histories)
    by_stage = {at: list(those) for at, those in groupby(sorted(counted, key=key), key=key)}
    by_attempt = {(*key(row), row["attempt"]): row for row in told}
    assert len(by_attempt) == len(told) == len(counted)
    for one in counted:
        row = by_attempt[*key(one), one["attempt"]]
        assert (row["worker_id"], row["started_at"], row["ended_at"]) == (one["worker_id"], one["at"], one["ended_at"])
        assert (row["run_seconds"], row["outcome"], row["counts"]) == (one["seconds"], one["outcome"], one["counts"])
        assert row["retried"] is (one["attempt"] < len(by_stage[key(one)]))
        again = replayed[*key(one), one["attempt"]]
        for name in ("due_at", "host", "device", "wait_seconds", "device_seconds", "wasted_seconds"):
            assert row[name] == getattr(again, name)
        assert row["delay_seconds"] == again.delay
        if one["error"]:
            assert (row["error_class"], row["error_type"]) == one["error"]
    assert len(stages) == len(by_stage)
    for row in stages:
        those = sorted(by_stage[key(row)], key=lambda one: int(one["attempt"]))
        running = those[-1]["ended_at"] is None
        assert (row["attempts"], row["outcome"]) == (len(those), those[-1]["outcome"])
        assert (row["started_at"], row["ended_at"]) == (those[0]["at"], None if running else those[-1]["ended_at"])
        assert row["due_at"] == replayed[*key(row), 1].due_at
        assert row["run_seconds"] == near(total([one["seconds"] for one in those]))
        for name in ("wait_seconds", "delay_seconds", "device_seconds", "wasted_seconds"):
            assert row[name] == near(total([one[name] for one in told if key(one) == key(row)]))


def test_failures(walked: EventStore) -> None:
    with walked.read() as connection:
        found = rows(connection, job_reports.report_failures)
        classes = rows(connection, job_reports.report_failure_classes)
        histories = events_of(connection)
    counted: Counter[tuple[str | None, ...]] = Counter()
    of_jobs: dict[tuple[str | None, ...], set[str]] = {}
    for job_id, history in histories.items():
        failures = failures_of(history)
        counted += failures
        for what in failures:
            of_jobs.setdefault(what, set()).add(job_id)
    completed = {job_id for job_id, history in histories.items() if history[-1]["to_state"] == "completed"}
    ends = {(*key(one), one["attempt"]): one["ended_at"] for h in histories.values() for one in attempts_of(h)}
    for row in found:
        assert row["day"] == f"{row['at']:%Y-%m-%d}"
        if row["stage"] is None:
            assert (row["at"], row["retried"]) == (outcome_of(histories[row["job_id"]])[1], False)
        else:
            assert row["at"] == ends[*key(row), row["attempt"]]
            assert row["retried"] is ((*key(row), row["attempt"] + 1) in ends)
    assert Counter((row["error_class"], row["error_type"], row["stage"]) for row in found) == counted
    assert {job_id for job_id, history in histories.items() if outcome_of(history)[0] == "failed"} <= {
        row["job_id"] for row in found
    }
    assert {
        (row["error_class"], row["error_type"], row["stage"]): (row["failures"], row["jobs"], row["recovered"])
        for row in classes
    } == {what: (counted[what], len(those), len(those & completed)) for what, those in of_jobs.items()}
    for row in classes:
        those = [one for one in found if all(one[name] == row[name] for name in ("error_class", "error_type", "stage"))]
        assert (row["first_at"], row["last_at"]) == (min(o["at"] for o in those), max(o["at"] for o in those))
        assert row["retried"] == sum(one["retried"] for one in those)
        assert row["wasted_seconds"] == near(total([one["wasted_seconds"] for one in those]))


def test_callbacks_and_assets(walked: EventStore) -> None:
    with walked.read() as connection:
        told = rows(connection, job_reports.report_callbacks)
        assets = rows(connection, job_reports.report_assets)
        histories = events_of(connection)
    results = {True: "delivered", False: "refused"}
    calls = [event for history in histories.values() for event in history if event["kind"] == "callback_sent"]
    assert {(row["job_id"], row["version"]): (row["result"], row["try"], row["at"]) for row in told} == {
        (one["job_id"], one["version"]): (
            results[one["delivered"]] if one.get("http_code") else "unanswered",
            one["try"],
            one["at"],
        )
        for one in calls
    }
    assert {row["result"] for row in told} == {"delivered", "refused", "unanswered"}
    latest = {(row["job_id"], row["asset_index"]) for row in assets if row["latest"]}
    assert latest == {(job_id, index) for job_id, history in histories.items() for index in made_in(history)[0]}
    uploads = {
        (one["job_id"], one["run"], one["index"]): one["at"]
        for history in histories.values()
        for one in history
        if one["kind"] == "asset_uploaded"
    }
    for row in assets:
        assert row["uploaded_day"] == (row["uploaded_at"] and f"{row['uploaded_at']:%Y-%m-%d}")
        if (row["job_id"], row["run"], row["asset_index"]) in uploads:
            assert row["uploaded_at"] == uploads[row["job_id"], row["run"], row["asset_index"]]


def test_workers_and_their_hours(walked: EventStore) -> None:
    walked.see_worker(
        {"worker_id": "idle", "host": "h", "pid": 1, "device": "cpu", "job_types": "[]", "models": "{}",
         "state": "active", "version": "0.1.0", "started_at": walked.now(), "last_seen_at": walked.now()}
    )  # fmt: skip
    with walked.read() as connection:
        workers = {row["worker_id"]: row for row in rows(connection, device_reports.report_workers)}
        hours = rows(connection, device_reports.report_worker_hours)
        histories = events_of(connection)
        refused = Counter(connection.scalars(text("SELECT worker_id FROM rejected_writes")))
    counted = [attempt for history in histories.values() for attempt in attempts_of(history)]
    replayed = on_devices(walked, histories)
    loads = [event for history in histories.values() for event in history if event["kind"] == "model_loaded"]
    assert set(workers) == {one["worker_id"] for one in counted} | {"idle"}
    assert workers["idle"] | {"attempts": 0, "jobs": 0, "run_seconds": 0.0, "model_loads": 0} == workers["idle"]
    for name, row in workers.items():
        those = [one for one in counted if one["worker_id"] == name]
        outcomes = Counter(one["outcome"] for one in those)
        assert (row["attempts"], row["jobs"]) == (len(those), len({one["job_id"] for one in those}))
        assert row["succeeded"] == outcomes["succeeded"] + outcomes["skipped"]
        assert (row["failed"], row["interrupted"]) == (outcomes["retry"] + outcomes["failed"], outcomes["interrupted"])
        assert row["run_seconds"] == near(total([one["seconds"] for one in those]) or 0.0)
        assert row["model_loads"] == sum(one["worker_id"] == name for one in loads)
        assert row["rejected_writes"] == refused[name]
        assert row["first_attempt_at"] == min((one["at"] for one in those), default=None)
        assert row["last_attempt_at"] == max((one["at"] for one in those), default=None)
        assert row["loading_seconds"] == near(sum(one["seconds"] for one in loads if one["worker_id"] == name))
        times = [one for one in replayed.values() if one.worker_id == name]
        assert row["device_seconds"] == near(sum(one.device_seconds or 0.0 for one in times))
        assert row["wasted_seconds"] == near(sum(one.wasted_seconds or 0.0 for one in times))
    by_hour: dict[tuple[str, str], list[Facts]] = {}
    for one in counted:
        if one["ended_at"]:
            by_hour.setdefault((one["worker_id"], f"{one['ended_at']:%Y-%m-%d %H:00}"), []).append(one)
    assert {(row["worker_id"], row["hour"]) for row in hours} == set(by_hour)
    for row in hours:
        those = by_hour[row["worker_id"], row["hour"]]
        outcomes = Counter(one["outcome"] for one in those)
        times = [replayed[*key(one), one["attempt"]] for one in those]
        assert (row["attempts"], row["jobs"]) == (len(those), len({one["job_id"] for one in those}))
        assert row["succeeded"] == outcomes["succeeded"] + outcomes["skipped"]
        assert (row["failed"], row["interrupted"]) == (outcomes["retry"] + outcomes["failed"], outcomes["interrupted"])
        assert row["run_seconds"] == near(sum(one["seconds"] for one in those))
        assert row["device_seconds"] == near(sum(one.device_seconds or 0.0 for one in times))
        assert row["wasted_seconds"] == near(sum(one.wasted_seconds or 0.0 for one in times))


def test_model_loads_know_what_was_loaded_before(walked: EventStore) -> None:
    with walked.read() as connection:
        found = rows(connection, device_reports.report_model_loads)
        histories = events_of(connection)
    loads = [event for history in histories.values() for event in history if event["kind"] == "model_loaded"]
    before: dict[str, str] = {}
    counted = set()
    for one in sorted(loads, key=lambda event: (event["at"], event["job_id"], event["version"])):
        counted.add((one["job_id"], one["version"], one["model"], before.get(one["worker_id"])))
        before[one["worker_id"]] = one["model"]
    assert {(row["job_id"], row["version"], row["model"], row["previous_model"]) for row in found} == counted
    assert any(row["previous_model"] not in (None, row["model"]) for row in found)


def test_performance_against_what_is_expected(walked: EventStore) -> None:
    with walked.read() as connection:
        told = rows(connection, device_reports.report_performance)
        histories = events_of(connection)
    found = {row["job_id"]: row for row in told}
    assert len(found) == len(told)
    drawn = {job_id for job_id, history in histories.items() if made_in(history)[1] is not None}
    assert set(found) == {job_id for job_id in drawn if outcome_of(histories[job_id])[0] == "completed"}
    for job_id, row in found.items():
        history = histories[job_id]
        assets, seconds = made_in(history)
        range_ = expected(history[0]["job_type"], len(assets))
        assert row["device_seconds"] == seconds
        assert seconds is not None
        drawn_by = [one for one in history if one["kind"] == "media_generated"][-1]["worker_id"]
        assert (row["worker_id"], row["device"]) == (drawn_by, drawn_by.replace("gpu-", "cuda:"))
        if range_ is None:
            assert (row["performance_ratio"], row["pace"]) == (None, None)
            continue
        assert (row["least_seconds"], row["most_seconds"]) == (range_.least, range_.most)
        assert row["performance_ratio"] == (near(seconds / range_.most) if range_.most else None)
        slower = range_.most is not None and seconds > range_.most
        assert row["pace"] == ("faster" if seconds < range_.least else "slower" if slower else "as expected")


def test_expectations_are_those_of_the_specification(store: EventStore) -> None:
    """The migration holds them as they were released; a change of the table needs one of its own."""
    with store.read() as connection:
        found = connection.execute(select(device_reports.report_expectations)).all()
    assert sorted(found) == sorted((one.job_type, one.assets, one.least, one.most) for one in EXPECTATIONS)


@pytest.mark.parametrize("name", views.SQL)
def test_both_databases_say_the_same(walks: Walks, name: str) -> None:
    """Every column of every view, after the same walk."""
    said = []
    for kind in KINDS:
        with walks(kind, SEEDS[0]).read() as connection:
            said.append(sorted((plain(row) for row in rows(connection, views.declared.tables[name])), key=repr))
    assert said[0] == said[1]
    assert said[0]


def plain(row: Facts) -> Facts:
    """Numbers that were added up in another order differ in their last digits."""
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in row.items()}


def test_days_and_hours_are_in_utc_wherever_the_session_is(walks: Walks) -> None:
    with walks("postgresql", SEEDS[0]).read() as connection:
        told = {name: rows(connection, table) for name, table in views.declared.tables.items()}
        connection.execute(text("SET LOCAL TIME ZONE 'Asia/Kolkata'"))
        for name, table in views.declared.tables.items():
            there = sorted((plain(row) for row in rows(connection, table)), key=repr)
            assert there == sorted((plain(row) for row in told[name]), key=repr), name


NAMES_OF_TYPES = {
    "INTEGER": "int4",
    "BIGINT": "int8",
    "FLOAT": "float8",
    "BOOLEAN": "bool",
    "TEXT": "text",
    "VARCHAR": "varchar",
    "TIMESTAMP": "timestamptz",
}
"""As PostgreSQL calls what is declared."""


def test_views_have_the_columns_and_types_that_are_declared(store: EventStore) -> None:
    types = text("SELECT column_name, udt_name FROM information_schema.columns WHERE table_name = :name")
    with store.read() as connection:
        for name, table in views.declared.tables.items():
            result = connection.execute(select(text("*")).select_from(table))
            assert list(result.keys()) == [column.name for column in table.columns]
            if connection.dialect.name == "postgresql":
                said = {column.name: column.type.compile(dialect=connection.dialect) for column in table.columns}
                assert {row.column_name: row.udt_name for row in connection.execute(types, {"name": name})} == {
                    column: NAMES_OF_TYPES[re.split(r"\W", kind)[0]] for column, kind in said.items()
                }, name


def test_the_projections_under_the_views_are_what_the_events_say(walked: EventStore) -> None:
    assert {changed.changed for changed in rebuild(walked.engine)} == {()}
