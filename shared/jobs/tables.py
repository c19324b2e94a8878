"""The durable state: SQLAlchemy Core tables. Times are Unix seconds (UTC) as floats; JSON columns hold small values only.

Every table carries project_id from the first migration on. Payloads (rows, results, adapters) are artifacts, not rows.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData()

DEFAULT_PROJECT = "proj_default"

projects = Table(
    "projects",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("created_at", Float, nullable=False),
    # what it may use, None: as much as it likes. What it may spend in a day is the ledger's
    Column("requests_per_minute", Integer),
    Column("concurrent_jobs", Integer),
    Column("stored_bytes", BigInteger),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False, index=True),
    Column("name", String(200), nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("digest", String(64), nullable=False, unique=True),  # keyed hash; the key itself is nowhere
    Column("hint", String(32), nullable=False),  # its first and last characters, for people
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),
    Column("revoked_at", Float),
    Column("last_used_at", Float),  # to the minute
)

audit = Table(
    "audit",
    metadata,
    Column("id", String(64), primary_key=True),  # ids are UUIDv7: ordered by time
    Column("project_id", ForeignKey("projects.id"), nullable=False, index=True),
    Column("caller", String(64), nullable=False),  # a key's id, or operator, internal, local
    Column("method", String(16), nullable=False),
    Column("route", String(200), nullable=False),  # the template, as in the API's document
    Column("object_id", String(200)),
    Column("status", Integer, nullable=False),
    Column("request_id", String(128), nullable=False),
    Column("created_at", Float, nullable=False),
)

answers = Table(
    "answers",
    metadata,
    Column("project_id", ForeignKey("projects.id"), primary_key=True),
    Column("key", String(255), primary_key=True),  # the caller's Idempotency-Key
    Column("digest", String(64), nullable=False),  # of method, path, query and body
    Column("status", Integer),  # None: the request is on its way
    Column("headers", JSON),
    Column("body", LargeBinary),
    Column("created_at", Float, nullable=False, index=True),
)

files = Table(
    "files",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False, index=True),
    Column("sha256", String(64), nullable=False),
    Column("bytes", BigInteger().with_variant(Integer, "sqlite"), nullable=False),
    Column("filename", String(255), nullable=False),
    Column("purpose", String(64), nullable=False),
    Column("status", String(32), nullable=False),
    Column("errors", JSON, nullable=False),  # line errors, at most the first 100
    Column("n_rows", Integer),
    Column("splits", JSON),  # {"train": n, "dev": n, "test": n}
    Column("rows_ref", String(64)),  # artifact: the checked rows, each with its split
    Column("created_at", Float, nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False, index=True),
    Column("kind", String(16), nullable=False, server_default="distillation"),  # JobKind
    Column("request", JSON, nullable=False),  # the effective request of that kind
    Column("forked_from", JSON),  # {job_id, phase, round}
    Column("file_id", ForeignKey("files.id")),  # what a distillation reads
    Column("result", JSON),  # what its end has made: files, or artifacts by name
    Column("status", String(32), nullable=False, index=True),
    Column("status_reason", Text),
    Column("paused_after", String(16)),  # the stage after which it has paused as asked, and does not again
    Column("phase", String(64)),
    Column("progress", JSON, nullable=False),
    Column("key_id", String(64)),  # the API key that posted it, from whose budget it is paid too
    Column("prices", JSON),  # by provider, when the job was posted: [input, output], USD per million tokens
    Column("estimate", JSON),  # of the whole job's calls to strong models, once the pilot has measured some
    Column("evaluation", JSON),
    Column("report_ref", String(64)),
    Column("fine_tuned_model", String(200)),
    Column("trained_tokens", Integer),
    Column("error", JSON),
    Column("failure", JSON),  # phase, step, cause, and what remains usable
    Column("attempt", Integer, nullable=False, default=0),
    Column("lease_owner", String(128)),
    Column("lease_expires", Float),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("finished_at", Float),
)

steps = Table(
    "steps",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("job_id", ForeignKey("jobs.id"), nullable=False, index=True),
    Column("key", String(200), nullable=False),
    Column("phase", String(64)),  # this and the next three: the key's parts (StepKey); NULL in rows of older processes
    Column("round", Integer),
    Column("role", String(200)),
    Column("batch", Integer),
    Column("kind", String(32), nullable=False),
    Column("queue", String(16), nullable=False),
    Column("input_hash", String(64), nullable=False),  # also the name of the input's artifact
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False, default=0),
    Column("lease_owner", String(128)),
    Column("lease_expires", Float),
    Column("not_before", Float, nullable=False, default=0),
    Column("progress", JSON, nullable=False),
    Column("metrics", JSON, nullable=False),
    Column("result_ref", String(64)),
    Column("reused_from", String(64)),
    Column("error", JSON),
    Column("attempts", JSON, nullable=False),  # what ended each earlier attempt
    Column("created_at", Float, nullable=False),
    Column("sent_at", Float),
    Column("started_at", Float),
    Column("finished_at", Float),
    UniqueConstraint("job_id", "key"),
    Index("ix_steps_reuse", "project_id", "input_hash", "state"),
    Index("ix_steps_state", "state"),
)

events = Table(
    "events",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("job_id", ForeignKey("jobs.id"), nullable=False, index=True),
    Column("level", String(8), nullable=False),
    Column("type", String(32), nullable=False),  # message, metrics, status, phase, budget
    Column("message", Text, nullable=False),
    Column("data", JSON),
    Column("created_at", Float, nullable=False),
    Index("ix_events_job_sequence", "job_id", "sequence"),
)

models = Table(
    "models",
    metadata,
    Column("id", String(200), primary_key=True),  # "model-..."; users name alias@version
    Column("project_id", ForeignKey("projects.id"), nullable=False, index=True),
    Column("alias", String(64), nullable=False),
    Column("version", Integer, nullable=False),
    Column("adapter", String(64), nullable=False),  # content hash of what was trained: with method full a whole model
    Column("method", String(8), nullable=False, server_default="lora"),
    Column("base", String(200), nullable=False),
    Column("base_hash", String(64), nullable=False),
    Column("state", String(16), nullable=False),  # promoted, undecided, rejected, partial (of a failed job)
    Column("job_id", ForeignKey("jobs.id")),
    Column("created_at", Float, nullable=False),
    Column("deleted_at", Float),  # nobody can ask it any more; its number is not given again
    UniqueConstraint("project_id", "alias", "version"),
)

aliases = Table(
    "aliases",
    metadata,
    Column("project_id", ForeignKey("projects.id"), primary_key=True),
    Column("alias", String(64), primary_key=True),
    Column("model_id", ForeignKey("models.id"), nullable=False),
    Column("changed_at", Float, nullable=False),
)

canaries = Table(
    "canaries",
    metadata,
    Column("project_id", ForeignKey("projects.id"), primary_key=True),
    Column("alias", String(64), primary_key=True),
    Column("model_id", ForeignKey("models.id"), nullable=False),  # the version that is tried beside the served one
    Column("percent", Float, nullable=False),  # of conversations
    Column("shadow", Boolean, nullable=False),  # it gets copies, and answers nobody
    Column("created_at", Float, nullable=False),
)

workers = Table(
    "workers",
    metadata,
    Column("id", String(128), primary_key=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("service", String(32), nullable=False),
    Column("queue", String(16)),
    Column("slots", Integer, nullable=False),
    Column("stopping", Boolean, nullable=False, default=False),
    Column("seen_at", Float, nullable=False),
)

labels = Table(
    "labels",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("digest", String(64), nullable=False),  # of the content: the same label is kept once, unless taken back
    Column("question", Text, nullable=False),
    Column("first", Text, nullable=False),
    Column("second", Text, nullable=False),
    Column("preferred", String(8), nullable=False),  # first, second, tie
    Column("reference", Text),
    Column("created_at", Float, nullable=False),
    Column("deleted_at", Float),  # taken back then; jobs that were posted before go on with it
    Index(
        "ix_labels_live",
        "project_id",
        "digest",
        unique=True,
        sqlite_where=text("deleted_at IS NULL"),
        postgresql_where=text("deleted_at IS NULL"),
    ),
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False, index=True),
    Column("job_id", ForeignKey("jobs.id")),  # the only job that it is told of
    Column("name", String(200), nullable=False),
    Column("url", Text, nullable=False),
    Column("event_types", JSON, nullable=False),
    Column("seed", String(64), nullable=False),  # its secret is derived from this and a key that is not in the database
    Column("old_seed", String(64)),
    Column("old_until", Float),
    Column("disabled_at", Float),
    Column("disabled_reason", Text),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", String(64), primary_key=True),  # webhook-id
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("webhook_id", ForeignKey("webhooks.id"), nullable=False, index=True),
    Column("job_id", ForeignKey("jobs.id"), nullable=False),
    Column("type", String(64), nullable=False),
    Column("payload", Text, nullable=False),  # the body, byte for byte as it is signed
    Column("state", String(16), nullable=False),  # pending, delivered, failed
    Column("attempts", Integer, nullable=False),
    Column("next_at", Float, nullable=False),  # while an attempt is under way: until when it has time
    Column("expires_at", Float, nullable=False),
    Column("last_status", Integer),
    Column("log", JSON, nullable=False),  # the newest attempts
    Column("created_at", Float, nullable=False),
    Column("finished_at", Float),
    Index("ix_deliveries_due", "state", "next_at"),
)
