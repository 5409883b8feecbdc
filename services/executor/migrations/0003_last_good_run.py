"""0003: the last succeeded run of a pipeline is asked for at every attempt: an index answers."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute(
        "CREATE INDEX runs_succeeded ON executor.runs (pipeline_id, finished_at DESC) WHERE status = 'succeeded'"
    )


def downgrade() -> None:
    op.execute("DROP INDEX executor.runs_succeeded")
