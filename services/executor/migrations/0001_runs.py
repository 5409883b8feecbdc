"""0001: runs with their leases, attempts, ledgers, logs, the quarantine's index, cursors."""

from alembic import op

from dataaggregator.db import ddl

revision = "0001"
down_revision = None

SCHEMA = "executor"

_RUNS = """
CREATE TABLE executor.runs (
    run_id uuid PRIMARY KEY,
    workspace_id uuid NOT NULL,
    pipeline_id uuid NOT NULL,
    pipeline_name text NOT NULL,
    asked json NOT NULL,
    traceparent text,
    status text NOT NULL DEFAULT 'queued'
        CHECK (status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled', 'timed_out')),
    attempt integer NOT NULL DEFAULT 1,
    lost integer NOT NULL DEFAULT 0,
    queued_at timestamptz NOT NULL,
    due_at timestamptz NOT NULL DEFAULT now(),
    owner jsonb,
    lease_epoch bigint,
    lease_until timestamptz,
    process jsonb,
    started_at timestamptz,
    attempt_started_at timestamptz,
    finished_at timestamptz,
    cancel_requested_at timestamptz,
    progress jsonb,
    error jsonb,
    cleaned_at timestamptz,
    CHECK ((status = 'running') = (lease_until IS NOT NULL))
)
"""
_INDEXES = (
    "CREATE INDEX runs_waiting ON executor.runs (due_at) WHERE status = 'queued'",
    "CREATE INDEX runs_leased ON executor.runs (lease_until) WHERE status = 'running'",
    "CREATE INDEX runs_to_clean ON executor.runs (finished_at) WHERE finished_at IS NOT NULL AND cleaned_at IS NULL",
    "CREATE INDEX runs_of_pipeline ON executor.runs (workspace_id, pipeline_name)",
)
# One sequence for all runs: epochs grow over the runs of a pipeline too, as its destinations' fences need.
_EPOCHS = "CREATE SEQUENCE executor.lease_epochs"
_ATTEMPTS = """
CREATE TABLE executor.attempts (
    run_id uuid NOT NULL REFERENCES executor.runs ON DELETE CASCADE,
    workspace_id uuid NOT NULL,
    lease_epoch bigint NOT NULL,
    number integer NOT NULL,
    executor text NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at timestamptz,
    ended text,
    error jsonb,
    ledger json,
    PRIMARY KEY (run_id, lease_epoch)
)
"""
_QUARANTINE = """
CREATE TABLE executor.quarantine (
    run_id uuid NOT NULL REFERENCES executor.runs ON DELETE CASCADE,
    workspace_id uuid NOT NULL,
    ordinal integer NOT NULL,
    stage text NOT NULL,
    rule text NOT NULL,
    reason text NOT NULL,
    row_count bigint NOT NULL,
    file text NOT NULL,
    row_offset bigint NOT NULL,
    position text,
    PRIMARY KEY (run_id, ordinal)
)
"""
_LOGS = """
CREATE TABLE executor.logs (
    run_id uuid NOT NULL REFERENCES executor.runs ON DELETE CASCADE,
    workspace_id uuid NOT NULL,
    line bigint GENERATED ALWAYS AS IDENTITY,
    attempt integer NOT NULL,
    at timestamptz NOT NULL,
    level smallint NOT NULL,
    message text NOT NULL,
    fields json NOT NULL,
    PRIMARY KEY (run_id, line)
)
"""
_CURSORS = """
CREATE TABLE executor.cursors (
    workspace_id uuid NOT NULL,
    pipeline_id uuid NOT NULL,
    source_stream text NOT NULL,
    destination text NOT NULL,
    cursor jsonb NOT NULL,
    run_id uuid NOT NULL,
    lease_epoch bigint NOT NULL,
    committed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (pipeline_id, source_stream, destination)
)
"""
# A wish to cancel may overtake the run it is about: kept until the run arrives.
_EARLY_CANCELS = """
CREATE TABLE executor.early_cancels (
    run_id uuid PRIMARY KEY,
    workspace_id uuid NOT NULL,
    requested_at timestamptz NOT NULL
)
"""
_TABLES = ("runs", "attempts", "quarantine", "logs", "cursors", "early_cancels")


def upgrade() -> None:
    ddl.grant(op, SCHEMA)
    for statement in (_RUNS, *_INDEXES, _EPOCHS, _ATTEMPTS, _QUARANTINE, _LOGS, _CURSORS, _EARLY_CANCELS):
        op.execute(statement)
    for table in _TABLES:
        ddl.enable_isolation(op, SCHEMA, table)
    ddl.create_bus_tables(op, SCHEMA)


def downgrade() -> None:
    for table in (*reversed(_TABLES), *ddl.BUS_TABLES):
        op.execute(f"DROP TABLE {SCHEMA}.{table}")
    op.execute("DROP SEQUENCE executor.lease_epochs")
