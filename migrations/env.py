"""Alembic's entry point. The caller (``shared.storage.database.migrate``) hands over a connection that holds the lock."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, transactional_ddl=True, transaction_per_migration=False)
with context.begin_transaction():
    context.run_migrations()
