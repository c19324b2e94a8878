"""Versions that were deleted: only adds, so older processes go on (and still show them)."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0010"


def upgrade() -> None:
    op.add_column("models", sa.Column("deleted_at", sa.Float()))
