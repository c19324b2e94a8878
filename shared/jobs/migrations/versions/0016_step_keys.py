"""The parts of a step's key as columns. Only adds: rows that an older process writes have none, and keep their key."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
BATCH = 1000


def upgrade() -> None:
    op.add_column("steps", sa.Column("phase", sa.String(length=64), nullable=True))
    op.add_column("steps", sa.Column("round", sa.Integer(), nullable=True))
    op.add_column("steps", sa.Column("role", sa.String(length=200), nullable=True))
    op.add_column("steps", sa.Column("batch", sa.Integer(), nullable=True))
    _fill()


def _fill() -> None:
    connection = op.get_bind()
    columns = (sa.column(name) for name in ("id", "key", "phase", "round", "role", "batch"))
    steps = sa.table("steps", *columns)
    ids_and_keys = [(row.id, row.key) for row in connection.execute(sa.select(steps.c.id, steps.c.key))]
    change = sa.update(steps).where(steps.c.id == sa.bindparam("of_id"))
    change = change.values({name: sa.bindparam(f"new_{name}") for name in ("phase", "round", "role", "batch")})
    for start in range(0, len(ids_and_keys), BATCH):
        values = [{"of_id": step_id} | _parts(key) for step_id, key in ids_and_keys[start : start + BATCH]]
        connection.execute(change, values)


def _parts(key: str) -> dict[str, str | int | None]:
    """As shared/contracts/step_key.py parsed keys when this migration was written."""
    phase, *rest = key.split("/")
    batch = int(rest.pop()) if rest and _is_number(rest[-1]) else None
    round_number = int(rest.pop(0)) if len(rest) > 1 and _is_number(rest[0]) else None
    return {"new_phase": phase[:64], "new_round": round_number, "new_role": "/".join(rest), "new_batch": batch}


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10 and (text == "0" or not text.startswith("0"))
