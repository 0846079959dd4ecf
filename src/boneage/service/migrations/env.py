"""Alembic's way in: migrations run on the connection that the store gives."""

from alembic import context

from boneage.service.store import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
connection.commit()
