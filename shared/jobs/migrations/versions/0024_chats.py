"""Stored chats, feedback on them, whose chats became rows of datasets, and which aliases' chats are sampled."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"


def _project() -> sa.Column:
    return sa.Column("project_id", sa.String(64), sa.ForeignKey("projects.id"), nullable=False)


def _person() -> list[sa.Column]:
    return [sa.Column("user", sa.String(512)), sa.Column("safety_identifier", sa.String(512))]


def upgrade() -> None:
    op.create_table(
        "chats",
        sa.Column("id", sa.String(200), primary_key=True),
        _project(),
        sa.Column("alias", sa.String(200), nullable=False),
        sa.Column("version", sa.Integer()),
        sa.Column("model", sa.String(200), nullable=False),
        *_person(),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("answer", sa.JSON(), nullable=False),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("bytes", sa.Integer(), nullable=False),
        sa.Column("masked", sa.JSON()),
        sa.Column("request_id", sa.String(128), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
    )
    op.create_index("ix_chats_project_id", "chats", ["project_id", "id"])
    op.create_index("ix_chats_user", "chats", ["project_id", "user"])
    op.create_index("ix_chats_safety_identifier", "chats", ["project_id", "safety_identifier"])
    op.create_index("ix_chats_created_at", "chats", ["created_at"])
    op.create_table(
        "feedback",
        sa.Column("id", sa.String(64), primary_key=True),
        _project(),
        sa.Column("completion_id", sa.String(200), sa.ForeignKey("chats.id"), nullable=False, index=True),
        sa.Column("author", sa.String(512), nullable=False),
        sa.Column("alias", sa.String(200), nullable=False),
        sa.Column("version", sa.Integer()),
        sa.Column("rating", sa.String(8)),
        sa.Column("score", sa.Float()),
        sa.Column("correction", sa.Text()),
        sa.Column("comment", sa.Text()),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.UniqueConstraint("project_id", "completion_id", "author"),
    )
    op.create_index("ix_feedback_version", "feedback", ["project_id", "alias", "version", "updated_at"])
    op.create_table(
        "chat_origins",
        sa.Column("project_id", sa.String(64), sa.ForeignKey("projects.id"), primary_key=True),
        sa.Column("completion_id", sa.String(200), primary_key=True),
        *_person(),
    )
    op.create_index("ix_chat_origins_user", "chat_origins", ["project_id", "user"])
    op.create_index("ix_chat_origins_safety_identifier", "chat_origins", ["project_id", "safety_identifier"])
    op.create_table(
        "captures",
        sa.Column("project_id", sa.String(64), sa.ForeignKey("projects.id"), primary_key=True),
        sa.Column("alias", sa.String(64), primary_key=True),
        sa.Column("percent", sa.Float(), nullable=False),
        sa.Column("mask", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
    )
