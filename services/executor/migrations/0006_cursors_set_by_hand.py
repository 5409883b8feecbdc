"""0006: cursors that somebody set by hand, each with its place among the epochs of the runs."""

from alembic import op

from dataaggregator.db import ddl

revision = "0006"
down_revision = "0005"

SCHEMA = "executor"

# An empty destination or source stream stands for every one; no cursor, for the beginning.
_SET_CURSORS = """
CREATE TABLE executor.set_cursors (
    workspace_id uuid NOT NULL,
    pipeline_id uuid NOT NULL,
    source_stream text NOT NULL,
    destination text NOT NULL,
    cursor jsonb,
    epoch bigint NOT NULL,
    set_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (pipeline_id, source_stream, destination)
)
"""


def upgrade() -> None:
    op.execute(_SET_CURSORS)
    ddl.enable_isolation(op, SCHEMA, "set_cursors")


def downgrade() -> None:
    op.execute("DROP TABLE executor.set_cursors")
