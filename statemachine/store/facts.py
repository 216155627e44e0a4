"""What reports count: facts, each with its moment, what it can be grouped by, and what of it can be summed.

One set of words makes the rollups, the `daily_*` views and what a report counts without either, so that they cannot
disagree. `SPANS` in them stands for something that has rows of `begins` and `ends`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import BigInteger, Boolean, Float, Integer, Text
from sqlalchemy.types import TypeEngine

Columns = dict[str, type[TypeEngine[Any]]]


@dataclass(frozen=True, eq=False)
class Fact:
    """`rows` has a column `at`, the `keys` that rollups keep, those `more` that they do not, and the `sums`."""

    name: str
    rows: str
    keys: Columns
    more: Columns
    sums: Columns


def summed(fact: Fact, spans: str, *, keys: Sequence[str], moment: str | None = None, where: Sequence[str] = ()) -> str:
    """The SELECT of the sums over `spans`, by `moment` (such as `DAY(facts.at) AS day`) and `keys`."""
    groups = [*([moment] if moment else []), *(f"facts.{key}" for key in keys)]
    by = ", ".join(group.partition(" AS ")[0] for group in groups)
    conditions = f"\nWHERE {' AND '.join(where)}" if where else ""
    return (
        f"SELECT {', '.join([*groups, *added(fact, 'facts')])}\n"
        f"FROM (\n{fact.rows.replace('SPANS', spans)}\n) AS facts{conditions}{f' GROUP BY {by}' if by else ''}"
    )


def added(fact: Fact, table: str) -> list[str]:
    """The sums of what `table` has of the fact, in the type that each has everywhere."""
    return [f"CAST(SUM({table}.{name}) AS {_NUMBERS[kind]}) AS {name}" for name, kind in fact.sums.items()]


_NUMBERS: Final[dict[type[TypeEngine[Any]], str]] = {BigInteger: "BIGINT", Float: "DOUBLE PRECISION"}

# Both bounds, and that it is not null: the partial index on jobs that have ended is used by no less. What stands behind
# this compares by LIKE and < instead of =: for that SQLite, which has no statistics, would rather look up, or even
# index, every completed job there is than those of a day.
_ENDED_JOBS: Final = (
    "FROM SPANS AS span JOIN jobs\n"
    "  ON jobs.finished_at >= span.begins AND jobs.finished_at < span.ends AND jobs.finished_at IS NOT NULL"
)
_ENDED_ATTEMPTS: Final = (
    "FROM SPANS AS span JOIN job_attempts\n"
    "  ON job_attempts.ended_at >= span.begins AND job_attempts.ended_at < span.ends\n"
    "JOIN jobs ON jobs.id = job_attempts.job_id"
)

_ADMITTED_JOBS: Final = "FROM SPANS AS span JOIN jobs ON jobs.queued_at >= span.begins AND jobs.queued_at < span.ends"
_JOBS: Final = f"""SELECT jobs.queued_at AS at, jobs.user_id, jobs.job_type, 1 AS queued, 0 AS completed, 0 AS failed,
  0 AS cancelled, 0 AS assets, 0 AS bytes
{_ADMITTED_JOBS}
UNION ALL
SELECT jobs.finished_at, jobs.user_id, jobs.job_type, 0, CASE WHEN jobs.state = 'completed' THEN 1 ELSE 0 END,
  CASE WHEN jobs.state = 'failed' THEN 1 ELSE 0 END, CASE WHEN jobs.state = 'cancelled' THEN 1 ELSE 0 END,
  CASE WHEN jobs.state = 'completed' THEN jobs.assets ELSE 0 END,
  CASE WHEN jobs.state = 'completed' THEN COALESCE((SELECT SUM(job_assets.bytes) FROM job_assets
    WHERE job_assets.job_id = jobs.id AND job_assets.run = jobs.run), 0) ELSE 0 END
{_ENDED_JOBS}"""  # noqa: S608  # our words
_JOBS_SUMS: Final[Columns] = dict.fromkeys(
    ("queued", "completed", "failed", "cancelled", "assets", "bytes"), BigInteger
)
_WORK: Final = f"""SELECT counted.*, 0.0 AS device_seconds, 0.0 AS wasted_seconds
FROM (
{_JOBS}
) AS counted
UNION ALL
SELECT job_attempts.ended_at, jobs.user_id, jobs.job_type, 0, 0, 0, 0, 0, 0,
  job_attempts.device_seconds, job_attempts.wasted_seconds
{_ENDED_ATTEMPTS}
WHERE job_attempts.device_seconds IS NOT NULL"""  # noqa: S608
_WORK_SUMS: Final[Columns] = {**_JOBS_SUMS, **dict.fromkeys(("device_seconds", "wasted_seconds"), Float)}

USE: Final = Fact("use", _WORK, {"user_id": Text}, {"job_type": Text}, _WORK_SUMS)
"""What came in, how it ended and what it cost, by user. Jobs count where they ended last."""
OUTPUT: Final = Fact("output", _WORK, {"job_type": Text}, {"user_id": Text}, _WORK_SUMS)
"""The same by job type."""

USERS_JOBS: Final = Fact("use", _JOBS, USE.keys, USE.more, _JOBS_SUMS)
"""The part of it that is about jobs: what need not be known need not be counted."""
TYPES_JOBS: Final = Fact("output", _JOBS, OUTPUT.keys, OUTPUT.more, _JOBS_SUMS)
"""The same by job type."""
ARRIVALS: Final = Fact(
    "use",
    f"SELECT jobs.queued_at AS at, jobs.user_id, jobs.job_type, 1 AS queued\n{_ADMITTED_JOBS}",
    USE.keys,
    USE.more,
    {"queued": BigInteger},
)
"""The part of it that says what came in."""

FAILURES: Final = Fact(
    "failures",
    f"""SELECT jobs.finished_at AS at, jobs.user_id, jobs.job_type, jobs.error_class, jobs.error_type, 1 AS jobs
{_ENDED_JOBS}
WHERE jobs.state LIKE 'failed'""",
    dict.fromkeys(("user_id", "job_type", "error_class", "error_type"), Text),
    {},
    {"jobs": BigInteger},
)
"""Jobs that ended as failed, and of what."""

ATTEMPTS: Final = Fact(
    "attempts",
    f"""SELECT job_attempts.ended_at AS at, jobs.user_id, jobs.job_type, job_attempts.worker_id, job_attempts.stage,
  job_attempts.outcome, job_attempts.error_class, job_attempts.error_type, 1 AS attempts,
  job_attempts.wait_seconds, COALESCE(job_attempts.run_seconds, 0.0) AS run_seconds,
  COALESCE(job_attempts.delay_seconds, 0.0) AS delay_seconds,
  COALESCE(job_attempts.device_seconds, 0.0) AS device_seconds,
  COALESCE(job_attempts.wasted_seconds, 0.0) AS wasted_seconds
{_ENDED_ATTEMPTS}""",
    dict.fromkeys(("job_type", "worker_id", "stage", "outcome", "error_class", "error_type"), Text),
    {"user_id": Text},
    {
        "attempts": BigInteger,
        **dict.fromkeys(("wait_seconds", "run_seconds", "delay_seconds", "device_seconds", "wasted_seconds"), Float),
    },
)
"""Attempts at stages that ended."""


def _rounded() -> str:
    """`ms` to steps of at most a tenth of it, so that a duration read from a rollup is right within 5 %."""
    steps = []
    for decade in (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000):
        for below, step in ((20, 1), (50, 2), (100, 5)):
            whole = step * decade
            rounded = "ms" if whole == 1 else f"(ms + {whole // 2}) / {whole} * {whole}"
            steps.append(f"WHEN ms < {below * decade} THEN {rounded}")
    return "CASE WHEN ms < 0 THEN 0\n  " + "\n  ".join(steps) + "\n  ELSE ms / 1000000000 * 1000000000 END"


DURATIONS: Final = Fact(
    "durations",
    f"""SELECT at, user_id, job_type, worker_id, measure, stage, {_rounded()} AS ms, 1 AS number, seconds
