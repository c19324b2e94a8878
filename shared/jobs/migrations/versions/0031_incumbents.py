"""The version that a job's student is compared with. Only adds, so older processes go on."""

import sqlalchemy as sa
from alembic import op

revision = "0031"
down_revision = "0030"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("incumbent", sa.String(64)))
