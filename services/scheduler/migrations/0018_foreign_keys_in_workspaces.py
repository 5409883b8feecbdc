"""Foreign keys hold the workspace: no row of one can refer to a row of another."""

from alembic import op

from dataaggregator.db import ddl
from dataaggregator.db.ddl import Reference

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

SCHEMA = "scheduler"
CASCADE = "ON DELETE CASCADE"
REFERENCES = (
    Reference("transformation_versions", "transformation_id", "transformations", CASCADE),
    Reference("pipeline_versions", "pipeline_id", "pipelines", CASCADE),
    Reference("transformation_uses", "pipeline_id", "pipelines", CASCADE),
    Reference("transformation_uses", "transformation_id", "transformations", "ON DELETE RESTRICT"),
    Reference("connector_uses", "pipeline_id", "pipelines", CASCADE),
    Reference("slots", "schedule_id", "schedules", CASCADE),
    Reference("upstreams", "schedule_id", "schedules", CASCADE),
    Reference("upstreams", "pipeline_id", "pipelines", "ON DELETE RESTRICT"),
    Reference("hook_tokens", "schedule_id", "schedules", CASCADE),
    Reference("hook_deliveries", "schedule_id", "schedules", CASCADE),
    Reference("watches", "schedule_id", "schedules", CASCADE),
    Reference("arrivals", "schedule_id", "watches", CASCADE, key="schedule_id"),
    Reference("backfill_slots", "backfill_id", "backfills", CASCADE),
)


def upgrade() -> None:
    ddl.hold_in_workspace(op, SCHEMA, REFERENCES)


def downgrade() -> None:
    ddl.let_go_of_workspace(op, SCHEMA, REFERENCES)
