"""Events that are published again go behind all that is new."""

from alembic import op

from dataaggregator.db import ddl

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

SCHEMA = "auth"


def upgrade() -> None:
    ddl.let_copies_wait(op, SCHEMA)


def downgrade() -> None:
    ddl.let_copies_go_first(op, SCHEMA)
