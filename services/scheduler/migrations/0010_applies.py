"""Whose turn it is to apply definitions in a workspace, and whether an apply broke off between the services."""

from alembic import op

from dataaggregator.db import ddl

revision = "0010"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # `saving`: connectors may be saved while pipelines are not; what is found like that after its time was broken off.
    op.execute(
        """
        CREATE TABLE scheduler.applies (
            workspace_id uuid PRIMARY KEY,
            token uuid NOT NULL,
            begun_at timestamptz NOT NULL,
            begun_by text,
            ends_at timestamptz NOT NULL,
            saving boolean NOT NULL,
            broke_off_at timestamptz
        )"""
    )
    ddl.enable_isolation(op, "scheduler", "applies")


def downgrade() -> None:
    op.execute("DROP TABLE scheduler.applies")
