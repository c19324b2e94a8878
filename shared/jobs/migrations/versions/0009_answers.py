"""Answers by Idempotency-Key: only adds, so older processes go on."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0013"


def upgrade() -> None:
    op.create_table(
        "answers",
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("headers", sa.JSON(), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"]),
        sa.PrimaryKeyConstraint("project_id", "key"),
    )
    op.create_index("ix_answers_created_at", "answers", ["created_at"])
