"""Alembic's way in: migrations run on the connection that the store gives."""

from alembic import context

from boneage.service.store import metadata

_LOCK = 7007

connection = context.config.attributes["connection"]
if connection.dialect.name == "postgresql":
    # Servers that share a database may start at once; on SQLite, transactions keep each other out.
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
connection.commit()
