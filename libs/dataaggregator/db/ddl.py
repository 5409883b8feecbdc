"""The database: what migrations say to give a schema its grants, its isolation and the tables of the bus."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from dataaggregator.db.identifiers import quote
from dataaggregator.db.roles import PLATFORM_ROLE, WORKSPACE_ROLE


class Executes(Protocol):
    """Alembic's `op`, or anything else that takes one SQL statement at a time."""

    def execute(self, sql: str, /) -> Any: ...


WORKSPACE = "nullif(current_setting('dataaggregator.workspace', true), '')::uuid"
"""The workspace of the transaction, NULL when none is set (a reset setting reads '')."""


def grant(op: Executes, schema: str) -> None:
    """Let both roles use the schema and everything that will be made in it."""
    roles = f"{WORKSPACE_ROLE}, {PLATFORM_ROLE}"
    name = quote(schema)
    op.execute(f"GRANT USAGE ON SCHEMA {name} TO {roles}")
    op.execute(f"ALTER DEFAULT PRIVILEGES IN SCHEMA {name} GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {roles}")
    op.execute(f"ALTER DEFAULT PRIVILEGES IN SCHEMA {name} GRANT USAGE, SELECT ON SEQUENCES TO {roles}")


def enable_isolation(op: Executes, schema: str, table: str) -> None:
    """Row-level security by `workspace_id`, forced; the platform role sees all rows."""
    name = quote(schema, table)
    op.execute(f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {name} FORCE ROW LEVEL SECURITY")
    op.execute(
        f"CREATE POLICY workspace ON {name} TO {WORKSPACE_ROLE} "
        f"USING (workspace_id = (SELECT {WORKSPACE})) WITH CHECK (workspace_id = (SELECT {WORKSPACE}))"
    )
    op.execute(f"CREATE POLICY platform ON {name} TO {PLATFORM_ROLE} USING (true) WITH CHECK (true)")


@dataclass(frozen=True)
class Reference:
    """A column by which a table of one schema names a row of another one: both tables belong to workspaces."""

    table: str
    column: str
    to: str
    ends: str = ""
    """What becomes of it with that row, as SQL says it."""
    ended: str | None = None
    """The same before it held the workspace, where that was something else."""
    key: str = "id"


def hold_in_workspace(op: Executes, schema: str, references: Sequence[Reference]) -> None:
    """Foreign keys hold the workspace too: row-level security does not apply to them, and they would tell of others.

    What is there is looked through once, as fast as it can be read; writers of these tables wait meanwhile.
    """
    for to, key in dict.fromkeys((one.to, one.key) for one in references):
        op.execute(f"CREATE UNIQUE INDEX {quote(_index(to))} ON {quote(schema, to)} (workspace_id, {quote(key)})")
    for one in references:
        columns, key = (f"workspace_id, {quote(name)}" for name in (one.column, one.key))
        _refer(op, schema, one, columns=columns, key=key, ends=one.ends)
    # Forced, row-level security would show the owner no row to look through.
    tables = dict.fromkeys(name for one in references for name in (one.table, one.to))
    for table in tables:
        op.execute(f"ALTER TABLE {quote(schema, table)} NO FORCE ROW LEVEL SECURITY")
    for one in references:
        op.execute(f"ALTER TABLE {quote(schema, one.table)} VALIDATE CONSTRAINT {quote(_name(one))}")
    for table in tables:
        op.execute(f"ALTER TABLE {quote(schema, table)} FORCE ROW LEVEL SECURITY")


def let_go_of_workspace(op: Executes, schema: str, references: Sequence[Reference]) -> None:
    """The opposite of `hold_in_workspace`; what held the workspace holds without it."""
    for one in references:
        ended = one.ends if one.ended is None else one.ended
        _refer(op, schema, one, columns=quote(one.column), key=quote(one.key), ends=ended)
        op.execute(f"ALTER TABLE {quote(schema, one.table)} VALIDATE CONSTRAINT {quote(_name(one))}")
    for to in dict.fromkeys(one.to for one in references):
        op.execute(f"DROP INDEX {quote(schema, _index(to))}")


def _refer(op: Executes, schema: str, one: Reference, *, columns: str, key: str, ends: str) -> None:
    op.execute(
        f"ALTER TABLE {quote(schema, one.table)} DROP CONSTRAINT {quote(_name(one))}, "
        f"ADD CONSTRAINT {quote(_name(one))} FOREIGN KEY ({columns}) "
        f"REFERENCES {quote(schema, one.to)} ({key}) {ends} NOT VALID"
    )


def _name(one: Reference) -> str:
    return f"{one.table}_{one.column}_fkey"


def _index(to: str) -> str:
    return f"{to}_in_workspace"


# json and not jsonb wherever a definition is kept or sent: jsonb sorts the keys of objects, and the order in which
# somebody wrote down fields is the order of the columns that come out.
BUS_TABLES = {
    "subject_sequences": """
        source text NOT NULL,
        subject text NOT NULL,
        workspace_id uuid NOT NULL,
        last_sequence bigint NOT NULL,
        PRIMARY KEY (source, subject)""",
    "outbox": """
        id uuid PRIMARY KEY,
        position bigint GENERATED ALWAYS AS IDENTITY,
        workspace_id uuid NOT NULL,
        type text NOT NULL,
        source text NOT NULL,
        subject text NOT NULL,
        sequence bigint NOT NULL,
        time timestamptz NOT NULL,
        traceparent text,
        data json NOT NULL,
        published_at timestamptz,
        recoveries integer NOT NULL DEFAULT 0,
        UNIQUE (source, subject, sequence)""",
    "inbox": """
        event_id uuid PRIMARY KEY,
        workspace_id uuid NOT NULL,
        type text NOT NULL,
        source text NOT NULL,
        subject text NOT NULL,
        sequence bigint NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT clock_timestamp()""",
    "subject_positions": """
        source text NOT NULL,
        subject text NOT NULL,
        workspace_id uuid NOT NULL,
        last_sequence bigint NOT NULL,
        PRIMARY KEY (source, subject)""",
    "retries": """
        event_id uuid PRIMARY KEY,
        workspace_id uuid NOT NULL,
        source text NOT NULL,
        subject text NOT NULL,
        sequence bigint NOT NULL,
        event json NOT NULL,
        tries integer NOT NULL,
        code text NOT NULL,
        reason text NOT NULL,
        due_at timestamptz NOT NULL,
        first_at timestamptz NOT NULL DEFAULT clock_timestamp()""",
    "parked": """
        event_id uuid PRIMARY KEY,
        workspace_id uuid NOT NULL,
        type text NOT NULL,
        source text NOT NULL,
        subject text NOT NULL,
        sequence bigint NOT NULL,
        event json NOT NULL,
        tries integer NOT NULL,
        code text NOT NULL,
        reason text NOT NULL,
        parked_at timestamptz NOT NULL DEFAULT clock_timestamp()""",
}

BUS_INDEXES = (
    "CREATE INDEX outbox_waiting ON {schema}.outbox (position) WHERE published_at IS NULL",
    "CREATE INDEX outbox_published ON {schema}.outbox (published_at) WHERE published_at IS NOT NULL",
    "CREATE INDEX inbox_applied ON {schema}.inbox (applied_at)",
    "CREATE INDEX retries_due ON {schema}.retries (due_at)",
    "CREATE INDEX retries_subject ON {schema}.retries (source, subject, sequence)",
    "CREATE INDEX parked_subject ON {schema}.parked (source, subject, sequence)",
)


def create_bus_tables(op: Executes, schema: str) -> None:
    """Outbox, inbox, retries, parked and the two counters of a schema, isolated by workspace."""
    for table, columns in BUS_TABLES.items():
        op.execute(f"CREATE TABLE {quote(schema, table)} ({columns})")
        enable_isolation(op, schema, table)
    for index in BUS_INDEXES:
        op.execute(index.format(schema=quote(schema)))


def count_unjudged_tries(op: Executes, schema: str) -> None:
    """How often a try of a retry row was begun and never judged, because the process ended in it."""
    op.execute(f"ALTER TABLE {quote(schema, 'retries')} ADD COLUMN unjudged integer NOT NULL DEFAULT 0")


def forget_unjudged_tries(op: Executes, schema: str) -> None:
    """The opposite of `count_unjudged_tries`."""
    op.execute(f"ALTER TABLE {quote(schema, 'retries')} DROP COLUMN unjudged")


def let_copies_wait(op: Executes, schema: str) -> None:
    """What is published again for somebody who lost it is known, and goes behind all that is new."""
    op.execute(f"ALTER TABLE {quote(schema, 'outbox')} ADD COLUMN again boolean NOT NULL DEFAULT false")
    op.execute(f"DROP INDEX {quote(schema, 'outbox_waiting')}")
    op.execute(f"CREATE INDEX outbox_waiting ON {quote(schema, 'outbox')} (again, position) WHERE published_at IS NULL")


def let_copies_go_first(op: Executes, schema: str) -> None:
    """The opposite of `let_copies_wait`: their positions are the lowest."""
    op.execute(f"DROP INDEX {quote(schema, 'outbox_waiting')}")
    op.execute(f"ALTER TABLE {quote(schema, 'outbox')} DROP COLUMN again")
    op.execute(f"CREATE INDEX outbox_waiting ON {quote(schema, 'outbox')} (position) WHERE published_at IS NULL")
