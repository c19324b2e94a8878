"""Models whose whole weights were trained, beside adapters: only adds, so older processes go on."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("models", sa.Column("method", sa.String(length=8), server_default="lora", nullable=False))


def downgrade() -> None:
    op.drop_column("models", "method")
