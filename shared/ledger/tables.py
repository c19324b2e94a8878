"""Every call to the strong model, and the answers that were paid for. On SQLite a file of its own."""

from sqlalchemy import JSON, Boolean, Column, Float, Index, Integer, MetaData, String, Table, Text

metadata = MetaData()

calls = Table(
    "ledger_calls",
    metadata,
    Column("id", String(64), primary_key=True),  # also sent to the provider as x-request-id
    Column("project_id", String(64), nullable=False),
    Column("job_id", String(64), index=True),
    Column("step_id", String(64)),
    Column("phase", String(64)),
    Column("example_id", String(200)),
    Column("provider", String(64), nullable=False),
    Column("model", String(200), nullable=False),
    Column("request_hash", String(64), nullable=False),
    Column("state", String(16), nullable=False),  # intent, settled, unknown
    Column(
        "outcome", String(32)
    ),  # ok, cached, empty, cut_off, filtered, http_<status>, timeout, bad_answer, unreachable
    Column("cached", Boolean, nullable=False, default=False),
    Column("input_tokens", Integer, nullable=False, default=0),
    Column("output_tokens", Integer, nullable=False, default=0),
    Column("usd", Float, nullable=False, default=0.0),
    Column("latency_ms", Float),
    Column("error", Text),
    Column("created_at", Float, nullable=False),
    Column("settled_at", Float),
    Index("ix_ledger_state", "state"),
)

answers = Table(
    "ledger_answers",
    metadata,
    Column("project_id", String(64), primary_key=True),
    Column("request_hash", String(64), primary_key=True),
    Column("call_id", String(64), nullable=False),
    Column("response", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
)
