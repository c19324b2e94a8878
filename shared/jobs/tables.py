"""The durable state: SQLAlchemy Core tables; `records.py` has a dataclass for each. Times are Unix seconds (UTC).

Every table has a project_id. Payloads (dataset rows, step results, adapters) are artifacts; JSON columns hold small values.
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

# A project and its limits. NULL: unlimited. Its spending limit per day is in the ledger.
projects = Table(
    "projects",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("requests_per_minute", Integer),
    Column("concurrent_jobs", Integer),
    Column("stored_bytes", BigInteger),
)

# API keys, revoked and expired ones included.
api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False, index=True),
    Column("name", String(200), nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("digest", String(64), nullable=False, unique=True),  # keyed hash; the key itself is not stored
    Column("hint", String(32), nullable=False),  # its first and last characters
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),
    Column("revoked_at", Float),
    Column("last_used_at", Float),  # rounded to minutes
)

# The audit log: one row per request that changed something.
audit = Table(
    "audit",
    metadata,
    Column("id", String(64), primary_key=True),  # ids are UUIDv7: ordered by time
    Column("project_id", ForeignKey("projects.id"), nullable=False, index=True),
    Column("caller", String(64), nullable=False),  # a key id, or operator, internal, local
    Column("method", String(16), nullable=False),
    Column("route", String(200), nullable=False),  # the path template of the OpenAPI document
    Column("object_id", String(200)),
    Column("status", Integer, nullable=False),
    Column("request_id", String(128), nullable=False),
    Column("created_at", Float, nullable=False),
)

# Responses to requests with an Idempotency-Key.
answers = Table(
    "answers",
    metadata,
    Column("project_id", ForeignKey("projects.id"), primary_key=True),
    Column("key", String(255), primary_key=True),  # the caller's Idempotency-Key
    Column("digest", String(64), nullable=False),  # of method, path, query and body
    Column("status", Integer),  # NULL: the request is running
    Column("headers", JSON),
    Column("body", LargeBinary),
    Column("created_at", Float, nullable=False, index=True),
)

# Uploaded datasets and raw files, and the files that jobs produce.
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
    Column("errors", JSON, nullable=False),  # the first 100 LineErrors
    Column("n_rows", Integer),
    Column("splits", JSON),  # {"train": n, "dev": n, "test": n}
    Column("rows_ref", String(64)),  # artifact: the checked rows, each with its split
    Column("created_at", Float, nullable=False),
    Column("reading", JSON),  # a FileReading; NULL: no dataset, or stored before it was recorded
    Column("expires_at", Float),  # from then on it is as if deleted; NULL: never
    Column("columns_ref", String(64)),  # artifact: columns beside the rows; NULL: not made yet
    Column("dataset_id", String(64), index=True),  # the file that is the dataset's first version; NULL: this one is
    Column("previous_id", String(64)),  # the version that this one was made from
    Column("version", Integer),  # within the dataset, from 1; NULL: 1
)

# Jobs of every kind. lease_owner, lease_expires and attempt: see shared/db/lease.py.
jobs = Table(
    "jobs",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("kind", String(16), nullable=False, server_default="distillation"),  # JobKind
    Column("request", JSON, nullable=False),  # the effective request of that kind
    Column("forked_from", JSON),  # {job_id, phase, round}
    Column("file_id", ForeignKey("files.id")),  # the training file
    Column("result", JSON),  # what it produced: ids of files, or artifacts by name
    Column("status", String(32), nullable=False),
    Column("status_reason", Text),
    Column("paused_after", String(16)),  # the `pause_after` stage at which it has paused already
    Column("phase", String(64)),
    Column("progress", JSON, nullable=False),
    Column("key_id", String(64)),  # the API key that posted it; its budget pays too
    Column("prices", JSON),  # by provider, when the job was posted: [input, output], USD per million tokens
    Column("estimate", JSON),  # of the calls to strong models, after the pilot
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
    Column("traceparent", String(55)),  # of the request that posted it; NULL where traces were off
    Column(
        "incumbent", String(64)
    ),  # id of the version that its student is compared with; "": none; NULL: not yet chosen
    Index("ix_jobs_project_id_kind", "project_id", "kind", "id"),  # its pages
    Index("ix_jobs_status_created_at", "status", "created_at", "id"),  # the queue in its order, without the rows
)

# Units of work that a worker runs. A finished step is reused by any job of its project with the same input_hash.
steps = Table(
    "steps",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("job_id", ForeignKey("jobs.id"), nullable=False, index=True),
    Column("key", String(200), nullable=False),
    Column("phase", String(64)),  # phase to batch: the parts of the key (StepKey), NULL in rows of older versions
    Column("round", Integer),
    Column("role", String(200)),
    Column("batch", Integer),
    Column("kind", String(32), nullable=False),
    Column("queue", String(16), nullable=False),
    Column("input_hash", String(64), nullable=False),  # names the input's artifact
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
    Column("attempts", JSON, nullable=False),  # EndedAttempts
    Column("created_at", Float, nullable=False),
    Column("sent_at", Float),
    Column("started_at", Float),
    Column("finished_at", Float),
    UniqueConstraint("job_id", "key"),
    Index("ix_steps_reuse", "project_id", "input_hash", "state"),
    Index("ix_steps_state", "state"),
)

# A job's events, in the order of their sequence.
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

# Published model versions.
models = Table(
    "models",
    metadata,
    Column("id", String(200), primary_key=True),  # "model-..."; users name alias@version
    Column("project_id", ForeignKey("projects.id"), nullable=False, index=True),
    Column("alias", String(64), nullable=False),
    Column("version", Integer, nullable=False),
    Column("adapter", String(64), nullable=False),  # content hash of the adapter (method full: of the whole model)
    Column("method", String(8), nullable=False, server_default="lora"),
    Column("base", String(200), nullable=False),
    Column("base_hash", String(64), nullable=False),
    Column("state", String(16), nullable=False),  # promoted, undecided, rejected, partial (of a failed job)
    Column("job_id", ForeignKey("jobs.id")),
    Column("created_at", Float, nullable=False),
    Column("deleted_at", Float),  # deleted versions are not served; their numbers are not reused
    Column("generation", JSON),  # Generation: how it was evaluated, and is served by default
    Column("continues", String(200)),  # the version (alias@version) that its training went on from
    UniqueConstraint("project_id", "alias", "version"),
)

# The version that each alias serves.
aliases = Table(
    "aliases",
    metadata,
    Column("project_id", ForeignKey("projects.id"), primary_key=True),
    Column("alias", String(64), primary_key=True),
    Column("model_id", ForeignKey("models.id"), nullable=False),
    Column("changed_at", Float, nullable=False),
)

# Versions that are tried beside the one their alias serves.
canaries = Table(
    "canaries",
    metadata,
    Column("project_id", ForeignKey("projects.id"), primary_key=True),
    Column("alias", String(64), primary_key=True),
    Column("model_id", ForeignKey("models.id"), nullable=False),
    Column("percent", Float, nullable=False),  # share of conversations
    Column("shadow", Boolean, nullable=False),  # it gets copies of requests; its answers are dropped
    Column("created_at", Float, nullable=False),
    Column("id", String(64)),  # of this try; NULL: set before there were goals
    Column("rule", JSON),  # a CanaryRule; NULL: it decides nothing
    Column("step", Integer),  # of the rule, from 0
    Column("step_times", JSON),  # when each step began
    Column("next_look", Float),  # when it is evaluated next
    Column("standing", JSON),  # a CanaryStanding, as of the last look
    Column("outcome", String(16)),  # once it has decided and goes on
)

# What was observed of canaries with a rule, summed.
canary_counts = Table(
    "canary_counts",
    metadata,
    Column("canary_id", String(64), primary_key=True),
    Column("step", Integer, primary_key=True),
    Column("arm", String(16), primary_key=True),
    Column("minute", Integer, primary_key=True),  # of Unix time
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("n", Float, nullable=False),
    Column("loss", Float, nullable=False),  # sum over the n observations
)

# Users that a canary's step has counted: each counts once.
canary_units = Table(
    "canary_units",
    metadata,
    Column("canary_id", String(64), primary_key=True),
    Column("step", Integer, primary_key=True),
    Column("unit", String(32), primary_key=True),  # a hash of the user and the canary
    Column("project_id", ForeignKey("projects.id"), nullable=False),
)

# Events of what is no job: canaries and recipes.
notices = Table(
    "notices",
    metadata,
    Column("id", String(64), primary_key=True),  # ids are UUIDv7: ordered by time
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("kind", String(16), nullable=False),  # canary, recipe
    Column("subject", String(64), nullable=False),  # an alias, a recipe's id
    Column("level", String(8), nullable=False),
    Column("type", String(32), nullable=False),
    Column("message", Text, nullable=False),
    Column("data", JSON),
    Column("created_at", Float, nullable=False),
    Index("ix_notices_subject", "project_id", "kind", "subject", "id"),
)

# Jobs that are made again: a template, a source of rows, and what triggers a run.
recipes = Table(
    "recipes",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False, index=True),
    Column("key_id", String(64)),  # the API key that posted it; its budget pays too
    Column("name", String(200), nullable=False),
    Column("job", JSON, nullable=False),  # a job's body without its training file
    Column("source", JSON, nullable=False),  # a FileSource or a ChatsSource
    Column("trigger", JSON, nullable=False),  # a Trigger
    Column("budget", JSON),
    Column("paused_at", Float),
    Column("look_at", Float, nullable=False, index=True),  # when it is looked at next
    Column("due_at", Float),  # of a recipe by time: when it runs next
    Column("rows_used", Integer, nullable=False),  # rows of the source in the last run that made a job
    Column("runs", Integer, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("dataset_id", String(64)),  # a version of the dataset that stored chats go into; NULL: there is none yet
)

# Runs of recipes. The job's id is drawn before the job is made, so that a repeated attempt makes no second one.
recipe_runs = Table(
    "recipe_runs",
    metadata,
    Column("recipe_id", ForeignKey("recipes.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("status", String(16), nullable=False, index=True),  # a RunStatus
    Column("job_id", String(64), nullable=False),
    Column("file_id", String(64)),  # the version of the source; NULL: there was none
    Column("rows", Integer),  # of that version
    Column("error", JSON),
    Column("lease_owner", String(128)),
    Column("lease_expires", Float),
    Column("attempt", Integer, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("import_id", String(64)),  # the import that makes file_id of stored chats; drawn before it is made, too
)

# Stored chats that a recipe has taken, and in which run. A mark goes with its chat.
recipe_chats = Table(
    "recipe_chats",
    metadata,
    Column("recipe_id", ForeignKey("recipes.id"), primary_key=True),
    Column("completion_id", String(200), primary_key=True, index=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("run", Integer, nullable=False),
    Column("taken_at", Float, nullable=False),
)

# Heartbeats of processes. slots: steps, or jobs of an orchestrator, that it runs at once.
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

# Counts for metrics, of all processes and projects (tallies.py). bucket: of a value, by its size.
tallies = Table(
    "tallies",
    metadata,
    Column("metric", String(32), primary_key=True),  # a Tally
    Column("labels", String(100), primary_key=True),  # separated by slashes
    Column("bucket", Integer, primary_key=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("n", BigInteger, nullable=False),
    Column("amount", Float, nullable=False),  # sum of the n values
)

# Where jobs' metrics are sent, and how far they were.
integrations = Table(
    "integrations",
    metadata,
    Column("job_id", ForeignKey("jobs.id"), primary_key=True),
    Column("type", String(16), primary_key=True),  # an IntegrationType
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("sequence", Integer, nullable=False),  # of the last event that was sent
    Column("failures", Integer, nullable=False),  # in a row
    Column("ended", Boolean, nullable=False),  # all was sent, or it was given up
    Column("next_at", Float, nullable=False),  # during an attempt: its deadline
    Index("ix_integrations_due", "ended", "next_at"),
)

# Human preferences.
labels = Table(
    "labels",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("digest", String(64), nullable=False),  # content hash: live labels are unique
    Column("question", Text, nullable=False),
    Column("first", Text, nullable=False),
    Column("second", Text, nullable=False),
    Column("preferred", String(8), nullable=False),  # first, second, tie
    Column("reference", Text),
    Column("created_at", Float, nullable=False),
    Column("deleted_at", Float),  # withdrawn; jobs posted before still use it
    Index(
        "ix_labels_live",
        "project_id",
        "digest",
        unique=True,
        sqlite_where=text("deleted_at IS NULL"),
        postgresql_where=text("deleted_at IS NULL"),
    ),
)

# Evals: graders that belong together. Their runs are jobs of the kind eval, whose request names the eval.
evals = Table(
    "evals",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False, index=True),
    Column("name", String(200), nullable=False),
    Column("data_source", JSON, nullable=False),  # a CustomSource
    Column("criteria", JSON, nullable=False),  # Criterion objects
    Column("metadata", JSON),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
)

# Served chats that were stored: as they were asked and answered, or with personal data masked.
chats = Table(
    "chats",
    metadata,
    Column("id", String(200), primary_key=True),  # of the completion; UUIDv7, ordered by time
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("alias", String(200), nullable=False),  # of the version that answered; of a base its name
    Column("version", Integer),  # NULL: a base answered
    Column("model", String(200), nullable=False),  # as the answer named it
    Column("user", String(512)),  # in the caller's own words
    Column("safety_identifier", String(512)),
    Column("request", JSON, nullable=False),
    Column("answer", JSON, nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("bytes", Integer, nullable=False),  # of request and answer as JSON
    Column("masked", JSON),  # counts by kind; NULL: it was not masked
    Column("request_id", String(128), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("agreement", Float),  # share of the choices that say the same as most; NULL: there is one choice
    Index("ix_chats_project_id", "project_id", "id"),
    Index("ix_chats_user", "project_id", "user"),
    Index("ix_chats_safety_identifier", "project_id", "safety_identifier"),
    Index("ix_chats_created_at", "created_at"),
)

# What people say of stored chats: one row per chat and author. It goes with its chat.
feedback = Table(
    "feedback",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("completion_id", ForeignKey("chats.id"), nullable=False, index=True),
    Column("author", String(512), nullable=False),  # empty: nobody was named
    Column("alias", String(200), nullable=False),  # alias and version: as in the chat's row
    Column("version", Integer),
    Column("rating", String(8)),  # up, down
    Column("score", Float),
    Column("correction", Text),
    Column("comment", Text),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    UniqueConstraint("project_id", "completion_id", "author"),
    Index("ix_feedback_version", "project_id", "alias", "version", "updated_at"),
)

# Whose chats became rows of datasets, whose ids are the completions'. The rows outlive the chats, so this does, too.
chat_origins = Table(
    "chat_origins",
    metadata,
    Column("project_id", ForeignKey("projects.id"), primary_key=True),
    Column("completion_id", String(200), primary_key=True),
    Column("user", String(512)),
    Column("safety_identifier", String(512)),
    Index("ix_chat_origins_user", "project_id", "user"),
    Index("ix_chat_origins_safety_identifier", "project_id", "safety_identifier"),
)

# The share of an alias's chats that is stored although their callers do not ask for it.
captures = Table(
    "captures",
    metadata,
    Column("project_id", ForeignKey("projects.id"), primary_key=True),
    Column("alias", String(64), primary_key=True),
    Column("percent", Float, nullable=False),
    Column("mask", Boolean, nullable=False),  # mask all stored chats of the alias
    Column("created_at", Float, nullable=False),
)

# Webhook endpoints.
webhooks = Table(
    "webhooks",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False, index=True),
    Column("job_id", ForeignKey("jobs.id")),  # NULL: all jobs of the project
    Column("name", String(200), nullable=False),
    Column("url", Text, nullable=False),
    Column("event_types", JSON, nullable=False),
    Column("seed", String(64), nullable=False),  # the secret is derived from it and a key outside the database
    Column("old_seed", String(64)),
    Column("old_until", Float),
    Column("disabled_at", Float),
    Column("disabled_reason", Text),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
)

# Messages to webhook endpoints.
deliveries = Table(
    "deliveries",
    metadata,
    Column("id", String(64), primary_key=True),  # the webhook-id header
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("webhook_id", ForeignKey("webhooks.id"), nullable=False, index=True),
    Column("job_id", ForeignKey("jobs.id")),  # NULL: of no job
    Column("type", String(64), nullable=False),
    Column("payload", Text, nullable=False),  # the body as it is signed
    Column("state", String(16), nullable=False),  # pending, delivered, failed
    Column("attempts", Integer, nullable=False),
    Column("next_at", Float, nullable=False),  # during an attempt: its deadline
    Column("expires_at", Float, nullable=False),
    Column("last_status", Integer),
    Column("log", JSON, nullable=False),  # the newest DeliveryAttempts
    Column("created_at", Float, nullable=False),
    Column("finished_at", Float),
    Index("ix_deliveries_due", "state", "next_at"),
)
