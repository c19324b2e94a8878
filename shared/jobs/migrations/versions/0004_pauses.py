"""Where a job has paused as asked, and what it is estimated to cost."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("paused_after", sa.String(length=16), nullable=True))
    op.add_column("jobs", sa.Column("prices", sa.JSON(), nullable=True))
    op.add_column("jobs", sa.Column("estimate", sa.JSON(), nullable=True))
