"""Every call to the strong model, the answers that were paid for, and what accounts may spend. On SQLite a file of its own."""

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, Index, Integer, MetaData, String, Table, Text

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
    Column("provider", String(64), nullable=False),  # the one that was asked
    Column("model", String(200), nullable=False),
    Column("request_hash", String(64), nullable=False),
    Column("state", String(16), nullable=False),  # intent, settled, unknown
    Column(
        "outcome", String(32)
    ),  # ok, cached, empty, cut_off, filtered, http_<status>, timeout, bad_answer, unreachable, cancelled
    Column("cached", Boolean, nullable=False, default=False),
    Column("input_tokens", Integer, nullable=False, default=0),
    Column("output_tokens", Integer, nullable=False, default=0),  # reasoning included
    Column(
        "cached_input_tokens", Integer, nullable=False, server_default="0"
    ),  # of the input: what the provider had cached
    Column("usd", Float, nullable=False, default=0.0),
    Column("reserved_usd", Float, nullable=False, server_default="0"),  # the most it may cost, until that is known
    Column("reserved_tokens", Integer, nullable=False, server_default="0"),
    Column("saved_usd", Float, nullable=False, server_default="0"),  # what a cached answer would have cost
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

# usd, tokens, calls: spent, by calls that have ended; where one ended without a count it is what was reserved for it.
# held_*: reserved by calls on their way. The limits of a project's months are the gateway's settings, not columns.
accounts = Table(
    "ledger_accounts",
    metadata,
    Column(
        "id", String(160), primary_key=True
    ),  # "job/<id>", "project/<id>/<year>-<month>[-<day>]", or "limit/<id>": of each day
    Column("max_usd", Float),
    Column("max_tokens", BigInteger),
    Column("max_calls", BigInteger),
    Column("usd", Float, nullable=False, default=0.0),
    Column("tokens", BigInteger, nullable=False, default=0),
    Column("calls", BigInteger, nullable=False, default=0),
    Column("held_usd", Float, nullable=False, default=0.0),
    Column("held_tokens", BigInteger, nullable=False, default=0),
    Column("held_calls", BigInteger, nullable=False, default=0),
)
