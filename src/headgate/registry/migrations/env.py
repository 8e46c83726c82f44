"""Run by Alembic for each upgrade, on the connection (and in the transaction) that `headgate.registry.database` hands over."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
