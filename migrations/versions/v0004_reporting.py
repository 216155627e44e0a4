"""What reports are made of: callbacks, changes of models, device time of attempts, and the views over them.

What is written here stays as it was released; later versions change it by migrations of their own.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ID = sa.String(36).with_variant(sa.String(36, collation="C"), "postgresql")
UTC = sa.DateTime(timezone=True)
FINISHED = sa.text("finished_at IS NOT NULL")


def upgrade() -> None:
    """Add tables, columns and indexes; `ourvidz jobs rebuild` fills them for jobs that are there already."""
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


def downgrade() -> None:
    """Drop them. The history still has it all."""
    op.drop_index("ix_jobs_finished_at", table_name="jobs")
    op.drop_index("ix_job_attempts_ended_at", table_name="job_attempts")
    op.drop_column("job_attempts", "wasted_seconds")
    op.drop_column("job_attempts", "device_seconds")
    op.drop_table("job_model_changes")
    op.drop_table("job_callbacks")
