"""`bench history` as people and programs run it."""

import json
import os
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest
from sqlalchemy import select

from ourvidz.bench.claiming import claims_beside
from ourvidz.bench.timing import percentile
from ourvidz.exit_codes import ExitCode
from statemachine.store import EventStore
from statemachine.store.reading import counts
from statemachine.store.schema import job_leases, jobs
from tests.statemachine.builders import new_job

YEAR = (
    "--jobs",
    "150",
    "--days",
    "5",
    "--queued",
    "30",
    "--users",
    "5",
    "--samples",
    "8",
    "--processes",
    "1",
    "--json",
)


def url_of(store: EventStore) -> str:
    return store.engine.url.set(drivername=store.engine.dialect.name).render_as_string(hide_password=False)


def bench(url: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", "from ourvidz.cli import main; main()", "--database-url", url, "bench", "history"]
    plain = {name: value for name, value in os.environ.items() if not name.startswith("OURVIDZ_")}
    return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=240, check=False, env=plain)


def held(store: EventStore) -> list[Any]:
    with store.read() as connection:
        return [
            *connection.execute(select(jobs.c.id).where(jobs.c.worker_id.is_not(None), jobs.c.finished_at.is_(None))),
            *connection.execute(select(job_leases)),
        ]


def test_a_year_is_made_measured_and_not_made_again(store: EventStore) -> None:
    done = bench(url_of(store), *YEAR)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["loaded"]["jobs"] == 180
    assert told["there"]["jobs"] == 180
    assert told["there"]["waiting"] == 30
    assert told["sample"]["findings"] == told["sample"]["unequal"] == []
    assert told["caught_up"]["days_rolled_up"] >= 4
    assert told["caught_up"]["anchors"] == 1
    assert {row["question"] for row in told["questions"]} >= {
        "jobs inspect",
        "jobs list",
        "report latency --since 365d",
    }
    assert told["claims"]["rounds"] == 8
    assert held(store) == []
    again = bench(url_of(store), *YEAR)
    assert again.returncode == 0, again.stderr
    told = json.loads(again.stdout)
    assert told["loaded"]["jobs"] == 0
    assert told["loaded"]["there_before"] == 180
    assert told["there"]["waiting"] == 22  # eight were claimed, and ended so that nobody claims them again


def test_a_database_with_real_jobs_is_refused_in_one_sentence(store: EventStore) -> None:
    real = new_job()
    store.admit([real])
    refused = bench(url_of(store), "--jobs", "10")
    assert refused.returncode == ExitCode.REFUSED
    assert f"holds job {real.job_id}: false jobs go into an empty database" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
    with store.read() as connection:
        assert counts(connection) == {"queued": 1}


def test_claims_find_jobs_that_were_put_there_for_them_and_leave_none_in_hand(store: EventStore) -> None:
    measured = claims_beside(url_of(store), rounds=6, seed=1)
    assert len(measured.full) == len(measured.empty) == 6
    assert held(store) == []
    with store.read() as connection:
        assert counts(connection) == Counter({"cancelled": 6})


@pytest.mark.parametrize(("share", "expected"), [(0.5, 3.0), (0.99, 5.0), (0.2, 1.0), (1.0, 5.0)])
def test_a_percentile_is_a_time_that_was_met(share: float, expected: float) -> None:
    assert percentile([5.0, 1.0, 4.0, 2.0, 3.0], share) == expected
