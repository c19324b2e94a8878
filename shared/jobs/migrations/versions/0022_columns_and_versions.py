"""Columns beside the rows of a dataset, and which version of which dataset a file is."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    op.add_column("files", sa.Column("columns_ref", sa.String(64)))
    op.add_column("files", sa.Column("dataset_id", sa.String(64)))
    op.add_column("files", sa.Column("previous_id", sa.String(64)))
    op.add_column("files", sa.Column("version", sa.Integer()))
    op.create_index("ix_files_dataset_id", "files", ["dataset_id"])
