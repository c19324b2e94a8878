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
    Column("batch_id", String(64), index=True),  # where it went by a provider's batch API
    Column("key_id", String(64), index=True),  # the API key that posted the job
    Index("ix_ledger_state", "state"),
    Index("ix_ledger_request", "project_id", "request_hash"),
)

# state: collecting, sealed (nothing is added any more), uploaded, submitted, ended, failed (nothing of it was computed).
# asked: times that POST /v1/batches was tried; before it is tried again the provider's own list is searched.
batches = Table(
    "ledger_batches",
    metadata,
    Column("id", String(64), primary_key=True),  # also in the provider's batch, as metadata
    Column("project_id", String(64), nullable=False),
    Column("job_id", String(64), nullable=False),
    Column("provider", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("remote_file", String(200)),
    Column("remote_id", String(200)),
    Column("remote_status", String(32)),
    Column("asked", Integer, nullable=False, default=0),
    Column("requests", Integer, nullable=False, default=0),
    Column("bytes", BigInteger, nullable=False, default=0),
    Column("answered", Integer, nullable=False, default=0),
    Column("error", Text),  # of a failed one: why; of one on its way: the latest trouble with the provider
    Column("not_before", Float, nullable=False, default=0.0),
    Column("created_at", Float, nullable=False),
    Column("added_at", Float, nullable=False),
    Column("ended_at", Float),
    Index("ix_ledger_batches_state", "state"),
)

# body: the request, until the batch has ended. answer: what came, where it is not among the kept answers.
batch_requests = Table(
    "ledger_batch_requests",
    metadata,
    Column("call_id", String(64), primary_key=True),
    Column("batch_id", String(64), nullable=False, index=True),
    Column("body", JSON),
    Column("answer", JSON),
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
# "job/<id>", "project/<id>/<year>-<month>[-<day>]", "key/<id>/<year>-<month>"; "limit/<id>": the limits of each of a project's
# days, or of each of a key's months, from which nothing is paid.
accounts = Table(
    "ledger_accounts",
    metadata,
    Column("id", String(160), primary_key=True),
    Column("key_id", String(64)),  # of a job: the API key that posted it
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
