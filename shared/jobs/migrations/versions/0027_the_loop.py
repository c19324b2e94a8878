"""Recipes that take stored chats, agreement of a chat's answers, and users that a canary has counted. Only adds, so older processes go on."""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0029"  # whose number was given first


def upgrade() -> None:
    op.add_column("chats", sa.Column("agreement", sa.Float()))
    op.add_column("recipes", sa.Column("dataset_id", sa.String(64)))
    op.add_column("recipe_runs", sa.Column("import_id", sa.String(64)))
    op.create_table(
        "recipe_chats",
        sa.Column("recipe_id", sa.String(64), sa.ForeignKey("recipes.id"), primary_key=True),
        sa.Column("completion_id", sa.String(200), primary_key=True),
        sa.Column("project_id", sa.String(64), sa.ForeignKey("projects.id"), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("taken_at", sa.Float(), nullable=False),
    )
    op.create_index("ix_recipe_chats_completion_id", "recipe_chats", ["completion_id"])
    op.create_table(
        "canary_units",
        sa.Column("canary_id", sa.String(64), primary_key=True),
        sa.Column("step", sa.Integer(), primary_key=True),
        sa.Column("unit", sa.String(32), primary_key=True),
        sa.Column("project_id", sa.String(64), sa.ForeignKey("projects.id"), nullable=False),
    )
