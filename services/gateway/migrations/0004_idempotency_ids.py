"""An id for each Idempotency-Key, under which its request is carried out, and when that was begun last."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """ALTER TABLE gateway.idempotency_keys
           ADD COLUMN id uuid NOT NULL DEFAULT gen_random_uuid(),
           ADD COLUMN carried_at timestamptz"""
    )


def downgrade() -> None:
    op.execute("ALTER TABLE gateway.idempotency_keys DROP COLUMN id, DROP COLUMN carried_at")
