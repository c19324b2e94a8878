"""A file of more than 2 GiB: PostgreSQL's integer has 32 bits, SQLite's has 64 already."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column("files", "bytes", existing_type=sa.Integer(), type_=sa.BigInteger(), existing_nullable=False)
