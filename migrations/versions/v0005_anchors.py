"""Anchors over what changed in the history, and the jobs that each of them covers.

What is written here stays as it was released; later versions change it by migrations of their own.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

ID = sa.String(36).with_variant(sa.String(36, collation="C"), "postgresql")
UTC = sa.DateTime(timezone=True)

TRIGGERS = {
    "sqlite": [
        """CREATE TRIGGER anchors_no_update BEFORE UPDATE ON anchors
BEGIN SELECT RAISE(ABORT, 'anchors is append-only: UPDATE refused'); END""",
        """CREATE TRIGGER anchors_no_delete BEFORE DELETE ON anchors
BEGIN SELECT RAISE(ABORT, 'anchors is append-only: DELETE refused'); END""",
        """CREATE TRIGGER anchors_no_replace BEFORE INSERT ON anchors
WHEN EXISTS (SELECT 1 FROM anchors WHERE sequence = NEW.sequence)
BEGIN SELECT RAISE(ABORT, 'anchors is append-only: REPLACE refused'); END""",
        """CREATE TRIGGER anchored_jobs_no_update BEFORE UPDATE ON anchored_jobs
BEGIN SELECT RAISE(ABORT, 'anchored_jobs is append-only: UPDATE refused'); END""",
        """CREATE TRIGGER anchored_jobs_no_delete BEFORE DELETE ON anchored_jobs
BEGIN SELECT RAISE(ABORT, 'anchored_jobs is append-only: DELETE refused'); END""",
        """CREATE TRIGGER anchored_jobs_no_replace BEFORE INSERT ON anchored_jobs
WHEN EXISTS (SELECT 1 FROM anchored_jobs WHERE job_id = NEW.job_id AND anchor = NEW.anchor)
BEGIN SELECT RAISE(ABORT, 'anchored_jobs is append-only: REPLACE refused'); END""",
    ],
    "postgresql": [
        """CREATE FUNCTION anchors_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION USING MESSAGE = TG_TABLE_NAME || ' is append-only: ' || TG_OP || ' refused';
END $$""",
        """CREATE TRIGGER anchors_no_change BEFORE UPDATE OR DELETE ON anchors
FOR EACH ROW EXECUTE FUNCTION anchors_append_only()""",
        """CREATE TRIGGER anchors_no_truncate BEFORE TRUNCATE ON anchors
FOR EACH STATEMENT EXECUTE FUNCTION anchors_append_only()""",
        """CREATE TRIGGER anchored_jobs_no_change BEFORE UPDATE OR DELETE ON anchored_jobs
FOR EACH ROW EXECUTE FUNCTION anchors_append_only()""",
        """CREATE TRIGGER anchored_jobs_no_truncate BEFORE TRUNCATE ON anchored_jobs
FOR EACH STATEMENT EXECUTE FUNCTION anchors_append_only()""",
    ],
}


def upgrade() -> None:
    """Add them. The supervisor anchors what is there already, window by window."""
    op.create_table(
        "anchors",
        sa.Column("sequence", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("above", sa.BigInteger(), nullable=False),
        sa.Column("up_to", sa.BigInteger(), nullable=False),
        sa.Column("jobs", sa.Integer(), nullable=False),
        sa.Column("events", sa.Integer(), nullable=False),
        sa.Column("at", UTC, nullable=False),
        sa.Column("made_by", sa.Text(), nullable=False),
        sa.Column("previous", sa.String(64), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=True),
        sa.Column("root", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_anchors")),
    )
    op.create_index("ix_anchors_at", "anchors", ["at"])
    op.create_table(
        "anchored_jobs",
        sa.Column("job_id", ID, nullable=False),
        sa.Column("anchor", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "anchor", name=op.f("pk_anchored_jobs")),
    )
    op.create_index("ix_anchored_jobs_anchor", "anchored_jobs", ["anchor"])
    connection = op.get_bind()
    for trigger in TRIGGERS[connection.dialect.name]:
        connection.exec_driver_sql(trigger)


def downgrade() -> None:
    """Drop them, and all that they could have proven."""
    op.drop_table("anchored_jobs")
    op.drop_table("anchors")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION anchors_append_only()")
