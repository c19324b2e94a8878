"""Recipes and their runs. Only adds, so older processes go on."""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    op.create_table(
        "recipes",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("project_id", sa.String(64), sa.ForeignKey("projects.id"), nullable=False, index=True),
        sa.Column("key_id", sa.String(64)),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("job", sa.JSON(), nullable=False),
        sa.Column("source", sa.JSON(), nullable=False),
        sa.Column("trigger", sa.JSON(), nullable=False),
        sa.Column("budget", sa.JSON()),
        sa.Column("paused_at", sa.Float()),
        sa.Column("look_at", sa.Float(), nullable=False, index=True),
        sa.Column("due_at", sa.Float()),
        sa.Column("rows_used", sa.Integer(), nullable=False),
        sa.Column("runs", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
    )
    op.create_table(
        "recipe_runs",
        sa.Column("recipe_id", sa.String(64), sa.ForeignKey("recipes.id"), primary_key=True),
        sa.Column("number", sa.Integer(), primary_key=True),
        sa.Column("project_id", sa.String(64), sa.ForeignKey("projects.id"), nullable=False),
        sa.Column("status", sa.String(16), nullable=False, index=True),
        sa.Column("job_id", sa.String(64), nullable=False),
        sa.Column("file_id", sa.String(64)),
        sa.Column("rows", sa.Integer()),
        sa.Column("error", sa.JSON()),
        sa.Column("lease_owner", sa.String(128)),
        sa.Column("lease_expires", sa.Float()),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
    )