FROM (SELECT taken.*, CAST(ROUND(taken.seconds * 1000) AS BIGINT) AS ms FROM (
SELECT jobs.finished_at AS at, jobs.user_id, jobs.job_type, CAST(NULL AS TEXT) AS worker_id,
  'until_outcome' AS measure, CAST(NULL AS TEXT) AS stage, SECONDS(jobs.queued_at, jobs.outcome_at) AS seconds
{_ENDED_JOBS}
WHERE jobs.state LIKE 'completed' AND jobs.run < 2
UNION ALL
SELECT jobs.finished_at, jobs.user_id, jobs.job_type, NULL, 'until_started', NULL,
  SECONDS(jobs.queued_at, jobs.started_at)
{_ENDED_JOBS}
WHERE jobs.state LIKE 'completed' AND jobs.run < 2
UNION ALL
SELECT job_attempts.ended_at, jobs.user_id, jobs.job_type, job_attempts.worker_id, 'wait', job_attempts.stage,
  job_attempts.wait_seconds
{_ENDED_ATTEMPTS}
UNION ALL
SELECT job_attempts.ended_at, jobs.user_id, jobs.job_type, job_attempts.worker_id, 'run', job_attempts.stage,
  job_attempts.run_seconds
{_ENDED_ATTEMPTS} WHERE job_attempts.outcome LIKE 'succeeded'
) AS taken WHERE taken.seconds IS NOT NULL) AS rounded""",  # noqa: S608
    {"job_type": Text, "measure": Text, "stage": Text, "ms": BigInteger},
    {"user_id": Text, "worker_id": Text},
    {"number": BigInteger, "seconds": Float},
)
"""How long completed jobs took from the queue to their outcome and to their start, and attempts waited and ran."""

CALLBACKS: Final = Fact(
    "callbacks",
    """SELECT job_callbacks.at, jobs.user_id, jobs.job_type, job_callbacks.worker_id, job_callbacks.status,
  job_callbacks.delivered, job_callbacks.http_code, 1 AS requests,
  CASE WHEN job_callbacks.try > 1 THEN 1 ELSE 0 END AS repeated,
  COALESCE(job_callbacks.ms, 0.0) / 1000.0 AS seconds
