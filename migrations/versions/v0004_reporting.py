"""What reports are made of: callbacks, changes of models, device time of attempts, and the views over them.

What is written here stays as it was released; later versions change it by migrations of their own.
"""

import re

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ID = sa.String(36).with_variant(sa.String(36, collation="C"), "postgresql")
UTC = sa.DateTime(timezone=True)
FINISHED = sa.text("finished_at IS NOT NULL")

# The times of SQLite are text of one length, so the fraction is counted apart: strftime would round it to milliseconds.
WORDS = {
    "sqlite": {
        "SECONDS": r"(((strftime('%s', substr(\2, 1, 19)) - strftime('%s', substr(\1, 1, 19))) * 1000000 "
        r"+ substr(\2, 21) - substr(\1, 21)) / 1000000.0)",
        "DAY": r"substr(\1, 1, 10)",
        "HOUR": r"(substr(\1, 1, 13) || ':00')",
    },
    "postgresql": {
        "SECONDS": r"CAST(EXTRACT(EPOCH FROM (\2 - \1)) AS DOUBLE PRECISION)",
        "DAY": r"to_char(\1 AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
        "HOUR": r"to_char(\1 AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:00')",
    },
}

VIEWS = {
    "report_workers": """CREATE VIEW report_workers AS
SELECT
  known.worker_id, COALESCE(workers.host, done.host) AS host, workers.state, workers.version, workers.started_at,
  workers.last_seen_at, COALESCE(done.jobs, 0) AS jobs, COALESCE(done.attempts, 0) AS attempts,
  COALESCE(done.succeeded, 0) AS succeeded, COALESCE(done.failed, 0) AS failed,
  COALESCE(done.interrupted, 0) AS interrupted, COALESCE(done.run_seconds, 0.0) AS run_seconds,
  COALESCE(done.device_seconds, 0.0) AS device_seconds, COALESCE(done.wasted_seconds, 0.0) AS wasted_seconds,
  COALESCE(loaded.loads, 0) AS model_loads, COALESCE(loaded.seconds, 0.0) AS loading_seconds,
  COALESCE(refused.writes, 0) AS rejected_writes, done.first_attempt_at, done.last_attempt_at
FROM (SELECT worker_id FROM workers UNION SELECT worker_id FROM job_attempts WHERE worker_id IS NOT NULL) AS known
LEFT JOIN workers ON workers.worker_id = known.worker_id
LEFT JOIN (SELECT worker_id, MAX(host) AS host, COUNT(DISTINCT job_id) AS jobs, COUNT(*) AS attempts,
    COUNT(CASE WHEN outcome IN ('succeeded', 'skipped') THEN 1 END) AS succeeded,
    COUNT(CASE WHEN outcome IN ('retry', 'failed') THEN 1 END) AS failed,
    COUNT(CASE WHEN outcome = 'interrupted' THEN 1 END) AS interrupted, SUM(run_seconds) AS run_seconds,
    SUM(device_seconds) AS device_seconds, SUM(wasted_seconds) AS wasted_seconds,
    MIN(started_at) AS first_attempt_at, MAX(started_at) AS last_attempt_at
  FROM job_attempts GROUP BY worker_id) AS done ON done.worker_id = known.worker_id
LEFT JOIN (SELECT worker_id, COUNT(*) AS loads, SUM(seconds) AS seconds FROM job_model_changes
  WHERE kind = 'model_loaded' GROUP BY worker_id) AS loaded ON loaded.worker_id = known.worker_id
LEFT JOIN (SELECT worker_id, COUNT(*) AS writes FROM rejected_writes GROUP BY worker_id) AS refused
  ON refused.worker_id = known.worker_id""",
    "report_worker_hours": """CREATE VIEW report_worker_hours AS
SELECT worker_id, HOUR(ended_at) AS hour, COUNT(DISTINCT job_id) AS jobs, COUNT(*) AS attempts,
  COUNT(CASE WHEN outcome IN ('succeeded', 'skipped') THEN 1 END) AS succeeded,
  COUNT(CASE WHEN outcome IN ('retry', 'failed') THEN 1 END) AS failed,
  COUNT(CASE WHEN outcome = 'interrupted' THEN 1 END) AS interrupted, SUM(run_seconds) AS run_seconds,
  COALESCE(SUM(device_seconds), 0.0) AS device_seconds, COALESCE(SUM(wasted_seconds), 0.0) AS wasted_seconds
FROM job_attempts WHERE ended_at IS NOT NULL GROUP BY worker_id, HOUR(ended_at)""",
    "report_model_loads": """CREATE VIEW report_model_loads AS
SELECT job_id, version, run, at, DAY(at) AS day, worker_id, device, model,
  LAG(model) OVER (PARTITION BY worker_id, device ORDER BY at, job_id, version) AS previous_model, seconds, bytes
FROM job_model_changes WHERE kind = 'model_loaded'""",
    "report_expectations": """CREATE VIEW report_expectations AS
WITH expected (job_type, assets, at_least, at_most) AS (VALUES
  ('sdxl_image_fast', 1, 3.0, 8.0),
  ('sdxl_image_fast', 3, 9.0, 24.0),
  ('sdxl_image_fast', 6, 18.0, 48.0),
  ('sdxl_image_high', 1, 3.0, 8.0),
  ('sdxl_image_high', 3, 9.0, 24.0),
  ('sdxl_image_high', 6, 18.0, 48.0),
  ('image_fast', 1, 25.0, 40.0),
  ('image_high', 1, 40.0, 100.0),
  ('video_fast', 1, 135.0, 180.0),
  ('video_high', 1, 180.0, 240.0),
  ('image7b_fast_enhanced', 1, 85.0, 100.0),
  ('image7b_high_enhanced', 1, 100.0, 240.0),
  ('video7b_fast_enhanced', 1, 195.0, 240.0),
  ('video7b_high_enhanced', 1, 240.0, NULL))
SELECT job_type, assets, CAST(at_least AS DOUBLE PRECISION) AS least_seconds,
  CAST(at_most AS DOUBLE PRECISION) AS most_seconds FROM expected""",
    "report_performance": """CREATE VIEW report_performance AS
SELECT
  jobs.id AS job_id, jobs.job_type, jobs.user_id, jobs.model, jobs.reference_mode, jobs.assets,
  (SELECT a.worker_id FROM job_attempts AS a WHERE a.job_id = jobs.id AND a.stage = 'generating'
   AND a.outcome = 'succeeded' ORDER BY a.run DESC, a.attempt DESC LIMIT 1) AS worker_id,
  (SELECT a.device FROM job_attempts AS a WHERE a.job_id = jobs.id AND a.stage = 'generating'
   AND a.outcome = 'succeeded' ORDER BY a.run DESC, a.attempt DESC LIMIT 1) AS device,
  jobs.outcome_at, DAY(jobs.outcome_at) AS day, jobs.device_seconds, expected.least_seconds, expected.most_seconds,
  jobs.device_seconds / expected.most_seconds AS performance_ratio,
  CASE WHEN jobs.device_seconds < expected.least_seconds THEN 'faster'
    WHEN jobs.device_seconds > expected.most_seconds THEN 'slower'
    WHEN expected.least_seconds IS NOT NULL THEN 'as expected' END AS pace
FROM jobs LEFT JOIN report_expectations AS expected
  ON expected.job_type = jobs.job_type AND expected.assets = jobs.assets
WHERE jobs.outcome = 'completed' AND jobs.device_seconds IS NOT NULL""",
    "report_jobs": """CREATE VIEW report_jobs AS
SELECT
  jobs.id AS job_id, jobs.state, jobs.outcome, jobs.run, jobs.job_type, jobs.user_id, jobs.queue, jobs.source,
  jobs.model, jobs.priority, jobs.reference_mode, jobs.error_class, jobs.error_type, jobs.error_message, jobs.attempts,
  (SELECT COUNT(*) FROM job_attempts AS a WHERE a.job_id = jobs.id AND a.run = jobs.run AND a.attempt > 1) AS retries,
  jobs.assets,
  (SELECT CAST(COALESCE(SUM(made.bytes), 0) AS BIGINT) FROM job_assets AS made
   WHERE made.job_id = jobs.id AND made.run = jobs.run) AS bytes,
  jobs.created_at, jobs.queued_at, DAY(jobs.queued_at) AS queued_day, HOUR(jobs.queued_at) AS queued_hour, jobs.run_at,
  jobs.outcome_at, jobs.finished_at, DAY(jobs.finished_at) AS finished_day,
  (SELECT MIN(SECONDS(jobs.run_at, a.started_at)) FROM job_attempts AS a
   WHERE a.job_id = jobs.id AND a.run = jobs.run) AS wait_seconds,
  (SELECT SUM(a.run_seconds) FROM job_attempts AS a WHERE a.job_id = jobs.id AND a.run = jobs.run) AS work_seconds,
  CASE WHEN jobs.run = 1 OR jobs.outcome_at > jobs.run_at THEN SECONDS(jobs.run_at, jobs.outcome_at) END
    AS total_seconds,
  SECONDS(jobs.outcome_at, jobs.finished_at) AS telling_seconds, jobs.device_seconds,
  (SELECT SUM(a.device_seconds) FROM job_attempts AS a WHERE a.job_id = jobs.id) AS spent_seconds,
  (SELECT SUM(a.wasted_seconds) FROM job_attempts AS a WHERE a.job_id = jobs.id) AS wasted_seconds
FROM jobs""",
    "report_attempts": """CREATE VIEW report_attempts AS
SELECT
  a.job_id, a.run, a.stage, a.attempt, jobs.job_type, jobs.user_id, jobs.queue, jobs.model, a.worker_id, a.host,
  a.device, a.due_at, a.started_at, a.ended_at, a.wait_seconds, a.run_seconds, a.device_seconds, a.wasted_seconds,
  a.outcome, a.counts,
  EXISTS (SELECT 1 FROM job_attempts AS later WHERE later.job_id = a.job_id AND later.run = a.run
    AND later.stage = a.stage AND later.attempt > a.attempt) AS retried,
  a.delay_seconds, a.error_class, a.error_type, a.error_message
FROM job_attempts AS a JOIN jobs ON jobs.id = a.job_id""",
    "report_stages": """CREATE VIEW report_stages AS
SELECT
  a.job_id, a.run, a.stage, jobs.job_type, jobs.user_id, jobs.model, COUNT(*) AS attempts,
  MIN(a.due_at) AS due_at, MIN(a.started_at) AS started_at,
  CASE WHEN COUNT(a.ended_at) = COUNT(*) THEN MAX(a.ended_at) END AS ended_at,
  SUM(a.wait_seconds) AS wait_seconds, SUM(a.run_seconds) AS run_seconds, SUM(a.delay_seconds) AS delay_seconds,
  SUM(a.device_seconds) AS device_seconds, SUM(a.wasted_seconds) AS wasted_seconds,
  (SELECT latest.outcome FROM job_attempts AS latest WHERE latest.job_id = a.job_id AND latest.run = a.run
   AND latest.stage = a.stage ORDER BY latest.attempt DESC LIMIT 1) AS outcome
FROM job_attempts AS a JOIN jobs ON jobs.id = a.job_id
GROUP BY a.job_id, a.run, a.stage, jobs.job_type, jobs.user_id, jobs.model""",
    "report_assets": """CREATE VIEW report_assets AS
SELECT
  made.job_id, made.run, made.asset_index, made.run = jobs.run AS latest, jobs.job_type, jobs.user_id, jobs.model,
  made.content_type, made.seed, made.width, made.height, made.frames, made.bytes, made.seconds, made.bucket, made.key,
  made.uploaded_at, DAY(made.uploaded_at) AS uploaded_day
FROM job_assets AS made JOIN jobs ON jobs.id = made.job_id""",
    "report_callbacks": """CREATE VIEW report_callbacks AS
SELECT
  told.job_id, told.version, told.run, jobs.job_type, jobs.user_id, told.status, told.try,
  CASE WHEN told.delivered THEN 'delivered' WHEN told.http_code IS NULL THEN 'unanswered' ELSE 'refused' END AS result,
  told.http_code, told.ms, told.error, told.worker_id, told.at, DAY(told.at) AS day
FROM job_callbacks AS told JOIN jobs ON jobs.id = told.job_id""",
    "report_failures": """CREATE VIEW report_failures AS
SELECT
  a.job_id, a.run, a.stage, a.attempt, a.ended_at AS at, DAY(a.ended_at) AS day, jobs.job_type, jobs.user_id,
  jobs.queue, jobs.model, a.worker_id, a.device, a.error_class, a.error_type, a.error_message,
  EXISTS (SELECT 1 FROM job_attempts AS later WHERE later.job_id = a.job_id AND later.run = a.run
    AND later.stage = a.stage AND later.attempt > a.attempt) AS retried,
  a.wasted_seconds, jobs.state AS job_state
FROM job_attempts AS a JOIN jobs ON jobs.id = a.job_id
WHERE a.counts AND a.error_class <> 'cancelled'
UNION ALL
SELECT jobs.id, jobs.run, NULL, NULL, jobs.outcome_at, DAY(jobs.outcome_at), jobs.job_type, jobs.user_id,
  jobs.queue, jobs.model, NULL, NULL, jobs.error_class, jobs.error_type, jobs.error_message, 1 = 0, NULL, jobs.state
FROM jobs WHERE jobs.outcome = 'failed' AND NOT EXISTS (SELECT 1 FROM job_attempts AS a WHERE a.job_id = jobs.id
  AND a.counts AND a.error_class = jobs.error_class AND a.error_type = jobs.error_type)""",
    "report_failure_classes": """CREATE VIEW report_failure_classes AS
SELECT error_class, error_type, stage, COUNT(*) AS failures, COUNT(DISTINCT job_id) AS jobs,
  COUNT(CASE WHEN retried THEN 1 END) AS retried,
  COUNT(DISTINCT CASE WHEN job_state = 'completed' THEN job_id END) AS recovered,
  SUM(wasted_seconds) AS wasted_seconds, MIN(at) AS first_at, MAX(at) AS last_at
FROM report_failures GROUP BY error_class, error_type, stage""",
}


