"""What is known of jobs whose history was archived.

What is written here stays as it was released; later versions change it by migrations of their own.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

ID = sa.String(36).with_variant(sa.String(36, collation="C"), "postgresql")
UTC = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add the tables. Nothing that is stored changes."""
    op.create_table(
        "archives",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("jobs", sa.Integer(), nullable=False),
        sa.Column("first_finished_at", UTC, nullable=False),
        sa.Column("last_finished_at", UTC, nullable=False),
        sa.Column("made_at", UTC, nullable=False),
        sa.Column("made_by", sa.Text(), nullable=False),
        sa.Column("done_at", UTC, nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_archives")),
    )
    op.create_table(
        "archived_jobs",
        sa.Column("job_id", ID, nullable=False),
        sa.Column("archive", sa.Text(), nullable=False),
        sa.Column("payload_digest", sa.String(64), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("finished_at", UTC, nullable=False),
        sa.Column("archived_at", UTC, nullable=False),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_archived_jobs")),
    )


def downgrade() -> None:
    """Drop them. Ids of archived jobs are unknown again, and the archives are no less complete."""
    op.drop_table("archived_jobs")
    op.drop_table("archives")
