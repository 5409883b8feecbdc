"""The event feed, and the answers kept for Idempotency-Key."""

from alembic import op

from dataaggregator.db import ddl

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SCHEMA = "gateway"

STATEMENTS = (
    """
    CREATE TABLE gateway.feed (
        position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        event_id uuid NOT NULL,
        workspace_id uuid NOT NULL,
        type text NOT NULL,
        subject text NOT NULL,
        event jsonb NOT NULL,
        appended_at timestamptz NOT NULL
    )""",
    "CREATE INDEX feed_by_workspace ON gateway.feed (workspace_id, position)",
    "CREATE INDEX feed_by_subject ON gateway.feed (workspace_id, subject, position)",
    "CREATE INDEX feed_by_age ON gateway.feed (appended_at)",
    """
    CREATE TABLE gateway.feed_floor (
        only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
        position bigint NOT NULL
    )""",
    "INSERT INTO gateway.feed_floor (position) VALUES (0)",
    """
    CREATE TABLE gateway.idempotency_keys (
        workspace_id uuid NOT NULL,
        user_id uuid NOT NULL,
        key text NOT NULL,
        fingerprint bytea NOT NULL,
        begun_at timestamptz NOT NULL,
        ended_at timestamptz,
        status integer,
        headers jsonb,
        body bytea,
        PRIMARY KEY (workspace_id, user_id, key)
    )""",
    "CREATE INDEX idempotency_keys_by_age ON gateway.idempotency_keys (begun_at)",
)

ISOLATED = ("feed", "idempotency_keys")


def upgrade() -> None:
    ddl.grant(op, SCHEMA)
    for statement in STATEMENTS:
        op.execute(statement)
    ddl.create_bus_tables(op, SCHEMA)
    for table in ISOLATED:
        ddl.enable_isolation(op, SCHEMA, table)


def downgrade() -> None:
    for table in (*ISOLATED, "feed_floor", *ddl.BUS_TABLES):
        op.execute(f"DROP TABLE {SCHEMA}.{table} CASCADE")
