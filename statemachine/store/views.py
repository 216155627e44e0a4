"""The views: questions that are asked so often that the database answers them by name."""

from typing import Final

from sqlalchemy import DDL, Column, Float, Integer, MetaData, Table, Text, event

from statemachine.store.schema import Id, Utc, metadata

declared: Final = MetaData()
"""Views as tables: to be read from, never to be created as such."""

completion_statistics: Final = Table(
    "completion_statistics",
    declared,
    Column("job_id", Id),
    Column("user_id", Text),
    Column("job_type", Text),
    Column("reference_mode", Text),
    Column("assets_generated", Integer),
    Column("total_size_mb", Float),
    Column("completion_timestamp", Utc),
)

SQL: Final[dict[str, str]] = {
    completion_statistics.name: """CREATE VIEW completion_statistics AS
SELECT jobs.id AS job_id, jobs.user_id, jobs.job_type, jobs.reference_mode, jobs.assets AS assets_generated,
  (SELECT CAST(COALESCE(SUM(job_assets.bytes), 0) AS DOUBLE PRECISION) / 1048576.0 FROM job_assets
   WHERE job_assets.job_id = jobs.id AND job_assets.run = jobs.run) AS total_size_mb,
  jobs.finished_at AS completion_timestamp
FROM jobs WHERE jobs.state = 'completed'"""
}
"""The same words on both databases."""

for _statement in SQL.values():
    event.listen(metadata, "after_create", DDL(_statement))  # type: ignore[no-untyped-call]
