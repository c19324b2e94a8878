"""How a version was evaluated, and is served by default. Versions of before get what their jobs' evaluations asked with: greedy
answers of at most `answer_tokens`. Only adds: a row that an older process writes has none, and is served greedily."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0016"


def upgrade() -> None:
    op.add_column("models", sa.Column("generation", sa.JSON(), nullable=True))
    op.add_column("models", sa.Column("continues", sa.String(length=200), nullable=True))
    models = sa.table("models", sa.column("id"), sa.column("job_id"), sa.column("generation", sa.JSON()))
    jobs = sa.table("jobs", sa.column("id"), sa.column("request", sa.JSON()))
    connection = op.get_bind()
    query = sa.select(models.c.id, jobs.c.request).join(jobs, jobs.c.id == models.c.job_id)
    for model_id, request in connection.execute(query).all():
        tokens = (request.get("distillation") or {}).get("answer_tokens")
        asked = {"temperature": 0.0, "top_p": 1.0, "max_tokens": tokens, "stop": [], "system": "Answer the question."}
        connection.execute(sa.update(models).where(models.c.id == model_id).values(generation=asked))
