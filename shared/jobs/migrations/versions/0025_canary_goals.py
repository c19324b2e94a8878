"""Canaries that decide by themselves, notices of what has no job, and deliveries about it. Only adds, and allows more."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"

OF_CANARIES = (
    sa.Column("id", sa.String(64)),
    sa.Column("rule", sa.JSON()),
    sa.Column("step", sa.Integer()),
    sa.Column("step_times", sa.JSON()),
    sa.Column("next_look", sa.Float()),
    sa.Column("standing", sa.JSON()),
    sa.Column("outcome", sa.String(16)),
)


def upgrade() -> None:
    for column in OF_CANARIES:
        op.add_column("canaries", column)
    op.create_table(
        "canary_counts",
        sa.Column("canary_id", sa.String(64), primary_key=True),
        sa.Column("step", sa.Integer(), primary_key=True),
        sa.Column("arm", sa.String(16), primary_key=True),
        sa.Column("minute", sa.Integer(), primary_key=True),
        sa.Column("project_id", sa.String(64), sa.ForeignKey("projects.id"), nullable=False),
        sa.Column("n", sa.Float(), nullable=False),
        sa.Column("loss", sa.Float(), nullable=False),
    )
    op.create_table(
        "notices",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("project_id", sa.String(64), sa.ForeignKey("projects.id"), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("subject", sa.String(64), nullable=False),
        sa.Column("level", sa.String(8), nullable=False),
        sa.Column("type", sa.String(32), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("data", sa.JSON()),
        sa.Column("created_at", sa.Float(), nullable=False),
    )
    op.create_index("ix_notices_subject", "notices", ["project_id", "kind", "subject", "id"])
    if op.get_bind().dialect.name == "sqlite":
        _job_may_be_missing_in_sqlite()
    else:
        op.alter_column("deliveries", "job_id", existing_type=sa.String(64), nullable=True)


def _job_may_be_missing_in_sqlite() -> None:
    """SQLite cannot change a column, so the table is made anew. Nothing refers to it."""
    table = sa.Table("deliveries", sa.MetaData(), autoload_with=op.get_bind())
    table.c.job_id.nullable = True
    names = ", ".join(column.name for column in table.columns)
    op.execute("CREATE TABLE deliveries_kept AS SELECT * FROM deliveries")
    op.drop_table("deliveries")
    table.create(op.get_bind())
    op.execute(f"INSERT INTO deliveries ({names}) SELECT {names} FROM deliveries_kept")  # noqa: S608 - names of columns alone
    op.drop_table("deliveries_kept")
