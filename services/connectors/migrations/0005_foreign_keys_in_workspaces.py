"""Foreign keys hold the workspace: no row of one can refer to a row of another."""

from alembic import op

from dataaggregator.db import ddl
from dataaggregator.db.ddl import Reference

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

SCHEMA = "connectors"
CASCADE = "ON DELETE CASCADE"
REFERENCES = (
    Reference("secrets", "connector_id", "connectors", CASCADE),
    Reference("tests", "connector_id", "connectors", CASCADE),
    Reference("discoveries", "connector_id", "connectors", CASCADE),
    Reference("streams", "connector_id", "connectors", CASCADE),
)


def upgrade() -> None:
    ddl.hold_in_workspace(op, SCHEMA, REFERENCES)


def downgrade() -> None:
    ddl.let_go_of_workspace(op, SCHEMA, REFERENCES)
