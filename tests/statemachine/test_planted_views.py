"""Views that are wrong in one word are noticed by the tests of the reports: so much do these prove."""

import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from docs.lives import SetClock
from statemachine.store import EventStore, open_store, views
from statemachine.store.views import worded
from tests.statemachine import test_reports as reports
from tests.statemachine.walks import START, walk

CHECKS: Final[tuple[Callable[[EventStore], None], ...]] = (
    reports.test_jobs,
    reports.test_attempts_and_stages,
    reports.test_failures,
    reports.test_callbacks_and_assets,
    reports.test_workers_and_their_hours,
    reports.test_model_loads_know_what_was_loaded_before,
    reports.test_performance_against_what_is_expected,
)

PLANTED: Final = [
    ("report_jobs", "a.attempt > 1) AS retries", "a.attempt > 0) AS retries"),
    ("report_jobs", "made.run = jobs.run", "made.run > 0"),
    ("report_jobs", "MIN(SECONDS(jobs.run_at,", "MIN(SECONDS(jobs.queued_at,"),
    ("report_jobs", "SECONDS(jobs.outcome_at, jobs.finished_at)", "SECONDS(jobs.outcome_at, jobs.updated_at)"),
    ("report_jobs", "jobs.id) AS spent_seconds", "jobs.id AND a.run = jobs.run) AS spent_seconds"),
    ("report_jobs", "jobs.run = 1 OR jobs.outcome_at > jobs.run_at", "1 = 1"),
    ("report_attempts", "later.run = a.run", "later.run > 0"),
    ("report_stages", "COUNT(a.ended_at) = COUNT(*)", "1 = 1"),
    ("report_stages", "SUM(a.delay_seconds)", "MAX(a.delay_seconds)"),
    ("report_assets", "made.run = jobs.run AS", "made.run <= jobs.run AS"),
    ("report_callbacks", "'unanswered'", "'refused'"),
    ("report_failures", "a.counts AND a.error_class <> 'cancelled'", "a.error_class <> 'cancelled'"),
    ("report_failures", "a.error_class <> 'cancelled'", "a.error_class IS NOT NULL"),
    ("report_failures", "AND a.error_type = jobs.error_type", ""),
    ("report_failure_classes", "COUNT(DISTINCT CASE WHEN", "COUNT(CASE WHEN"),
    ("report_workers", "UNION SELECT worker_id FROM job_attempts WHERE worker_id IS NOT NULL", ""),
    ("report_workers", "WHERE kind = 'model_loaded'", ""),
    ("report_worker_hours", "HOUR(ended_at)", "HOUR(started_at)"),
    ("report_model_loads", "PARTITION BY worker_id, device ", ""),
    ("report_performance", "AND expected.assets = jobs.assets", ""),
    (
        "report_performance",
        "a.run DESC, a.attempt DESC LIMIT 1) AS worker_id",
        "a.run, a.attempt LIMIT 1) AS worker_id",
    ),
]
"""The view, what it says, and what it would be wrong to say."""


@pytest.fixture(scope="module")
def walked(empty_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file in which jobs took every turn."""
    path = tmp_path_factory.mktemp("walked") / "walked.sqlite"
    shutil.copy(empty_sqlite, path)
    with closing(open_store(f"sqlite:///{path}")) as store:
        walk(store, reports.SEEDS[0], jobs=32, steps=1280)
    return path


@pytest.mark.parametrize(("name", "right", "wrong"), PLANTED)
def test_a_wrong_view_is_noticed(walked: Path, tmp_path: Path, name: str, right: str, wrong: str) -> None:
    said = views.SQL[name]
    assert right in said
    path = tmp_path / "wrong.sqlite"
    shutil.copy(walked, path)
    with closing(open_store(f"sqlite:///{path}", clock=SetClock(START))) as store:
        with store.write() as connection:
            connection.exec_driver_sql(f"DROP VIEW {name}")
            connection.exec_driver_sql(worded(said.replace(right, wrong), "sqlite"))
        with pytest.raises(AssertionError):
            for check in CHECKS:
                check(store)


def test_right_views_are_not(walked: Path) -> None:
    with closing(open_store(f"sqlite:///{walked}", clock=SetClock(START))) as store:
        for check in CHECKS:
            check(store)
