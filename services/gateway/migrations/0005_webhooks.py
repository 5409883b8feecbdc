"""Webhooks, the secrets they are signed with, and what is delivered to them."""

from alembic import op

from dataaggregator.db import ddl

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# `lease`: the gateway that delivers to it now, until `busy_until`. `rest_until`: it has failed, and is left alone.
WEBHOOKS = """
    CREATE TABLE gateway.webhooks (
        id uuid PRIMARY KEY,
        workspace_id uuid NOT NULL,
        name text NOT NULL,
        definition jsonb NOT NULL,
        url text NOT NULL,
        types text[] NOT NULL,
        enabled boolean NOT NULL,
        about_people boolean NOT NULL,
        version integer NOT NULL,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        created_by uuid,
        lease uuid,
        busy_until timestamptz,
        served_at timestamptz,
        rest_until timestamptz,
        failures integer NOT NULL DEFAULT 0,
        failing_since timestamptz,
        disabled_at timestamptz,
        disabled_reason text,
        UNIQUE (workspace_id, name)
    )"""
SECRETS = """
    CREATE TABLE gateway.webhook_secrets (
        id uuid PRIMARY KEY,
        webhook_id uuid NOT NULL REFERENCES gateway.webhooks ON DELETE CASCADE,
        workspace_id uuid NOT NULL,
        sealed bytea NOT NULL,
        made_at timestamptz NOT NULL,
        ends_at timestamptz
    )"""
DELIVERIES = """
    CREATE TABLE gateway.deliveries (
        id uuid PRIMARY KEY,
        webhook_id uuid NOT NULL REFERENCES gateway.webhooks ON DELETE CASCADE,
        workspace_id uuid NOT NULL,
        event_id uuid NOT NULL,
        type text NOT NULL,
        subject text NOT NULL,
        event jsonb NOT NULL,
        status text NOT NULL CHECK (status IN ('pending', 'delivered', 'failed')),
        attempts integer NOT NULL DEFAULT 0,
        created_at timestamptz NOT NULL,
        next_at timestamptz CHECK ((next_at IS NOT NULL) = (status = 'pending')),
        attempted_at timestamptz,
        response_status integer,
        response text,
        error text,
        duration_ms integer,
        UNIQUE (webhook_id, event_id)
    )"""
INDEXES = (
    "CREATE INDEX ON gateway.webhook_secrets (webhook_id)",
    "CREATE INDEX deliveries_due ON gateway.deliveries (webhook_id, next_at, created_at, id) WHERE status = 'pending'",
    "CREATE INDEX ON gateway.deliveries (webhook_id, created_at, id)",
    "CREATE INDEX ON gateway.deliveries (created_at)",
)
TABLES = ("webhooks", "webhook_secrets", "deliveries")


def upgrade() -> None:
    for statement in (WEBHOOKS, SECRETS, DELIVERIES, *INDEXES):
        op.execute(statement)
    for table in TABLES:
        ddl.enable_isolation(op, "gateway", table)


def downgrade() -> None:
    for table in reversed(TABLES):
        op.execute(f"DROP TABLE gateway.{table}")
