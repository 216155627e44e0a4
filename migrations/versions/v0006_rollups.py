"""Daily rollups: their tables, and the views that are rolled-up days and the others together.

What is written here stays as it was released; later versions change it by migrations of their own.
"""

import re
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
END = datetime(9999, 12, 31, tzinfo=UTC)

ROLLUPS: dict[str, list[sa.Column[Any]]] = {
    "rollup_use": [
        sa.Column("user_id", sa.Text(), nullable=True),
        sa.Column("queued", sa.BigInteger(), nullable=False),
        sa.Column("completed", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.BigInteger(), nullable=False),
        sa.Column("cancelled", sa.BigInteger(), nullable=False),
        sa.Column("assets", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("device_seconds", sa.Float(), nullable=False),
        sa.Column("wasted_seconds", sa.Float(), nullable=False),
    ],
    "rollup_output": [
        sa.Column("job_type", sa.Text(), nullable=True),
        sa.Column("queued", sa.BigInteger(), nullable=False),
        sa.Column("completed", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.BigInteger(), nullable=False),
        sa.Column("cancelled", sa.BigInteger(), nullable=False),
        sa.Column("assets", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("device_seconds", sa.Float(), nullable=False),
        sa.Column("wasted_seconds", sa.Float(), nullable=False),
    ],
    "rollup_failures": [
        sa.Column("user_id", sa.Text(), nullable=True),
        sa.Column("job_type", sa.Text(), nullable=True),
        sa.Column("error_class", sa.Text(), nullable=True),
        sa.Column("error_type", sa.Text(), nullable=True),
        sa.Column("jobs", sa.BigInteger(), nullable=False),
    ],
    "rollup_attempts": [
        sa.Column("job_type", sa.Text(), nullable=True),
        sa.Column("worker_id", sa.Text(), nullable=True),
        sa.Column("stage", sa.Text(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("error_class", sa.Text(), nullable=True),
        sa.Column("error_type", sa.Text(), nullable=True),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("wait_seconds", sa.Float(), nullable=False),
        sa.Column("run_seconds", sa.Float(), nullable=False),
        sa.Column("delay_seconds", sa.Float(), nullable=False),
        sa.Column("device_seconds", sa.Float(), nullable=False),
        sa.Column("wasted_seconds", sa.Float(), nullable=False),
    ],
    "rollup_durations": [
        sa.Column("job_type", sa.Text(), nullable=True),
        sa.Column("measure", sa.Text(), nullable=True),
        sa.Column("stage", sa.Text(), nullable=True),
        sa.Column("ms", sa.BigInteger(), nullable=True),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
    ],
    "rollup_callbacks": [
        sa.Column("job_type", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=True),
        sa.Column("delivered", sa.Boolean(), nullable=True),
        sa.Column("http_code", sa.Integer(), nullable=True),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("repeated", sa.BigInteger(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
    ],
    "rollup_models": [
        sa.Column("worker_id", sa.Text(), nullable=True),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=True),
        sa.Column("place", sa.Text(), nullable=True),
        sa.Column("changes", sa.BigInteger(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
    ],
}

# The times of SQLite are text of one length, so the fraction is counted apart: strftime would round it to milliseconds.
WORDS = {
    "sqlite": {
        "SECONDS": r"(((strftime('%s', substr(\2, 1, 19)) - strftime('%s', substr(\1, 1, 19))) * 1000000 "
        r"+ substr(\2, 21) - substr(\1, 21)) / 1000000.0)",
        "DAY": r"substr(\1, 1, 10)",
    },
    "postgresql": {
        "SECONDS": r"CAST(EXTRACT(EPOCH FROM (\2 - \1)) AS DOUBLE PRECISION)",
        "DAY": r"to_char(\1 AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
    },
}

ENDED_JOBS = """FROM rollup_spans AS span JOIN jobs
  ON jobs.finished_at >= span.begins AND jobs.finished_at < span.ends AND jobs.finished_at IS NOT NULL"""
ENDED_ATTEMPTS = """FROM rollup_spans AS span JOIN job_attempts
  ON job_attempts.ended_at >= span.begins AND job_attempts.ended_at < span.ends
JOIN jobs ON jobs.id = job_attempts.job_id"""
WORK = f"""SELECT counted.*, 0.0 AS device_seconds, 0.0 AS wasted_seconds
FROM (
SELECT jobs.queued_at AS at, jobs.user_id, jobs.job_type, 1 AS queued, 0 AS completed, 0 AS failed,
  0 AS cancelled, 0 AS assets, 0 AS bytes
FROM rollup_spans AS span JOIN jobs ON jobs.queued_at >= span.begins AND jobs.queued_at < span.ends
UNION ALL
SELECT jobs.finished_at, jobs.user_id, jobs.job_type, 0, CASE WHEN jobs.state = 'completed' THEN 1 ELSE 0 END,
  CASE WHEN jobs.state = 'failed' THEN 1 ELSE 0 END, CASE WHEN jobs.state = 'cancelled' THEN 1 ELSE 0 END,
  CASE WHEN jobs.state = 'completed' THEN jobs.assets ELSE 0 END,
  CASE WHEN jobs.state = 'completed' THEN COALESCE((SELECT SUM(job_assets.bytes) FROM job_assets
    WHERE job_assets.job_id = jobs.id AND job_assets.run = jobs.run), 0) ELSE 0 END
{ENDED_JOBS}
) AS counted
UNION ALL
SELECT job_attempts.ended_at, jobs.user_id, jobs.job_type, 0, 0, 0, 0, 0, 0,
  job_attempts.device_seconds, job_attempts.wasted_seconds
{ENDED_ATTEMPTS}
WHERE job_attempts.device_seconds IS NOT NULL"""  # noqa: S608

VIEWS = {
    "rollup_spans": """CREATE VIEW rollup_spans AS
SELECT open_from AS begins, open_until AS ends FROM rollup_state
UNION ALL
SELECT DISTINCT rollup_marks.begins, rollup_marks.ends FROM rollup_marks JOIN rollup_state
  ON rollup_marks.begins >= rollup_state.sealed_until AND rollup_marks.begins < rollup_state.open_from""",
    "daily_use": f"""CREATE VIEW daily_use AS
SELECT day, user_id, queued, completed, failed, cancelled, assets, bytes, device_seconds, wasted_seconds
FROM rollup_use
WHERE day NOT IN (SELECT DAY(rollup_spans.begins) FROM rollup_spans)
UNION ALL
SELECT DAY(facts.at) AS day, facts.user_id, CAST(SUM(facts.queued) AS BIGINT) AS queued,
  CAST(SUM(facts.completed) AS BIGINT) AS completed, CAST(SUM(facts.failed) AS BIGINT) AS failed,
  CAST(SUM(facts.cancelled) AS BIGINT) AS cancelled, CAST(SUM(facts.assets) AS BIGINT) AS assets,
  CAST(SUM(facts.bytes) AS BIGINT) AS bytes, CAST(SUM(facts.device_seconds) AS DOUBLE PRECISION) AS device_seconds,
  CAST(SUM(facts.wasted_seconds) AS DOUBLE PRECISION) AS wasted_seconds
FROM (
{WORK}
) AS facts GROUP BY DAY(facts.at), facts.user_id""",  # noqa: S608
    "daily_output": f"""CREATE VIEW daily_output AS
SELECT day, job_type, queued, completed, failed, cancelled, assets, bytes, device_seconds, wasted_seconds
FROM rollup_output
WHERE day NOT IN (SELECT DAY(rollup_spans.begins) FROM rollup_spans)
UNION ALL
SELECT DAY(facts.at) AS day, facts.job_type, CAST(SUM(facts.queued) AS BIGINT) AS queued,
  CAST(SUM(facts.completed) AS BIGINT) AS completed, CAST(SUM(facts.failed) AS BIGINT) AS failed,
  CAST(SUM(facts.cancelled) AS BIGINT) AS cancelled, CAST(SUM(facts.assets) AS BIGINT) AS assets,
  CAST(SUM(facts.bytes) AS BIGINT) AS bytes, CAST(SUM(facts.device_seconds) AS DOUBLE PRECISION) AS device_seconds,
  CAST(SUM(facts.wasted_seconds) AS DOUBLE PRECISION) AS wasted_seconds
FROM (
{WORK}
) AS facts GROUP BY DAY(facts.at), facts.job_type""",  # noqa: S608
    "daily_failures": f"""CREATE VIEW daily_failures AS
SELECT day, user_id, job_type, error_class, error_type, jobs
FROM rollup_failures
WHERE day NOT IN (SELECT DAY(rollup_spans.begins) FROM rollup_spans)
UNION ALL
SELECT DAY(facts.at) AS day, facts.user_id, facts.job_type, facts.error_class, facts.error_type,
  CAST(SUM(facts.jobs) AS BIGINT) AS jobs
FROM (
SELECT jobs.finished_at AS at, jobs.user_id, jobs.job_type, jobs.error_class, jobs.error_type, 1 AS jobs
{ENDED_JOBS}
WHERE jobs.state LIKE 'failed'
) AS facts GROUP BY DAY(facts.at), facts.user_id, facts.job_type, facts.error_class, facts.error_type""",  # noqa: S608
    "daily_attempts": f"""CREATE VIEW daily_attempts AS
SELECT day, job_type, worker_id, stage, outcome, error_class, error_type, attempts, wait_seconds, run_seconds,
  delay_seconds, device_seconds, wasted_seconds
FROM rollup_attempts
WHERE day NOT IN (SELECT DAY(rollup_spans.begins) FROM rollup_spans)
UNION ALL
SELECT DAY(facts.at) AS day, facts.job_type, facts.worker_id, facts.stage, facts.outcome, facts.error_class,
  facts.error_type, CAST(SUM(facts.attempts) AS BIGINT) AS attempts,
  CAST(SUM(facts.wait_seconds) AS DOUBLE PRECISION) AS wait_seconds,
  CAST(SUM(facts.run_seconds) AS DOUBLE PRECISION) AS run_seconds,
  CAST(SUM(facts.delay_seconds) AS DOUBLE PRECISION) AS delay_seconds,
  CAST(SUM(facts.device_seconds) AS DOUBLE PRECISION) AS device_seconds,
  CAST(SUM(facts.wasted_seconds) AS DOUBLE PRECISION) AS wasted_seconds
FROM (
SELECT job_attempts.ended_at AS at, jobs.user_id, jobs.job_type, job_attempts.worker_id, job_attempts.stage,
  job_attempts.outcome, job_attempts.error_class, job_attempts.error_type, 1 AS attempts,
  job_attempts.wait_seconds, COALESCE(job_attempts.run_seconds, 0.0) AS run_seconds,
  COALESCE(job_attempts.delay_seconds, 0.0) AS delay_seconds,
  COALESCE(job_attempts.device_seconds, 0.0) AS device_seconds,
  COALESCE(job_attempts.wasted_seconds, 0.0) AS wasted_seconds
{ENDED_ATTEMPTS}
) AS facts GROUP BY DAY(facts.at), facts.job_type, facts.worker_id, facts.stage, facts.outcome, facts.error_class,
  facts.error_type""",  # noqa: S608
    "daily_durations": f"""CREATE VIEW daily_durations AS
SELECT day, job_type, measure, stage, ms, number, seconds
FROM rollup_durations
WHERE day NOT IN (SELECT DAY(rollup_spans.begins) FROM rollup_spans)
UNION ALL
SELECT DAY(facts.at) AS day, facts.job_type, facts.measure, facts.stage, facts.ms,
  CAST(SUM(facts.number) AS BIGINT) AS number, CAST(SUM(facts.seconds) AS DOUBLE PRECISION) AS seconds
FROM (
SELECT at, user_id, job_type, worker_id, measure, stage, CASE WHEN ms < 0 THEN 0
  WHEN ms < 20 THEN ms
  WHEN ms < 50 THEN (ms + 1) / 2 * 2
  WHEN ms < 100 THEN (ms + 2) / 5 * 5
  WHEN ms < 200 THEN (ms + 5) / 10 * 10
  WHEN ms < 500 THEN (ms + 10) / 20 * 20
  WHEN ms < 1000 THEN (ms + 25) / 50 * 50
  WHEN ms < 2000 THEN (ms + 50) / 100 * 100
  WHEN ms < 5000 THEN (ms + 100) / 200 * 200
  WHEN ms < 10000 THEN (ms + 250) / 500 * 500
  WHEN ms < 20000 THEN (ms + 500) / 1000 * 1000
  WHEN ms < 50000 THEN (ms + 1000) / 2000 * 2000
  WHEN ms < 100000 THEN (ms + 2500) / 5000 * 5000
  WHEN ms < 200000 THEN (ms + 5000) / 10000 * 10000
  WHEN ms < 500000 THEN (ms + 10000) / 20000 * 20000
  WHEN ms < 1000000 THEN (ms + 25000) / 50000 * 50000
  WHEN ms < 2000000 THEN (ms + 50000) / 100000 * 100000
  WHEN ms < 5000000 THEN (ms + 100000) / 200000 * 200000
  WHEN ms < 10000000 THEN (ms + 250000) / 500000 * 500000
  WHEN ms < 20000000 THEN (ms + 500000) / 1000000 * 1000000
  WHEN ms < 50000000 THEN (ms + 1000000) / 2000000 * 2000000
  WHEN ms < 100000000 THEN (ms + 2500000) / 5000000 * 5000000
  WHEN ms < 200000000 THEN (ms + 5000000) / 10000000 * 10000000
  WHEN ms < 500000000 THEN (ms + 10000000) / 20000000 * 20000000
  WHEN ms < 1000000000 THEN (ms + 25000000) / 50000000 * 50000000
  ELSE ms / 1000000000 * 1000000000 END AS ms, 1 AS number, seconds
FROM (SELECT taken.*, CAST(ROUND(taken.seconds * 1000) AS BIGINT) AS ms FROM (
SELECT jobs.finished_at AS at, jobs.user_id, jobs.job_type, CAST(NULL AS TEXT) AS worker_id,
  'until_outcome' AS measure, CAST(NULL AS TEXT) AS stage, SECONDS(jobs.queued_at, jobs.outcome_at) AS seconds
{ENDED_JOBS}
WHERE jobs.state LIKE 'completed' AND jobs.run < 2
UNION ALL
SELECT jobs.finished_at, jobs.user_id, jobs.job_type, NULL, 'until_started', NULL,
  SECONDS(jobs.queued_at, jobs.started_at)
{ENDED_JOBS}
WHERE jobs.state LIKE 'completed' AND jobs.run < 2
UNION ALL
SELECT job_attempts.ended_at, jobs.user_id, jobs.job_type, job_attempts.worker_id, 'wait', job_attempts.stage,
  job_attempts.wait_seconds
{ENDED_ATTEMPTS}
UNION ALL
SELECT job_attempts.ended_at, jobs.user_id, jobs.job_type, job_attempts.worker_id, 'run', job_attempts.stage,
  job_attempts.run_seconds
{ENDED_ATTEMPTS} WHERE job_attempts.outcome LIKE 'succeeded'
) AS taken WHERE taken.seconds IS NOT NULL) AS rounded
) AS facts GROUP BY DAY(facts.at), facts.job_type, facts.measure, facts.stage, facts.ms""",  # noqa: S608
    "daily_callbacks": """CREATE VIEW daily_callbacks AS
SELECT day, job_type, status, delivered, http_code, requests, repeated, seconds
FROM rollup_callbacks
WHERE day NOT IN (SELECT DAY(rollup_spans.begins) FROM rollup_spans)
UNION ALL
SELECT DAY(facts.at) AS day, facts.job_type, facts.status, facts.delivered, facts.http_code,
  CAST(SUM(facts.requests) AS BIGINT) AS requests, CAST(SUM(facts.repeated) AS BIGINT) AS repeated,
  CAST(SUM(facts.seconds) AS DOUBLE PRECISION) AS seconds
FROM (
SELECT job_callbacks.at, jobs.user_id, jobs.job_type, job_callbacks.worker_id, job_callbacks.status,
  job_callbacks.delivered, job_callbacks.http_code, 1 AS requests,
  CASE WHEN job_callbacks.try > 1 THEN 1 ELSE 0 END AS repeated,
  COALESCE(job_callbacks.ms, 0.0) / 1000.0 AS seconds
FROM rollup_spans AS span JOIN job_callbacks ON job_callbacks.at >= span.begins AND job_callbacks.at < span.ends
JOIN jobs ON jobs.id = job_callbacks.job_id
) AS facts GROUP BY DAY(facts.at), facts.job_type, facts.status, facts.delivered, facts.http_code""",
    "daily_models": """CREATE VIEW daily_models AS
SELECT day, worker_id, model, kind, place, changes, seconds, bytes
FROM rollup_models
WHERE day NOT IN (SELECT DAY(rollup_spans.begins) FROM rollup_spans)
UNION ALL
SELECT DAY(facts.at) AS day, facts.worker_id, facts.model, facts.kind, facts.place,
  CAST(SUM(facts.changes) AS BIGINT) AS changes, CAST(SUM(facts.seconds) AS DOUBLE PRECISION) AS seconds,
  CAST(SUM(facts.bytes) AS BIGINT) AS bytes
FROM (
SELECT job_model_changes.at, jobs.user_id, jobs.job_type, job_model_changes.worker_id, job_model_changes.model,
  job_model_changes.kind, job_model_changes.place, 1 AS changes, job_model_changes.seconds, job_model_changes.bytes
FROM rollup_spans AS span JOIN job_model_changes
  ON job_model_changes.at >= span.begins AND job_model_changes.at < span.ends
JOIN jobs ON jobs.id = job_model_changes.job_id
) AS facts GROUP BY DAY(facts.at), facts.worker_id, facts.model, facts.kind, facts.place""",
}


def worded(statement: str, dialect: str) -> str:
    """The statement in the words of `dialect`, as they were when this was released."""
    for word, theirs in WORDS[dialect].items():
        taken = ", ".join([r"([\w.]+)"] * (2 if word == "SECONDS" else 1))
        statement = re.sub(rf"\b{word}\({taken}\)", theirs, statement)
    return statement


def upgrade() -> None:
    """Add tables and views. Days are rolled up by the supervisor, and by `ourvidz report`."""
    state = op.create_table(
        "rollup_state",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("open_from", TIME, nullable=False),
        sa.Column("open_until", TIME, nullable=False),
        sa.Column("sealed_until", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rollup_state")),
    )
    op.bulk_insert(state, [{"id": 1, "open_from": BEGINNING, "open_until": END, "sealed_until": BEGINNING}])
    op.create_table(
        "rollup_marks",
        sa.Column("id", SERIAL, autoincrement=True, nullable=False),
        sa.Column("begins", TIME, nullable=False),
        sa.Column("ends", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rollup_marks")),
    )
    for name, columns in ROLLUPS.items():
        op.create_table(name, sa.Column("day", sa.Text(), nullable=False), *columns)
        op.create_index(f"ix_{name}_day", name, ["day"])
    for statement in VIEWS.values():
        said = worded(statement, op.get_bind().dialect.name).replace("%", "%%")
        op.execute(sa.DDL(said))  # type: ignore[no-untyped-call]


def downgrade() -> None:
    """Drop them. What they count is in the other tables, but for what was archived."""
    for name in reversed(VIEWS):
        op.execute(f"DROP VIEW {name}")
    for name in ROLLUPS:
        op.drop_table(name)
    op.drop_table("rollup_marks")
    op.drop_table("rollup_state")
