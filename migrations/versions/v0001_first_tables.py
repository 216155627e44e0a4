"""The first tables: the history, its projections, leases, payloads, workers, dead letters.

What is written here stays as it was released; later versions change it by migrations of their own.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ID = sa.String(36).with_variant(sa.String(36, collation="C"), "postgresql")
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
UTC = sa.DateTime(timezone=True)
WAITING = sa.text("finished_at IS NULL AND worker_id IS NULL")
HELD = sa.text("finished_at IS NULL AND worker_id IS NOT NULL")

TRIGGERS = {
    "sqlite": [
        """CREATE TRIGGER job_events_no_update BEFORE UPDATE ON job_events
BEGIN SELECT RAISE(ABORT, 'job_events is append-only: UPDATE refused'); END""",
        """CREATE TRIGGER job_events_no_delete BEFORE DELETE ON job_events
WHEN NOT EXISTS (SELECT 1 FROM retention_door)
BEGIN SELECT RAISE(ABORT, 'job_events is append-only: DELETE refused'); END""",
        """CREATE TRIGGER job_events_no_replace BEFORE INSERT ON job_events
WHEN EXISTS (SELECT 1 FROM job_events WHERE job_id = NEW.job_id AND version = NEW.version)
  OR EXISTS (SELECT 1 FROM job_events WHERE position = NEW.position)
BEGIN SELECT RAISE(ABORT, 'job_events is append-only: REPLACE refused'); END""",
    ],
    "postgresql": [
        """CREATE FUNCTION job_events_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' AND EXISTS (SELECT 1 FROM retention_door) THEN
    RETURN OLD;
  END IF;
  RAISE EXCEPTION USING MESSAGE = 'job_events is append-only: ' || TG_OP || ' refused';
END $$""",
        """CREATE TRIGGER job_events_no_change BEFORE UPDATE OR DELETE ON job_events
FOR EACH ROW EXECUTE FUNCTION job_events_append_only()""",
        """CREATE TRIGGER job_events_no_truncate BEFORE TRUNCATE ON job_events
