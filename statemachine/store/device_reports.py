"""Views for reports on workers and their devices: what they did, what they loaded, how fast they were."""

from typing import Final

from sqlalchemy import BigInteger, Float, Integer, Text

from statemachine.expectations import EXPECTATIONS
from statemachine.store.schema import Id, Utc
from statemachine.store.views import view

report_workers: Final = view(
    "report_workers",
    {
        "worker_id": Text,
        "host": Text,
        "state": Text,
        "version": Text,
        "started_at": Utc,
        "last_seen_at": Utc,
        "jobs": BigInteger,
        "attempts": BigInteger,
        "succeeded": BigInteger,
        "failed": BigInteger,
        "interrupted": BigInteger,
        "run_seconds": Float,
        "device_seconds": Float,
        "wasted_seconds": Float,
        "model_loads": BigInteger,
        "loading_seconds": Float,
        "rejected_writes": BigInteger,
        "first_attempt_at": Utc,
        "last_attempt_at": Utc,
    },
    """SELECT
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
)

report_worker_hours: Final = view(
    "report_worker_hours",
    {
        "worker_id": Text,
        "hour": Text,
        "jobs": BigInteger,
        "attempts": BigInteger,
        "succeeded": BigInteger,
        "failed": BigInteger,
        "interrupted": BigInteger,
        "run_seconds": Float,
        "device_seconds": Float,
        "wasted_seconds": Float,
    },
    """SELECT worker_id, HOUR(ended_at) AS hour, COUNT(DISTINCT job_id) AS jobs, COUNT(*) AS attempts,
  COUNT(CASE WHEN outcome IN ('succeeded', 'skipped') THEN 1 END) AS succeeded,
  COUNT(CASE WHEN outcome IN ('retry', 'failed') THEN 1 END) AS failed,
  COUNT(CASE WHEN outcome = 'interrupted' THEN 1 END) AS interrupted, SUM(run_seconds) AS run_seconds,
  COALESCE(SUM(device_seconds), 0.0) AS device_seconds, COALESCE(SUM(wasted_seconds), 0.0) AS wasted_seconds
FROM job_attempts WHERE ended_at IS NOT NULL GROUP BY worker_id, HOUR(ended_at)""",
)

report_model_loads: Final = view(
    "report_model_loads",
    {
        "job_id": Id,
        "version": Integer,
        "run": Integer,
        "at": Utc,
        "day": Text,
        "worker_id": Text,
        "device": Text,
        "model": Text,
        "previous_model": Text,
        "seconds": Float,
        "bytes": BigInteger,
    },
    """SELECT job_id, version, run, at, DAY(at) AS day, worker_id, device, model,
  LAG(model) OVER (PARTITION BY worker_id, device ORDER BY at, job_id, version) AS previous_model, seconds, bytes
FROM job_model_changes WHERE kind = 'model_loaded'""",
)

_RANGES: Final = ",\n  ".join(
    f"('{one.job_type}', {one.assets}, {one.least}, {'NULL' if one.most is None else one.most})" for one in EXPECTATIONS
)

report_expectations: Final = view(
    "report_expectations",
    {"job_type": Text, "assets": Integer, "least_seconds": Float, "most_seconds": Float},
    f"""WITH expected (job_type, assets, at_least, at_most) AS (VALUES
  {_RANGES})
SELECT job_type, assets, CAST(at_least AS DOUBLE PRECISION) AS least_seconds,
  CAST(at_most AS DOUBLE PRECISION) AS most_seconds FROM expected""",  # noqa: S608  # our own table goes in
)

report_performance: Final = view(
    "report_performance",
    {
        "job_id": Id,
        "job_type": Text,
        "user_id": Text,
        "model": Text,
        "reference_mode": Text,
        "assets": Integer,
        "worker_id": Text,
        "device": Text,
        "outcome_at": Utc,
        "day": Text,
        "device_seconds": Float,
        "least_seconds": Float,
        "most_seconds": Float,
        "performance_ratio": Float,
        "pace": Text,
    },
    """SELECT
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
)
