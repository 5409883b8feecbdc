"""Events that are published again go behind all that is new."""

from alembic import op

from dataaggregator.db import ddl

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

SCHEMA = "connectors"


def upgrade() -> None:
    ddl.let_copies_wait(op, SCHEMA)


def downgrade() -> None:
    ddl.let_copies_go_first(op, SCHEMA)
