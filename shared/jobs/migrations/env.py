"""Alembic runs inside `shared.db.engine.upgrade`, on the connection and version table given there."""

from alembic import context

attributes = context.config.attributes
context.configure(
    connection=attributes["connection"], version_table=attributes["version_table"], transaction_per_migration=False
)
context.run_migrations()
