"""What a job or a project may spend and has spent; what calls reserve; what cached answers saved."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    for name, kind in (
        ("cached_input_tokens", sa.Integer()),
        ("reserved_usd", sa.Float()),
        ("reserved_tokens", sa.Integer()),
        ("saved_usd", sa.Float()),
    ):
        op.add_column("ledger_calls", sa.Column(name, kind, nullable=False, server_default="0"))
    op.create_table(
        "ledger_accounts",
        sa.Column("id", sa.String(length=160), nullable=False),
        sa.Column("max_usd", sa.Float(), nullable=True),
        sa.Column("max_tokens", sa.BigInteger(), nullable=True),
        sa.Column("max_calls", sa.BigInteger(), nullable=True),
        sa.Column("usd", sa.Float(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.Column("held_usd", sa.Float(), nullable=False),
        sa.Column("held_tokens", sa.BigInteger(), nullable=False),
        sa.Column("held_calls", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
