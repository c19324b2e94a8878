"""What a failed job failed of, and what remains of it: only adds, so older processes go on."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("failure", sa.JSON(), nullable=True))
