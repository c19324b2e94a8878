"""Labels can be taken back: they stay for the jobs that were posted before, and the same label may be given again."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

KEPT = "id, project_id, digest, question, first, second, preferred, reference, created_at"


def upgrade() -> None:
    # a table anew: SQLite cannot drop the constraint that kept each label once, taken back or not
    op.create_table(
        "labels_anew",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("question", sa.Text(), nullable=False),
        sa.Column("first", sa.Text(), nullable=False),
        sa.Column("second", sa.Text(), nullable=False),
        sa.Column("preferred", sa.String(length=8), nullable=False),
        sa.Column("reference", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("deleted_at", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.execute(f"INSERT INTO labels_anew ({KEPT}) SELECT {KEPT} FROM labels")  # noqa: S608 - no outside text in it
    op.drop_table("labels")
    op.rename_table("labels_anew", "labels")
    live = sa.text("deleted_at IS NULL")
    op.create_index(
        "ix_labels_live", "labels", ["project_id", "digest"], unique=True, sqlite_where=live, postgresql_where=live
    )
