"""Jobs of several kinds: imports and exports beside distillations; only a distillation reads an uploaded file.

Only adds, and allows more, so older processes go on as long as no job of a new kind is posted.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0008"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("kind", sa.String(length=16), server_default="distillation", nullable=False))
    op.add_column("jobs", sa.Column("result", sa.JSON(), nullable=True))
    if op.get_bind().dialect.name == "sqlite":
        _file_may_be_missing_in_sqlite()
    else:
        op.alter_column("jobs", "file_id", existing_type=sa.String(length=64), nullable=True)


def _file_may_be_missing_in_sqlite() -> None:
    """SQLite cannot change a column: the table is made anew from what it is now, under its own name, so that what steps,
    events and versions refer to is there again before the references are checked (at the commit)."""
    table = sa.Table("jobs", sa.MetaData(), autoload_with=op.get_bind())
    table.c.file_id.nullable = True
    names = ", ".join(column.name for column in table.columns)
    op.execute("PRAGMA defer_foreign_keys = ON")
    op.execute("CREATE TABLE jobs_kept AS SELECT * FROM jobs")
    op.drop_table("jobs")
    table.create(op.get_bind())
    op.execute(f"INSERT INTO jobs ({names}) SELECT {names} FROM jobs_kept")  # noqa: S608 - names of columns alone
    op.drop_table("jobs_kept")
