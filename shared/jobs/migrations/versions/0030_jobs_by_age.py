"""Indexes that hold the queue and a project's jobs in their order: places and pages are found without reading other jobs' rows.
Older processes go on."""

from alembic import op

revision = "0030"
down_revision = "0027"


def upgrade() -> None:
    op.create_index("ix_jobs_status_created_at", "jobs", ["status", "created_at", "id"])
    op.create_index("ix_jobs_project_id_kind", "jobs", ["project_id", "kind", "id"])
    op.drop_index("ix_jobs_status", "jobs")
    op.drop_index("ix_jobs_project_id", "jobs")
