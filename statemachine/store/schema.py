"""The tables. Their names and columns are public: people write SQL against them.

`job_events` is the truth and append-only. `jobs`, `job_attempts`, `job_assets`, `job_callbacks` and
`job_model_changes` are projections that `ourvidz jobs rebuild` makes again from it. `job_leases`, `workers` and
`queues` say how things are now. `job_payloads` holds what is personal, so that it can be erased without touching the
history.
"""

from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)


class Utc(TypeDecorator[datetime]):
    """An aware time in UTC, to the microsecond: `timestamptz` on PostgreSQL, ISO text without zone on SQLite."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive times: nobody can say what they mean."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"expected an aware time, got the naive {value.isoformat()}")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """SQLite gives naive times back; they are UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# Compared byte by byte, so that an id's prefix is a range of the index in every locale.
Id = String(36).with_variant(String(36, collation="C"), "postgresql")
Serial = BigInteger().with_variant(Integer, "sqlite")

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

job_events: Final = Table(
    "job_events",
    metadata,
    Column("position", Serial, primary_key=True, autoincrement=True),
    Column("job_id", Id, nullable=False),
    Column("version", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("from_state", Text),
    Column("to_state", Text, nullable=False),
    Column("run", Integer, nullable=False),
    Column("stage", Text),
    Column("attempt", Integer),
    Column("worker_id", Text),
    Column("at", Utc, nullable=False),
    Column("data", Text, nullable=False),
    Column("digest", String(64), nullable=False),
    UniqueConstraint("job_id", "version"),
)

jobs: Final = Table(
    "jobs",
    metadata,
    Column("id", Id, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("token", Integer, nullable=False),
    Column("run", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("outcome", Text),
    Column("job_type", Text),
    Column("user_id", Text),
    Column("queue", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("model", Text),
    Column("priority", Integer, nullable=False),
    Column("turn", BigInteger, nullable=False),
    Column("seed", BigInteger),
    Column("reference_mode", Text),
    Column("payload_digest", String(64), nullable=False),
    Column("worker_id", Text),
    Column("resume_at", Utc),
    Column("cancel_requested", Boolean, nullable=False),
    Column("error_class", Text),
    Column("error_type", Text),
    Column("error_message", Text),
    Column("attempts", Integer, nullable=False),
    Column("assets", Integer, nullable=False),
    Column("device_seconds", Float),
    Column("created_at", Utc),
    Column("queued_at", Utc, nullable=False),
    Column("run_at", Utc, nullable=False),
    Column("due_at", Utc, nullable=False),
    Column("started_at", Utc),
    Column("outcome_at", Utc),
    Column("finished_at", Utc),
    Column("updated_at", Utc, nullable=False),
    Index("ix_jobs_queued_at", "queued_at"),
    Index("ix_jobs_user_id_queued_at", "user_id", "queued_at"),
    Index("ix_jobs_state_queued_at", "state", "queued_at"),
)

# What waits to be claimed, in the order in which it is. Small: leased and finished jobs are not in it.
_WAITING: Final = text("finished_at IS NULL AND worker_id IS NULL")
Index(
    "ix_jobs_waiting",
    jobs.c.priority.desc(),
    jobs.c.turn,
    jobs.c.queued_at,
    sqlite_where=_WAITING,
    postgresql_where=_WAITING,
)
Index("ix_jobs_waiting_user", jobs.c.user_id, jobs.c.turn, sqlite_where=_WAITING, postgresql_where=_WAITING)
_HELD: Final = text("finished_at IS NULL AND worker_id IS NOT NULL")
Index("ix_jobs_held", jobs.c.worker_id, sqlite_where=_HELD, postgresql_where=_HELD)
# Without the live ones: else SQLite would look for what waits in here, where it has no order.
_FINISHED: Final = text("finished_at IS NOT NULL")
Index("ix_jobs_finished_at", jobs.c.finished_at, sqlite_where=_FINISHED, postgresql_where=_FINISHED)

job_attempts: Final = Table(
    "job_attempts",
    metadata,
    Column("job_id", Id, primary_key=True),
    Column("run", Integer, primary_key=True),
    Column("stage", Text, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("worker_id", Text),
    Column("host", Text),
    Column("device", Text),
    Column("token", Integer, nullable=False),
    Column("due_at", Utc, nullable=False),
    Column("started_at", Utc, nullable=False),
    Column("ended_at", Utc),
    Column("wait_seconds", Float, nullable=False),
    Column("run_seconds", Float),
    Column("outcome", Text),
    Column("error_class", Text),
    Column("error_type", Text),
    Column("error_message", Text),
    Column("delay_seconds", Float),
    Column("counts", Boolean, nullable=False),
    Column("device_seconds", Float),
    Column("wasted_seconds", Float),
    Index("ix_job_attempts_ended_at", "ended_at"),
)

job_assets: Final = Table(
    "job_assets",
    metadata,
    Column("job_id", Id, primary_key=True),
    Column("run", Integer, primary_key=True),
    Column("asset_index", Integer, primary_key=True),
    Column("seed", BigInteger, nullable=False),
    Column("name", Text, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("frames", Integer, nullable=False),
    Column("content_type", Text, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("bucket", Text),
    Column("key", Text),
    Column("url", Text),
    Column("uploaded_at", Utc),
)

job_callbacks: Final = Table(
    "job_callbacks",
    metadata,
    Column("job_id", Id, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("run", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("try", Integer, nullable=False),
    Column("delivered", Boolean, nullable=False),
    Column("http_code", Integer),
    Column("ms", Float),
    Column("error", Text),
    Column("worker_id", Text),
    Column("at", Utc, nullable=False),
    Index("ix_job_callbacks_at", "at"),
)

job_model_changes: Final = Table(
    "job_model_changes",
    metadata,
    Column("job_id", Id, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("run", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("place", Text, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("digest", Text),
    Column("worker_id", Text),
    Column("device", Text),
    Column("at", Utc, nullable=False),
    Index("ix_job_model_changes_at", "at"),
)

job_leases: Final = Table(
    "job_leases",
    metadata,
    Column("job_id", Id, primary_key=True),
    Column("worker_id", Text),  # NULL: free; files to go on from, if there are any, are still at spool_host
    Column("token", Integer, nullable=False),
    Column("expires_at", Utc),
    Column("renewed_at", Utc),
    Column("spool_host", Text),
    Column("progress", Text),
    Column("progress_at", Utc),
    Index("ix_job_leases_worker_id", "worker_id"),
)

job_payloads: Final = Table(
    "job_payloads",
    metadata,
    Column("job_id", Id, primary_key=True),
    Column("raw", LargeBinary),
    Column("content", Text),
    Column("erased_at", Utc),
)

rejected_writes: Final = Table(
    "rejected_writes",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("job_id", Id, nullable=False),
    Column("worker_id", Text),
    Column("token", Integer, nullable=False),
    Column("found_token", Integer),
    Column("version", Integer, nullable=False),
    Column("found_version", Integer),
    Column("kinds", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Utc, nullable=False),
    Index("ix_rejected_writes_job_id", "job_id"),
)

workers: Final = Table(
    "workers",
    metadata,
    Column("worker_id", Text, primary_key=True),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("device", Text, nullable=False),
    Column("engine", Text),
    Column("engine_pid", Integer),
    Column("job_types", Text, nullable=False),
    Column("models", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("note", Text),
    Column("version", Text, nullable=False),
    Column("started_at", Utc, nullable=False),
    Column("last_seen_at", Utc, nullable=False),
    Column("resident", Text),
    Column("spool", Text),
    Index("ix_workers_last_seen_at", "last_seen_at"),
)

dead_letters: Final = Table(
    "dead_letters",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("job_id", Id),
    Column("queue", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("raw", LargeBinary, nullable=False),
    Column("raw_digest", String(64), nullable=False),
    Column("at", Utc, nullable=False),
    Column("requeued_at", Utc),
    Column("requeued_by", Text),
    Index("ix_dead_letters_at", "at"),
)

queues: Final = Table(
    "queues",
    metadata,
    Column("name", Text, primary_key=True),
    Column("paused_at", Utc),
    Column("paused_by", Text),
    Column("reason", Text),
)

retention_door: Final = Table(
    "retention_door",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("opened_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Utc, nullable=False),
)
"""A row in here, within one transaction, is the one door through which events may be deleted."""

Row = dict[str, Any]
