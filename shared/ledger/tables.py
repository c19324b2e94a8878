"""The ledger's tables: calls to strong models, cached answers, budgets. On SQLite they are in a file of their own."""

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, Index, Integer, MetaData, String, Table, Text, text

metadata = MetaData()

# One row per call to a provider, cached ones included.
calls = Table(
    "ledger_calls",
    metadata,
    Column("id", String(64), primary_key=True),  # also sent to the provider as x-request-id
    Column("project_id", String(64), nullable=False),
    Column("job_id", String(64), index=True),
    Column("step_id", String(64)),
    Column("phase", String(64)),
    Column("example_id", String(200)),
    Column("provider", String(64), nullable=False),  # its name in the settings
    Column("model", String(200), nullable=False),
    Column("request_hash", String(64), nullable=False),
    Column("state", String(16), nullable=False),  # intent, settled, unknown
    # ok, cached, empty, cut_off, thought, unfinished, filtered, http_<status>, timeout, bad_answer, unreachable, cancelled
    Column("outcome", String(32)),
    Column("cached", Boolean, nullable=False, default=False),
    Column("input_tokens", Integer, nullable=False, default=0),
    Column("output_tokens", Integer, nullable=False, default=0),  # reasoning included
    Column("cached_input_tokens", Integer, nullable=False, server_default="0"),  # input tokens in the provider's cache
    Column("usd", Float, nullable=False, default=0.0),
    Column("reserved_usd", Float, nullable=False, server_default="0"),  # its maximum cost, until the cost is known
    Column("reserved_tokens", Integer, nullable=False, server_default="0"),
    Column("saved_usd", Float, nullable=False, server_default="0"),  # of a cached answer: what the call would have cost
    Column("latency_ms", Float),
    Column("error", Text),
    Column("created_at", Float, nullable=False),
    Column("settled_at", Float),
    Column("batch_id", String(64), index=True),  # NULL unless sent by a provider's batch API
    Column("key_id", String(64), index=True),  # the API key that posted the job
    Column("gateway", String(128)),  # that sent it; its lease stands in `gateways`
    Column(
        "flight", String(64)
    ),  # the request's hash where its answer is good for equal requests: one is open at a time
    Index("ix_ledger_state", "state"),
    Index("ix_ledger_request", "project_id", "request_hash"),
    Index(
        "ux_ledger_flight",
        "project_id",
        "flight",
        unique=True,
        sqlite_where=text("state = 'intent'"),
        postgresql_where=text("state = 'intent'"),
    ),
)

# Gateways that run. id: host and port. Calls of one whose lease is over are lost.
gateways = Table(
    "ledger_gateways",
    metadata,
    Column("id", String(128), primary_key=True),
    Column("started_at", Float, nullable=False),
    Column("lease_expires", Float, nullable=False),
)

# Batches for a provider's batch API; batch_store.py lists the states. asked: how often POST /v1/batches was tried; before a retry
# the provider's list of batches is searched.
batches = Table(
    "ledger_batches",
    metadata,
    Column("id", String(64), primary_key=True),  # also the metadata of the provider's batch
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
    Column("error", Text),  # why it failed, or the provider's latest error
    Column("not_before", Float, nullable=False, default=0.0),
    Column("created_at", Float, nullable=False),
    Column("added_at", Float, nullable=False),
    Column("ended_at", Float),
    Column("uploads", Integer, nullable=False, server_default="0"),  # tries to give the provider its file
    Column(
        "leftover", JSON(none_as_null=True)
    ),  # ids of the provider's files that are to be deleted; NULL: nothing is left to do
    Index("ix_ledger_batches_state", "state"),
    Index(
        "ix_ledger_batches_leftover",
        "created_at",
        sqlite_where=text("leftover IS NOT NULL"),
        postgresql_where=text("leftover IS NOT NULL"),
    ),
)

# Requests of batches. body: NULL once the batch has ended. answer: an answer that is not cached in `answers`.
batch_requests = Table(
    "ledger_batch_requests",
    metadata,
    Column("call_id", String(64), primary_key=True),
    Column("batch_id", String(64), nullable=False, index=True),
    Column("body", JSON),
    Column("answer", JSON),
)

# Cached answers by project and request hash.
answers = Table(
    "ledger_answers",
    metadata,
    Column("project_id", String(64), primary_key=True),
    Column("request_hash", String(64), primary_key=True),
    Column("call_id", String(64), nullable=False),
    Column("response", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
)

# What was learned of each provider: parameters that it refuses, and the room that its reasoning needs. settings_hash: of the
# settings under which it was learned.
learned = Table(
    "ledger_learned",
    metadata,
    Column("provider", String(64), primary_key=True),
    Column("settings_hash", String(64), nullable=False),
    Column("content", JSON, nullable=False),
    Column("saved_at", Float, nullable=False),
)

# Budgets. Ids: "job/<id>", "project/<id>/<year>-<month>[-<day>]", "key/<id>/<year>-<month>", and "limit/<id>", which holds the limits
# of a project's days or a key's months and pays nothing; "limit/every-project" those of each project's months, as the gateway was
# started with. max_*: NULL is unlimited. usd, tokens, calls: spent by ended calls. held_*: reserved by open calls.
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
