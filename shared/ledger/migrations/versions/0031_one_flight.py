"""One flight for a request, by itself or in a batch: open calls of batches had keys of their own."""

from alembic import op

revision = "0031"
down_revision = "0028"


def upgrade() -> None:
    op.execute(
        "UPDATE ledger_calls SET flight = request_hash"
        " WHERE state = 'intent' AND batch_id IS NOT NULL AND flight IS NOT NULL AND NOT EXISTS"
        " (SELECT 1 FROM ledger_calls AS other WHERE other.project_id = ledger_calls.project_id"
        " AND other.flight = ledger_calls.request_hash AND other.state = 'intent')"
    )
