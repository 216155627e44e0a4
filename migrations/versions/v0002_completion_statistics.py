"""The view completion_statistics, and which models a worker has loaded.

What is written here stays as it was released; later versions change it by migrations of their own.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

COMPLETION_STATISTICS = """CREATE VIEW completion_statistics AS
SELECT jobs.id AS job_id, jobs.user_id, jobs.job_type, jobs.reference_mode, jobs.assets AS assets_generated,
  (SELECT CAST(COALESCE(SUM(job_assets.bytes), 0) AS DOUBLE PRECISION) / 1048576.0 FROM job_assets
   WHERE job_assets.job_id = jobs.id AND job_assets.run = jobs.run) AS total_size_mb,
  jobs.finished_at AS completion_timestamp
FROM jobs WHERE jobs.state = 'completed'"""


def upgrade() -> None:
    """Add both. Nothing that is stored changes."""
    op.add_column("workers", sa.Column("resident", sa.Text(), nullable=True))
    op.execute(COMPLETION_STATISTICS)


def downgrade() -> None:
    """Drop both. What workers had loaded is forgotten, and they tell it again."""
    op.execute("DROP VIEW completion_statistics")
    op.drop_column("workers", "resident")
