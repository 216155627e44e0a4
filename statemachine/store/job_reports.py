"""Views for reports on jobs: how they went, their stages and attempts, what they made, whom they told, what failed."""

from typing import Final

from sqlalchemy import BigInteger, Boolean, Float, Integer, Text

from statemachine.store.schema import Id, Utc
from statemachine.store.views import view

report_jobs: Final = view(
    "report_jobs",
    {
        "job_id": Id,
        "state": Text,
        "outcome": Text,
        "run": Integer,
        "job_type": Text,
        "user_id": Text,
        "queue": Text,
        "source": Text,
        "model": Text,
        "priority": Integer,
        "reference_mode": Text,
        "error_class": Text,
        "error_type": Text,
        "error_message": Text,
        "attempts": Integer,
        "retries": BigInteger,
        "assets": Integer,
        "bytes": BigInteger,
        "created_at": Utc,
        "queued_at": Utc,
        "queued_day": Text,
        "queued_hour": Text,
        "run_at": Utc,
        "outcome_at": Utc,
        "finished_at": Utc,
        "finished_day": Text,
        "wait_seconds": Float,
        "work_seconds": Float,
        "total_seconds": Float,
        "telling_seconds": Float,
        "device_seconds": Float,
        "spent_seconds": Float,
        "wasted_seconds": Float,
    },
    """SELECT
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
)

report_attempts: Final = view(
    "report_attempts",
    {
        "job_id": Id,
        "run": Integer,
        "stage": Text,
        "attempt": Integer,
        "job_type": Text,
        "user_id": Text,
        "queue": Text,
        "model": Text,
        "worker_id": Text,
        "host": Text,
        "device": Text,
        "due_at": Utc,
        "started_at": Utc,
        "ended_at": Utc,
        "wait_seconds": Float,
        "run_seconds": Float,
        "device_seconds": Float,
        "wasted_seconds": Float,
        "outcome": Text,
        "counts": Boolean,
        "retried": Boolean,
        "delay_seconds": Float,
        "error_class": Text,
        "error_type": Text,
        "error_message": Text,
    },
    """SELECT
  a.job_id, a.run, a.stage, a.attempt, jobs.job_type, jobs.user_id, jobs.queue, jobs.model, a.worker_id, a.host,
  a.device, a.due_at, a.started_at, a.ended_at, a.wait_seconds, a.run_seconds, a.device_seconds, a.wasted_seconds,
  a.outcome, a.counts,
  EXISTS (SELECT 1 FROM job_attempts AS later WHERE later.job_id = a.job_id AND later.run = a.run
    AND later.stage = a.stage AND later.attempt > a.attempt) AS retried,
  a.delay_seconds, a.error_class, a.error_type, a.error_message
FROM job_attempts AS a JOIN jobs ON jobs.id = a.job_id""",
)

report_stages: Final = view(
    "report_stages",
    {
        "job_id": Id,
        "run": Integer,
        "stage": Text,
        "job_type": Text,
        "user_id": Text,
        "model": Text,
        "attempts": BigInteger,
        "due_at": Utc,
        "started_at": Utc,
        "ended_at": Utc,
        "wait_seconds": Float,
        "run_seconds": Float,
        "delay_seconds": Float,
        "device_seconds": Float,
        "wasted_seconds": Float,
        "outcome": Text,
    },
    """SELECT
  a.job_id, a.run, a.stage, jobs.job_type, jobs.user_id, jobs.model, COUNT(*) AS attempts,
  MIN(a.due_at) AS due_at, MIN(a.started_at) AS started_at,
  CASE WHEN COUNT(a.ended_at) = COUNT(*) THEN MAX(a.ended_at) END AS ended_at,
  SUM(a.wait_seconds) AS wait_seconds, SUM(a.run_seconds) AS run_seconds, SUM(a.delay_seconds) AS delay_seconds,
  SUM(a.device_seconds) AS device_seconds, SUM(a.wasted_seconds) AS wasted_seconds,
  (SELECT latest.outcome FROM job_attempts AS latest WHERE latest.job_id = a.job_id AND latest.run = a.run
   AND latest.stage = a.stage ORDER BY latest.attempt DESC LIMIT 1) AS outcome
FROM job_attempts AS a JOIN jobs ON jobs.id = a.job_id
GROUP BY a.job_id, a.run, a.stage, jobs.job_type, jobs.user_id, jobs.model""",
)

report_assets: Final = view(
    "report_assets",
    {
        "job_id": Id,
        "run": Integer,
        "asset_index": Integer,
        "latest": Boolean,
        "job_type": Text,
        "user_id": Text,
        "model": Text,
        "content_type": Text,
        "seed": BigInteger,
        "width": Integer,
        "height": Integer,
        "frames": Integer,
        "bytes": BigInteger,
        "seconds": Float,
        "bucket": Text,
        "key": Text,
        "uploaded_at": Utc,
        "uploaded_day": Text,
    },
    """SELECT
  made.job_id, made.run, made.asset_index, made.run = jobs.run AS latest, jobs.job_type, jobs.user_id, jobs.model,
  made.content_type, made.seed, made.width, made.height, made.frames, made.bytes, made.seconds, made.bucket, made.key,
  made.uploaded_at, DAY(made.uploaded_at) AS uploaded_day
FROM job_assets AS made JOIN jobs ON jobs.id = made.job_id""",
)

report_callbacks: Final = view(
    "report_callbacks",
    {
        "job_id": Id,
        "version": Integer,
        "run": Integer,
        "job_type": Text,
        "user_id": Text,
        "status": Text,
        "try": Integer,
        "result": Text,
        "http_code": Integer,
        "ms": Float,
        "error": Text,
        "worker_id": Text,
        "at": Utc,
        "day": Text,
    },
    """SELECT
  told.job_id, told.version, told.run, jobs.job_type, jobs.user_id, told.status, told.try,
  CASE WHEN told.delivered THEN 'delivered' WHEN told.http_code IS NULL THEN 'unanswered' ELSE 'refused' END AS result,
  told.http_code, told.ms, told.error, told.worker_id, told.at, DAY(told.at) AS day
FROM job_callbacks AS told JOIN jobs ON jobs.id = told.job_id""",
)

report_failures: Final = view(
    "report_failures",
    {
        "job_id": Id,
        "run": Integer,
        "stage": Text,
        "attempt": Integer,
        "at": Utc,
        "day": Text,
        "job_type": Text,
        "user_id": Text,
        "queue": Text,
        "model": Text,
        "worker_id": Text,
        "device": Text,
        "error_class": Text,
        "error_type": Text,
        "error_message": Text,
        "retried": Boolean,
        "wasted_seconds": Float,
        "job_state": Text,
    },
    """SELECT
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
)

report_failure_classes: Final = view(
    "report_failure_classes",
    {
        "error_class": Text,
        "error_type": Text,
        "stage": Text,
        "failures": BigInteger,
        "jobs": BigInteger,
        "retried": BigInteger,
        "recovered": BigInteger,
        "wasted_seconds": Float,
        "first_at": Utc,
        "last_at": Utc,
    },
    """SELECT error_class, error_type, stage, COUNT(*) AS failures, COUNT(DISTINCT job_id) AS jobs,
  COUNT(CASE WHEN retried THEN 1 END) AS retried,
  COUNT(DISTINCT CASE WHEN job_state = 'completed' THEN job_id END) AS recovered,
  SUM(wasted_seconds) AS wasted_seconds, MIN(at) AS first_at, MAX(at) AS last_at
FROM report_failures GROUP BY error_class, error_type, stage""",
)
