"""Where a forked job comes from: only adds, so older processes go on."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("forked_from", sa.JSON(), nullable=True))
