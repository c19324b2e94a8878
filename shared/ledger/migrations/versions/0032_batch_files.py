"""Tries to upload a batch's file, and the provider's files that are to be deleted. Only adds, so older processes go on."""

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision = "0031"


def upgrade() -> None:
    op.add_column("ledger_batches", sa.Column("uploads", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("ledger_batches", sa.Column("leftover", sa.JSON(none_as_null=True)))
    remains = sa.text("leftover IS NOT NULL")
    op.create_index(
        "ix_ledger_batches_leftover", "ledger_batches", ["created_at"], sqlite_where=remains, postgresql_where=remains
    )
