"""When a file goes by itself."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    op.add_column("files", sa.Column("expires_at", sa.Float()))
