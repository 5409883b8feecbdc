"""Retry rows tell tries that were judged from those in which the process ended."""

from alembic import op

from dataaggregator.db import ddl

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SCHEMA = "scheduler"


def upgrade() -> None:
    ddl.count_unjudged_tries(op, SCHEMA)


def downgrade() -> None:
    ddl.forget_unjudged_tries(op, SCHEMA)
