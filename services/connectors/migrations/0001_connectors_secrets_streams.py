"""Connectors, migration 1: connectors, their sealed secrets, discoveries with streams, test results, uses."""

from alembic import op

from dataaggregator.db import ddl

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SCHEMA = "connectors"

STATEMENTS = """
CREATE TABLE connectors.connectors (
    id uuid PRIMARY KEY,
    workspace_id uuid NOT NULL,
    name text NOT NULL,
    type text NOT NULL,
    version integer NOT NULL,
    config json NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    created_by uuid,
    UNIQUE (workspace_id, name)
);
-- One row a secret; `field` is its place in the configuration and part of what it is sealed with.
CREATE TABLE connectors.secrets (
    connector_id uuid NOT NULL REFERENCES connectors.connectors ON DELETE CASCADE,
    field text NOT NULL,
    workspace_id uuid NOT NULL,
    sealed bytea NOT NULL,
    PRIMARY KEY (connector_id, field)
);
CREATE TABLE connectors.tests (
    connector_id uuid PRIMARY KEY REFERENCES connectors.connectors ON DELETE CASCADE,
    workspace_id uuid NOT NULL,
    connector_version integer NOT NULL,
    ok boolean NOT NULL,
    checks jsonb NOT NULL,
    tested_at timestamptz NOT NULL
);
-- The discovery asked for last. `claimed_until` lets another process take it up when its first one died.
CREATE TABLE connectors.discoveries (
    connector_id uuid PRIMARY KEY REFERENCES connectors.connectors ON DELETE CASCADE,
    id uuid NOT NULL,
    workspace_id uuid NOT NULL,
    requested_at timestamptz NOT NULL,
    claimed_until timestamptz,
    finished_at timestamptz,
    problem jsonb
);
CREATE INDEX ON connectors.discoveries (requested_at) WHERE finished_at IS NULL;
CREATE TABLE connectors.streams (
    connector_id uuid NOT NULL REFERENCES connectors.connectors ON DELETE CASCADE,
    name text NOT NULL,
    workspace_id uuid NOT NULL,
    stream json NOT NULL,
    discovered_at timestamptz NOT NULL,
    PRIMARY KEY (connector_id, name)
);
-- Which pipelines use what, as pipeline.* told us; the scheduler owns the truth.
CREATE TABLE connectors.uses (
    pipeline_id uuid NOT NULL,
    connector_id uuid NOT NULL,
    workspace_id uuid NOT NULL,
    pipeline_name text NOT NULL,
    PRIMARY KEY (pipeline_id, connector_id)
);
CREATE INDEX ON connectors.uses (connector_id);
"""

TABLES = ("connectors", "secrets", "tests", "discoveries", "streams", "uses")


def upgrade() -> None:
    ddl.grant(op, SCHEMA)
    for statements in (STATEMENTS,):
        for statement in statements.split(";\n"):
            if statement.strip():
                op.execute(statement)
    for table in TABLES:
        ddl.enable_isolation(op, SCHEMA, table)
    ddl.create_bus_tables(op, SCHEMA)


def downgrade() -> None:
    for table in (*reversed(TABLES), *ddl.BUS_TABLES):
        op.execute(f"DROP TABLE connectors.{table} CASCADE")
