"""The API key that posted a job, whose budget it is paid from."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("key_id", sa.String(length=64), nullable=True))
