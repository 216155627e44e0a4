"""Which spool a worker works in: whose files a job goes on from is told by its name.

What is written here stays as it was released; later versions change it by migrations of their own.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column, and find who was heard lately without reading who ever was. Nothing that is stored changes."""
    op.add_column("workers", sa.Column("spool", sa.Text(), nullable=True))
    op.create_index("ix_workers_last_seen_at", "workers", ["last_seen_at"])


def downgrade() -> None:
    """Drop both. Workers tell their spools again."""
    op.drop_index("ix_workers_last_seen_at", table_name="workers")
    op.drop_column("workers", "spool")
