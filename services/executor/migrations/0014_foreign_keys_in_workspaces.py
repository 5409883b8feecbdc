"""Foreign keys hold the workspace: no row of one can refer to a row of another."""

from alembic import op

from dataaggregator.db import ddl
from dataaggregator.db.ddl import Reference

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

SCHEMA = "executor"
CASCADE = "ON DELETE CASCADE"
REFERENCES = (
    Reference("attempts", "run_id", "runs", CASCADE, key="run_id"),
    Reference("quarantine", "run_id", "runs", CASCADE, key="run_id"),
    Reference("logs", "run_id", "runs", CASCADE, key="run_id"),
    Reference("lanes", "holder", "limits", CASCADE, key="holder"),
    Reference("lanes", "run_id", "runs", ended="ON DELETE SET NULL", key="run_id"),
)


def upgrade() -> None:
    ddl.hold_in_workspace(op, SCHEMA, REFERENCES)


def downgrade() -> None:
    ddl.let_go_of_workspace(op, SCHEMA, REFERENCES)