FOR EACH STATEMENT EXECUTE FUNCTION job_events_append_only()""",
    ],
}


def upgrade() -> None:
    """Make all tables, then the triggers that keep the history append-only."""
    op.create_table(
        "dead_letters",
        sa.Column("id", SERIAL, autoincrement=True, nullable=False),
        sa.Column("job_id", ID, nullable=True),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.Column("raw_digest", sa.String(length=64), nullable=False),
        sa.Column("at", UTC, nullable=False),
        sa.Column("requeued_at", UTC, nullable=True),
        sa.Column("requeued_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dead_letters")),
    )
    op.create_index("ix_dead_letters_at", "dead_letters", ["at"], unique=False)
    op.create_table(
        "job_assets",
        sa.Column("job_id", ID, nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("asset_index", sa.Integer(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("frames", sa.Integer(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("bucket", sa.Text(), nullable=True),
        sa.Column("key", sa.Text(), nullable=True),
        sa.Column("url", sa.Text(), nullable=True),
        sa.Column("uploaded_at", UTC, nullable=True),
        sa.PrimaryKeyConstraint("job_id", "run", "asset_index", name=op.f("pk_job_assets")),
    )
    op.create_table(
        "job_attempts",
        sa.Column("job_id", ID, nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("worker_id", sa.Text(), nullable=True),
        sa.Column("host", sa.Text(), nullable=True),
        sa.Column("device", sa.Text(), nullable=True),
        sa.Column("token", sa.Integer(), nullable=False),
        sa.Column("due_at", UTC, nullable=False),
        sa.Column("started_at", UTC, nullable=False),
        sa.Column("ended_at", UTC, nullable=True),
        sa.Column("wait_seconds", sa.Float(), nullable=False),
        sa.Column("run_seconds", sa.Float(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("error_class", sa.Text(), nullable=True),
        sa.Column("error_type", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("delay_seconds", sa.Float(), nullable=True),
        sa.Column("counts", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "run", "stage", "attempt", name=op.f("pk_job_attempts")),
    )
    op.create_table(
        "job_events",
        sa.Column("position", SERIAL, autoincrement=True, nullable=False),
        sa.Column("job_id", ID, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("from_state", sa.Text(), nullable=True),
        sa.Column("to_state", sa.Text(), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=True),
        sa.Column("worker_id", sa.Text(), nullable=True),
        sa.Column("at", UTC, nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_job_events")),
        sa.UniqueConstraint("job_id", "version", name=op.f("uq_job_events_job_id_version")),
    )
    op.create_table(
        "job_leases",
        sa.Column("job_id", ID, nullable=False),
        sa.Column("worker_id", sa.Text(), nullable=True),
        sa.Column("token", sa.Integer(), nullable=False),
        sa.Column("expires_at", UTC, nullable=True),
        sa.Column("renewed_at", UTC, nullable=True),
        sa.Column("spool_host", sa.Text(), nullable=True),
        sa.Column("progress", sa.Text(), nullable=True),
        sa.Column("progress_at", UTC, nullable=True),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_job_leases")),
    )
    op.create_index("ix_job_leases_worker_id", "job_leases", ["worker_id"], unique=False)
    op.create_table(
        "job_payloads",
        sa.Column("job_id", ID, nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=True),
        sa.Column("content", sa.Text(), nullable=True),
        sa.Column("erased_at", UTC, nullable=True),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_job_payloads")),
    )
    op.create_table(
        "jobs",
        sa.Column("id", ID, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("token", sa.Integer(), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("job_type", sa.Text(), nullable=True),
        sa.Column("user_id", sa.Text(), nullable=True),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("turn", sa.BigInteger(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=True),
        sa.Column("reference_mode", sa.Text(), nullable=True),
        sa.Column("payload_digest", sa.String(length=64), nullable=False),
        sa.Column("worker_id", sa.Text(), nullable=True),
        sa.Column("resume_at", UTC, nullable=True),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("error_class", sa.Text(), nullable=True),
        sa.Column("error_type", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("assets", sa.Integer(), nullable=False),
        sa.Column("device_seconds", sa.Float(), nullable=True),
        sa.Column("created_at", UTC, nullable=True),
        sa.Column("queued_at", UTC, nullable=False),
        sa.Column("run_at", UTC, nullable=False),
        sa.Column("due_at", UTC, nullable=False),
        sa.Column("started_at", UTC, nullable=True),
        sa.Column("outcome_at", UTC, nullable=True),
        sa.Column("finished_at", UTC, nullable=True),
        sa.Column("updated_at", UTC, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
    )
    op.create_index("ix_jobs_held", "jobs", ["worker_id"], unique=False, sqlite_where=HELD, postgresql_where=HELD)
    op.create_index("ix_jobs_queued_at", "jobs", ["queued_at"], unique=False)
    op.create_index("ix_jobs_state_queued_at", "jobs", ["state", "queued_at"], unique=False)
    op.create_index("ix_jobs_user_id_queued_at", "jobs", ["user_id", "queued_at"], unique=False)
    op.create_index(
        "ix_jobs_waiting",
        "jobs",
        [sa.literal_column("priority DESC"), "turn", "queued_at"],
        unique=False,
        sqlite_where=WAITING,
        postgresql_where=WAITING,
    )
    op.create_index(
        "ix_jobs_waiting_user",
        "jobs",
        ["user_id", "turn"],
        unique=False,
        sqlite_where=WAITING,
        postgresql_where=WAITING,
    )
    op.create_table(
        "queues",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("paused_at", UTC, nullable=True),
        sa.Column("paused_by", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_queues")),
    )
    op.create_table(
        "rejected_writes",
        sa.Column("id", SERIAL, autoincrement=True, nullable=False),
        sa.Column("job_id", ID, nullable=False),
        sa.Column("worker_id", sa.Text(), nullable=True),
        sa.Column("token", sa.Integer(), nullable=False),
        sa.Column("found_token", sa.Integer(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("found_version", sa.Integer(), nullable=True),
        sa.Column("kinds", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", UTC, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rejected_writes")),
    )
    op.create_index("ix_rejected_writes_job_id", "rejected_writes", ["job_id"], unique=False)
    op.create_table(
        "retention_door",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("opened_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", UTC, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_retention_door")),
    )
    op.create_table(
        "workers",
        sa.Column("worker_id", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("engine", sa.Text(), nullable=True),
        sa.Column("engine_pid", sa.Integer(), nullable=True),
        sa.Column("job_types", sa.Text(), nullable=False),
        sa.Column("models", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("started_at", UTC, nullable=False),
        sa.Column("last_seen_at", UTC, nullable=False),
        sa.PrimaryKeyConstraint("worker_id", name=op.f("pk_workers")),
    )
    connection = op.get_bind()
    for trigger in TRIGGERS[connection.dialect.name]:
        connection.exec_driver_sql(trigger)
