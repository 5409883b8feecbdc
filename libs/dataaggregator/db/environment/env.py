"""The database: Alembic's one environment, for every schema; `migrate.py` hands over the connection."""

from alembic import context

options = context.config.attributes
context.configure(
    connection=options["connection"],
    version_table="alembic_version",
    version_table_schema=options["schema"],
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
