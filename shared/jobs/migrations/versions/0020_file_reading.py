"""How a file was read: its format, mapping and shapes, and what was left out."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    op.add_column("files", sa.Column("reading", sa.JSON()))
