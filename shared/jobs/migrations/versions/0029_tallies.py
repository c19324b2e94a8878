"""Counts for metrics; the traces of jobs; where their metrics are sent. Only adds, so older processes go on."""

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0026"


def upgrade() -> None:
    op.create_table(
        "tallies",
        sa.Column("metric", sa.String(32), primary_key=True),
        sa.Column("labels", sa.String(100), primary_key=True),
        sa.Column("bucket", sa.Integer(), primary_key=True),
        sa.Column("project_id", sa.String(64), sa.ForeignKey("projects.id"), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.Column("amount", sa.Float(), nullable=False),
    )
    op.create_table(
        "integrations",
        sa.Column("job_id", sa.String(64), sa.ForeignKey("jobs.id"), primary_key=True),
        sa.Column("type", sa.String(16), primary_key=True),
        sa.Column("project_id", sa.String(64), sa.ForeignKey("projects.id"), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("ended", sa.Boolean(), nullable=False),
        sa.Column("next_at", sa.Float(), nullable=False),
    )
    op.create_index("ix_integrations_due", "integrations", ["ended", "next_at"])
    op.add_column("jobs", sa.Column("traceparent", sa.String(55)))
