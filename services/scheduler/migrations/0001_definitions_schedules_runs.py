"""Scheduler, migration 1: definitions with their versions, the connector projection, schedules, slots and runs."""

from alembic import op

from dataaggregator.db import ddl

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SCHEMA = "scheduler"

DEFINITIONS = """
CREATE TABLE scheduler.transformations (
    id uuid PRIMARY KEY,
    workspace_id uuid NOT NULL,
    name text NOT NULL,
    version integer NOT NULL,
    definition json NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    created_by uuid,
    UNIQUE (workspace_id, name)
);
CREATE TABLE scheduler.transformation_versions (
    transformation_id uuid NOT NULL REFERENCES scheduler.transformations ON DELETE CASCADE,
    version integer NOT NULL,
    workspace_id uuid NOT NULL,
    definition json NOT NULL,
    created_at timestamptz NOT NULL,
    created_by uuid,
    PRIMARY KEY (transformation_id, version)
);
CREATE TABLE scheduler.pipelines (
    id uuid PRIMARY KEY,
    workspace_id uuid NOT NULL,
    name text NOT NULL,
    version integer NOT NULL,
    definition json NOT NULL,
    status text NOT NULL CHECK (status IN ('active', 'paused', 'blocked')),
    status_reason text,
    active_since timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    created_by uuid,
    UNIQUE (workspace_id, name)
);
CREATE TABLE scheduler.pipeline_versions (
    pipeline_id uuid NOT NULL REFERENCES scheduler.pipelines ON DELETE CASCADE,
    version integer NOT NULL,
    workspace_id uuid NOT NULL,
    definition json NOT NULL,
    created_at timestamptz NOT NULL,
    created_by uuid,
    PRIMARY KEY (pipeline_id, version)
);
-- Which pipeline uses which transformation: RESTRICT is what makes deleting a used one impossible.
CREATE TABLE scheduler.transformation_uses (
    pipeline_id uuid NOT NULL REFERENCES scheduler.pipelines ON DELETE CASCADE,
    transformation_id uuid NOT NULL REFERENCES scheduler.transformations ON DELETE RESTRICT,
    workspace_id uuid NOT NULL,
    PRIMARY KEY (pipeline_id, transformation_id)
);
CREATE INDEX ON scheduler.transformation_uses (transformation_id);
CREATE TABLE scheduler.connector_uses (
    pipeline_id uuid NOT NULL REFERENCES scheduler.pipelines ON DELETE CASCADE,
    written text NOT NULL,
    connector_id uuid NOT NULL,
    workspace_id uuid NOT NULL,
    PRIMARY KEY (pipeline_id, written)
);
CREATE INDEX ON scheduler.connector_uses (connector_id);
-- What connector.* told us; the connectors service owns the truth.
CREATE TABLE scheduler.connectors (
    id uuid PRIMARY KEY,
    workspace_id uuid NOT NULL,
    name text NOT NULL,
    type text NOT NULL
);
CREATE INDEX ON scheduler.connectors (workspace_id, name);
"""

SCHEDULES = """
-- One row a trigger; `fingerprint` is the trigger as written, so an edit elsewhere leaves its slots alone.
CREATE TABLE scheduler.schedules (
    id uuid PRIMARY KEY,
    workspace_id uuid NOT NULL,
    pipeline_id uuid NOT NULL REFERENCES scheduler.pipelines ON DELETE CASCADE,
    fingerprint text NOT NULL,
    trigger json NOT NULL,
    anchor_at timestamptz NOT NULL,
    last_slot_at timestamptz,
    next_slot_at timestamptz,
    retired_at timestamptz,
    UNIQUE (pipeline_id, fingerprint)
);
CREATE INDEX ON scheduler.schedules (next_slot_at) WHERE retired_at IS NULL;
-- RELIABILITY, rule 12: this primary key is what makes a slot fire once, with any number of tickers.
CREATE TABLE scheduler.slots (
    schedule_id uuid NOT NULL REFERENCES scheduler.schedules ON DELETE CASCADE,
    slot_at timestamptz NOT NULL,
    workspace_id uuid NOT NULL,
    pipeline_id uuid NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('fired', 'skipped')),
    reason text CHECK (reason IS NOT NULL OR outcome = 'fired'),
    run_id uuid CHECK (run_id IS NOT NULL OR outcome = 'skipped'),
    decided_at timestamptz NOT NULL,
    PRIMARY KEY (schedule_id, slot_at)
);
CREATE INDEX ON scheduler.slots (pipeline_id, slot_at DESC, schedule_id DESC);
"""

RUNS = """
CREATE TABLE scheduler.runs (
    id uuid PRIMARY KEY,
    workspace_id uuid NOT NULL,
    pipeline_id uuid NOT NULL,
    pipeline_name text NOT NULL,
    pipeline_version integer NOT NULL,
    trigger text NOT NULL,
    parent_run_id uuid,
    parameters json NOT NULL,
    full_refresh boolean NOT NULL,
    interval_start timestamptz,
    interval_end timestamptz,
    definition json NOT NULL,
    status text NOT NULL
        CHECK (status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled', 'timed_out', 'skipped')),
    queued_at timestamptz NOT NULL,
    handed_over_at timestamptz,
    started_at timestamptz,
    finished_at timestamptz,
    retry_at timestamptz,
    cancel_requested_at timestamptz,
    attempts jsonb NOT NULL DEFAULT '[]',
    counts jsonb NOT NULL DEFAULT '{}',
    progress double precision,
    balanced boolean,
    destinations jsonb NOT NULL DEFAULT '[]',
    warnings jsonb NOT NULL DEFAULT '[]',
    error jsonb,
    trace_id text,
    CHECK ((finished_at IS NULL) = (status IN ('queued', 'running')))
);
-- RELIABILITY, rule 12: overlap by a partial unique index, not by count(): one run of a pipeline is with the executor.
CREATE UNIQUE INDEX runs_one_handed_over ON scheduler.runs (pipeline_id)
    WHERE handed_over_at IS NOT NULL AND finished_at IS NULL;
CREATE INDEX runs_waiting ON scheduler.runs (pipeline_id, queued_at, id)
    WHERE handed_over_at IS NULL AND finished_at IS NULL;
CREATE INDEX ON scheduler.runs (workspace_id, queued_at, id);
CREATE INDEX ON scheduler.runs (pipeline_id, queued_at, id);
CREATE INDEX ON scheduler.runs (status, queued_at) WHERE finished_at IS NULL;
"""

TABLES = (
    "transformations",
    "transformation_versions",
    "pipelines",
    "pipeline_versions",
    "transformation_uses",
    "connector_uses",
    "connectors",
    "schedules",
    "slots",
    "runs",
)


def upgrade() -> None:
    ddl.grant(op, SCHEMA)
    for statements in (DEFINITIONS, SCHEDULES, RUNS):
        for statement in statements.split(";\n"):
            if statement.strip():
                op.execute(statement)
    for table in TABLES:
        ddl.enable_isolation(op, SCHEMA, table)
    ddl.create_bus_tables(op, SCHEMA)


def downgrade() -> None:
    for table in (*reversed(TABLES), *ddl.BUS_TABLES):
        op.execute(f"DROP TABLE scheduler.{table} CASCADE")
