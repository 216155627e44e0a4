"""What is known of jobs whose history was archived.

What is written here stays as it was released; later versions change it by migrations of their own.
"""

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add it."""


def downgrade() -> None:
    """Nothing to take back."""
