"""What the jobs of an API key have spent."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("ledger_calls", sa.Column("key_id", sa.String(length=64), nullable=True))
    op.create_index("ix_ledger_calls_key_id", "ledger_calls", ["key_id"])
    op.add_column("ledger_accounts", sa.Column("key_id", sa.String(length=64), nullable=True))