FROM SPANS AS span JOIN job_callbacks ON job_callbacks.at >= span.begins AND job_callbacks.at < span.ends
JOIN jobs ON jobs.id = job_callbacks.job_id""",
    {"job_type": Text, "status": Text, "delivered": Boolean, "http_code": Integer},
    {"user_id": Text, "worker_id": Text},
    {"requests": BigInteger, "repeated": BigInteger, "seconds": Float},
)
"""Requests to receivers."""

MODELS: Final = Fact(
    "models",
    """SELECT job_model_changes.at, jobs.user_id, jobs.job_type, job_model_changes.worker_id, job_model_changes.model,
  job_model_changes.kind, job_model_changes.place, 1 AS changes, job_model_changes.seconds, job_model_changes.bytes
FROM SPANS AS span JOIN job_model_changes
  ON job_model_changes.at >= span.begins AND job_model_changes.at < span.ends
JOIN jobs ON jobs.id = job_model_changes.job_id""",
    dict.fromkeys(("worker_id", "model", "kind", "place"), Text),
    {"user_id": Text, "job_type": Text},
    {"changes": BigInteger, "seconds": Float, "bytes": BigInteger},
)
"""Models that devices loaded or moved."""

FACTS: Final = (USE, OUTPUT, FAILURES, ATTEMPTS, DURATIONS, CALLBACKS, MODELS)
