"""Several gateways: which one sent a call, which requests are on their way, and who runs."""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "ledger_gateways",
        sa.Column("id", sa.String(length=128), nullable=False),
        sa.Column("started_at", sa.Float(), nullable=False),
        sa.Column("lease_expires", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.add_column("ledger_calls", sa.Column("gateway", sa.String(length=128)))
    op.add_column("ledger_calls", sa.Column("flight", sa.String(length=64)))
    is_open = sa.text("state = 'intent'")
    op.create_index(
        "ux_ledger_flight",
        "ledger_calls",
        ["project_id", "flight"],
        unique=True,
        sqlite_where=is_open,
        postgresql_where=is_open,
    )
