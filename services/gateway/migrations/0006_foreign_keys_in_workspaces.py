"""Foreign keys hold the workspace; where the feed begins, which is one for all, is no workspace's to say."""

from alembic import op

from dataaggregator.db import WORKSPACE_ROLE, ddl
from dataaggregator.db.ddl import Reference

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

SCHEMA = "gateway"
CASCADE = "ON DELETE CASCADE"
REFERENCES = (
    Reference("webhook_secrets", "webhook_id", "webhooks", CASCADE),
    Reference("deliveries", "webhook_id", "webhooks", CASCADE),
)


def upgrade() -> None:
    ddl.hold_in_workspace(op, SCHEMA, REFERENCES)
    op.execute(f"REVOKE INSERT, UPDATE, DELETE ON gateway.feed_floor FROM {WORKSPACE_ROLE}")


def downgrade() -> None:
    op.execute(f"GRANT INSERT, UPDATE, DELETE ON gateway.feed_floor TO {WORKSPACE_ROLE}")
    ddl.let_go_of_workspace(op, SCHEMA, REFERENCES)
