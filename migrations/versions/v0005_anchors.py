"""Anchors over what changed in the history.

What is written here stays as it was released; later versions change it by migrations of their own.
"""

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add them."""


def downgrade() -> None:
    """Nothing to take back."""
