"""Alembic's environment: runs the migrations in the transaction of the connection that it is handed."""

from alembic import context

from waveimport.store.schema import VERSION_TABLE
from waveimport.store.tables import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    transaction_per_migration=False,
    transactional_ddl=False,
)
context.run_migrations()
