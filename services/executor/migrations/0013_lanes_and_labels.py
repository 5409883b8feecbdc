"""How many runs may be at work at once, by connector and by workspace: each in a lane; and who may take which run."""

from alembic import op

from dataaggregator.db import WORKSPACE_ROLE, ddl

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

# `needs` is what may be limited: the run's workspace and its connectors. `waits_for` is one of them that had no lane.
RUNS = """
ALTER TABLE executor.runs
    ADD COLUMN needs uuid[] NOT NULL DEFAULT '{}',
    ADD COLUMN runs_on text[] NOT NULL DEFAULT '{}',
    ADD COLUMN waits_for uuid
"""
UUID = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
OPEN_RUNS = f"""
UPDATE executor.runs r SET needs = workspace_id || ARRAY(
    SELECT DISTINCT id::uuid FROM (
        SELECT jsonb_path_query(r.asked::jsonb, '$.definition.**.connector_id') #>> '{{}}' AS id
    ) named WHERE id ~ '{UUID}')
WHERE status IN ('queued', 'running')
"""
# `asked` is what the owner wishes, `most` what counts; `told` the place of the event that said it.
LIMITS = """
CREATE TABLE executor.limits (
    holder uuid PRIMARY KEY,
    workspace_id uuid NOT NULL,
    kind text NOT NULL CHECK (kind IN ('connector', 'workspace')),
    name text NOT NULL,
    asked integer CHECK (asked > 0),
    most integer CHECK (most > 0),
    told bigint NOT NULL DEFAULT 0
)
"""
# A lane has one row and the row one run: there is no place for a second one. One that is beyond a limit that was
# lowered is there as long as its run.
LANES = """
CREATE TABLE executor.lanes (
    holder uuid NOT NULL REFERENCES executor.limits ON DELETE CASCADE,
    lane integer NOT NULL CHECK (lane > 0),
    workspace_id uuid NOT NULL,
    run_id uuid REFERENCES executor.runs ON DELETE SET NULL,
    beyond boolean NOT NULL DEFAULT false,
    PRIMARY KEY (holder, lane)
)
"""
EXECUTORS = """
CREATE TABLE executor.executors (
    name text PRIMARY KEY,
    labels text[] NOT NULL,
    slots integer NOT NULL,
    used integer NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL,
    alive_until timestamptz NOT NULL
)
"""
INDEXES = """
DROP INDEX executor.runs_waiting_of_workspace;
CREATE INDEX runs_waiting_of_workspace ON executor.runs (workspace_id, priority, runs_on, due_at)
    WHERE status = 'queued' AND waits_for IS NULL;
CREATE INDEX runs_waiting_for_lane ON executor.runs (waits_for, priority, due_at)
    WHERE status = 'queued' AND waits_for IS NOT NULL;
CREATE UNIQUE INDEX lanes_of_run ON executor.lanes (run_id, holder) WHERE run_id IS NOT NULL
"""
TABLES = ("lanes", "limits", "executors")


def upgrade() -> None:
    for statement in (RUNS, OPEN_RUNS, LIMITS, LANES, EXECUTORS, *INDEXES.split(";")):
        op.execute(statement)
    ddl.enable_isolation(op, "executor", "limits")
    ddl.enable_isolation(op, "executor", "lanes")
    # Of no workspace.
    op.execute(f"REVOKE ALL ON executor.executors FROM {WORKSPACE_ROLE}")


def downgrade() -> None:
    for table in TABLES:
        op.execute(f"DROP TABLE executor.{table}")
    op.execute("DROP INDEX executor.runs_waiting_for_lane")
    op.execute("DROP INDEX executor.runs_waiting_of_workspace")
    op.execute("ALTER TABLE executor.runs DROP COLUMN needs, DROP COLUMN runs_on, DROP COLUMN waits_for")
    op.execute(
        "CREATE INDEX runs_waiting_of_workspace ON executor.runs (workspace_id, priority, due_at) "
        "WHERE status = 'queued'"
    )
