"""What the facts of reports are, gathered in Python from the rows of the projections."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import Connection, Table, select

from statemachine.store.facts import ATTEMPTS, CALLBACKS, DURATIONS, FAILURES, MODELS, OUTPUT, USE, Fact
from statemachine.store.schema import job_assets, job_attempts, job_callbacks, job_model_changes, jobs

Row = dict[str, Any]
Tally = dict[tuple[Any, ...], list[float]]


def facts_of(connection: Connection) -> dict[Fact, list[Row]]:
    """Fact → its rows, each with its `at`."""
    known = {row["id"]: row for row in _rows(connection, jobs)}
    attempts = [
        row | _of(known[row["job_id"]]) for row in _rows(connection, job_attempts) if row["ended_at"] is not None
    ]
    ended = [job for job in known.values() if job["finished_at"] is not None]
    assets = _rows(connection, job_assets)
    work = [*_work(known.values(), ended, assets)]
    spent = [one for one in attempts if one["device_seconds"] is not None]
    work += [
        {name: one[name] for name in ("user_id", "job_type", "device_seconds", "wasted_seconds")}
        | {"at": one["ended_at"]}
        for one in spent
    ]
    tie = round if connection.dialect.name == "postgresql" else lambda number: math.floor(number + 0.5)
    durations = list(_durations(ended, attempts))
    return {
        USE: work,
        OUTPUT: work,
        FAILURES: [{**job, "at": job["finished_at"], "jobs": 1} for job in ended if job["state"] == "failed"],
        ATTEMPTS: [{**one, "at": one["ended_at"], "attempts": 1} for one in attempts],
        DURATIONS: [row | {"ms": rounded(tie(row["seconds"] * 1000)), "number": 1} for row in durations],
        CALLBACKS: [
            row
            | _of(known[row["job_id"]])
            | {"requests": 1, "repeated": int(row["try"] > 1), "seconds": (row["ms"] or 0.0) / 1000}
            for row in _rows(connection, job_callbacks)
        ],
        MODELS: [row | _of(known[row["job_id"]]) | {"changes": 1} for row in _rows(connection, job_model_changes)],
    }


def tally(fact: Fact, rows: list[Row], keys: Sequence[str], moment: str | None) -> Tally:
    """The sums by moment and keys."""
    forms = {"day": "%Y-%m-%d", "hour": "%Y-%m-%d %H:00"}
    sums: defaultdict[tuple[Any, ...], list[float]] = defaultdict(lambda: [0.0] * len(fact.sums))
    for row in rows:
        when = [row["at"].strftime(forms[moment])] if moment else []
        own = sums[(*when, *(row[key] for key in keys))]
        for number, name in enumerate(fact.sums):
            own[number] += row.get(name) or 0
    return dict(sums)


def told(fact: Fact, rows: list[Row], keys: Sequence[str]) -> Tally:
    """Rows of the database in the same shape; no two may be of the same keys."""
    found = {tuple(row[key] for key in keys): [float(row[name]) for name in fact.sums] for row in rows}
    assert len(found) == len(rows)
    return found


def near(sums: Tally) -> dict[tuple[Any, ...], Any]:
    """The same, however it was added up."""
    return {key: pytest.approx(values, abs=1e-6) for key, values in sums.items()}


def rounded(ms: int) -> int:
    """To the nearest step, a half of one upwards: 1 below 20, then 2 to 50, 5 to 100, and ten times that."""
    decade = 1
    while ms >= 100 * decade:
        decade *= 10
    step = decade * (1 if ms < 20 * decade else 2 if ms < 50 * decade else 5)
    return (ms + step // 2) // step * step


def _rows(connection: Connection, table: Table) -> list[Row]:
    return [dict(row) for row in connection.execute(select(table)).mappings()]


def _of(job: Row) -> Row:
    return {"user_id": job["user_id"], "job_type": job["job_type"]}


def _work(known: Any, ended: list[Row], assets: list[Row]) -> Iterator[Row]:
    for job in known:
        yield {"at": job["queued_at"], **_of(job), "queued": 1}
    for job in ended:
        made = [asset for asset in assets if (asset["job_id"], asset["run"]) == (job["id"], job["run"])]
        row = {"at": job["finished_at"], **_of(job), job["state"]: 1}
        if job["state"] == "completed":
            row |= {"assets": job["assets"], "bytes": sum(asset["bytes"] for asset in made)}
        yield row


def _durations(ended: list[Row], attempts: list[Row]) -> Iterator[Row]:
    for job in ended:
        if job["state"] == "completed" and job["run"] == 1:
            for measure, end in (("until_outcome", job["outcome_at"]), ("until_started", job["started_at"])):
                about = {"at": job["finished_at"], **_of(job), "worker_id": None, "measure": measure, "stage": None}
                yield about | {"seconds": _between(job["queued_at"], end)}
    for one in attempts:
        about = {"at": one["ended_at"], **_of(one), "worker_id": one["worker_id"], "stage": one["stage"]}
        yield about | {"measure": "wait", "seconds": one["wait_seconds"]}
        if one["outcome"] == "succeeded":
            yield about | {"measure": "run", "seconds": one["run_seconds"]}


def _between(begin: datetime, end: datetime) -> float:
    return (end - begin).total_seconds()
