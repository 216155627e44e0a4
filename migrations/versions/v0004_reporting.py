"""What reports are made of: callbacks, model loads, device time of attempts, and the views.

What is written here stays as it was released; later versions change it by migrations of their own.
"""

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add them."""


def downgrade() -> None:
    """Nothing to take back."""
