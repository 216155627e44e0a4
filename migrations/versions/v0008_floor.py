"""How old a program may be that works on these tables, so that two versions can serve one database.

What is written here stays as it was released; later versions change it by migrations of their own.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table. Programs before this version did not ask it, and are refused."""
    op.create_table(
        "schema_floor",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schema_floor")),
    )
    op.execute("INSERT INTO schema_floor (id, version) VALUES (1, '0008')")


def downgrade() -> None:
    """Drop it."""
    op.drop_table("schema_floor")