def worded(statement: str, dialect: str) -> str:
    """The statement in the words of `dialect`: what the two say differently is a word of ours."""
    for word, theirs in WORDS[dialect].items():
        taken = ", ".join([r"([\w.]+)"] * (2 if word == "SECONDS" else 1))
        statement = re.sub(rf"\b{word}\({taken}\)", theirs, statement)
    return statement


def upgrade() -> None:
    """Add tables, columns, indexes and views; `ourvidz jobs rebuild` fills them for jobs that are there already."""
    op.create_table(
        "job_callbacks",
        sa.Column("job_id", ID, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("try", sa.Integer(), nullable=False),
        sa.Column("delivered", sa.Boolean(), nullable=False),
        sa.Column("http_code", sa.Integer(), nullable=True),
        sa.Column("ms", sa.Float(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("worker_id", sa.Text(), nullable=True),
        sa.Column("at", UTC, nullable=False),
        sa.PrimaryKeyConstraint("job_id", "version", name=op.f("pk_job_callbacks")),
    )
    op.create_index("ix_job_callbacks_at", "job_callbacks", ["at"])
    op.create_table(
        "job_model_changes",
        sa.Column("job_id", ID, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=True),
        sa.Column("worker_id", sa.Text(), nullable=True),
        sa.Column("device", sa.Text(), nullable=True),
        sa.Column("at", UTC, nullable=False),
        sa.PrimaryKeyConstraint("job_id", "version", name=op.f("pk_job_model_changes")),
    )
    op.create_index("ix_job_model_changes_at", "job_model_changes", ["at"])
    op.add_column("job_attempts", sa.Column("device_seconds", sa.Float(), nullable=True))
    op.add_column("job_attempts", sa.Column("wasted_seconds", sa.Float(), nullable=True))
    op.create_index("ix_job_attempts_ended_at", "job_attempts", ["ended_at"])
    op.create_index("ix_jobs_finished_at", "jobs", ["finished_at"], sqlite_where=FINISHED, postgresql_where=FINISHED)
    for statement in VIEWS.values():
        said = worded(statement, op.get_bind().dialect.name).replace("%", "%%")
        op.execute(sa.DDL(said))  # type: ignore[no-untyped-call]


def downgrade() -> None:
    """Drop them. The history still has it all."""
    for name in reversed(VIEWS):
        op.execute(f"DROP VIEW {name}")
    op.drop_index("ix_jobs_finished_at", table_name="jobs")
    op.drop_index("ix_job_attempts_ended_at", table_name="job_attempts")
    op.drop_column("job_attempts", "wasted_seconds")
    op.drop_column("job_attempts", "device_seconds")
    op.drop_table("job_model_changes")
    op.drop_table("job_callbacks")
