"""What the destination itself remembers of loads: the fence with its cursors, and one ledger row a load."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import asyncpg

from dataaggregator.connector.destination import Begun, LoadRequest, Receipt
from dataaggregator.dataplane.batch import Cursor
from dataaggregator.errors import Conflict
from dataaggregator_connectors.postgres.connection import Connection
from dataaggregator_connectors.postgres.sql import parse_table
from dataaggregator_connectors.postgres.types import LEDGER_IS_CURRENT, MARKS

SCHEMA = "_dataaggregator"
TABLES = f"""
CREATE SCHEMA IF NOT EXISTS {SCHEMA};
CREATE TABLE IF NOT EXISTS {SCHEMA}.state (
    pipeline_id uuid NOT NULL, stream text NOT NULL, source_stream text NOT NULL,
    epoch bigint NOT NULL, cursor jsonb, changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (pipeline_id, stream, source_stream));
CREATE TABLE IF NOT EXISTS {SCHEMA}.loads (
    run_id uuid NOT NULL, stream text NOT NULL, chunk int NOT NULL, pipeline_id uuid NOT NULL, epoch bigint NOT NULL,
    write text NOT NULL, rows bigint NOT NULL, inserted bigint NOT NULL, updated bigint NOT NULL,
    unchanged bigint NOT NULL, superseded bigint NOT NULL, deleted bigint NOT NULL, checksum text,
    cursors_from jsonb NOT NULL, cursors_to jsonb NOT NULL, committed_at timestamptz NOT NULL,
    PRIMARY KEY (run_id, stream, chunk));
ALTER TABLE {SCHEMA}.loads ADD COLUMN IF NOT EXISTS txid bigint;
ALTER TABLE {SCHEMA}.loads ADD COLUMN IF NOT EXISTS note text NOT NULL DEFAULT '';
"""
RECEIPT = (
    "run_id, stream, chunk, rows, inserted, updated, unchanged, superseded, deleted, checksum, committed_at, "
    "cursors_to, coalesce(to_jsonb(loads) ->> 'note', '') AS note"
)
"""Also of a ledger that is not up to date: to ask what it holds is no reason to change it."""
# The fence is the row without a source stream; the rows with one hold the cursors.
FENCE = ""


@dataclass(frozen=True)
class Counts:
    """A load's counts by the destination's own command tags."""

    rows: int
    inserted: int
    updated: int = 0
    unchanged: int = 0
    superseded: int = 0
    deleted: int = 0


async def create_ledger(connection: Connection) -> None:
    """Make the ledger's tables where they are not there yet; safe when several come at once."""
    if await connection.fetchval(f"SELECT {LEDGER_IS_CURRENT}"):
        return
    async with connection.transaction():
        await connection.execute("SET LOCAL lock_timeout = '10s'")
        await connection.execute(f"SELECT pg_advisory_xact_lock(hashtextextended('{SCHEMA}', 0))")
        await connection.execute(TABLES)


async def raise_fence(connection: Connection, load: LoadRequest) -> None:
    """Write our epoch into the fence and commit it, so that even a load that is rolled back keeps older ones out."""
    epoch = await connection.fetchval(
        f"""INSERT INTO {SCHEMA}.state AS s (pipeline_id, stream, source_stream, epoch) VALUES ($1, $2, $3, $4)
        ON CONFLICT (pipeline_id, stream, source_stream)
        DO UPDATE SET epoch = greatest(s.epoch, EXCLUDED.epoch), changed_at = now() RETURNING epoch""",
        load.fenced_by, load.stream, FENCE, load.epoch,
    )  # fmt: skip
    _judge(epoch, load)


async def take_fence(connection: Connection, load: LoadRequest) -> Begun:
    """Hold the fence until this transaction ends: the cursors committed so far by source stream, and this chunk's
    ledger row. From now on no lock is waited for only so long any more.

    Right after `raise_fence`: a load of an older epoch either had ended by then, so that its row is seen here, or can
    commit nothing any more.
    """
    row = await connection.fetchrow(
        f"""WITH held AS MATERIALIZED (
            SELECT source_stream, epoch, cursor FROM {SCHEMA}.state WHERE pipeline_id = $1 AND stream = $2
            ORDER BY source_stream FOR UPDATE)
        SELECT s.*, l.* FROM (
            SELECT max(epoch) FILTER (WHERE source_stream = '{FENCE}') AS fence,
                json_object_agg(source_stream, json_build_array(cursor, epoch)) FILTER (WHERE cursor IS NOT NULL)
                    AS held,
                set_config('lock_timeout', '0', count(*) >= 0) AS done
            FROM held) AS s
        LEFT JOIN (SELECT {RECEIPT} FROM {SCHEMA}.loads WHERE run_id = $3 AND stream = $2 AND chunk = $4) l
            ON s.done IS NOT NULL""",
        load.fenced_by, load.stream, load.run_id, load.chunk,
    )  # fmt: skip
    assert row is not None  # noqa: S101  (an aggregate is one row)
    _judge(row["fence"], load)
    held = json.loads(row["held"] or "{}")
    return Begun(
        cursors={name: Cursor.from_json(cursor) for name, (cursor, _) in held.items()},
        receipt=None if row["run_id"] is None else _receipt(row),
        epochs={name: epoch for name, (_, epoch) in held.items()},
    )


def _judge(epoch: int, load: LoadRequest) -> None:
    if epoch > load.epoch:
        raise Conflict(
            "lease-lost", f"A newer attempt (epoch {epoch}) has taken over {load.stream}; this one had {load.epoch}."
        )


async def write_ledger(
    connection: Connection,
    load: LoadRequest,
    counts: Counts,
    checksum: str | None,
    cursors: tuple[Mapping[str, Cursor], Mapping[str, Cursor]],
    *,
    note: str,
) -> tuple[Receipt, Sequence[str]]:
    """The ledger row and the cursors (from, to), in the load's own transaction; answers the table's marks as well."""
    before, after = cursors
    moved = [
        (load.fenced_by, load.stream, source, load.epoch, json.dumps(cursor.to_json()))
        for source, cursor in after.items()
        if source != FENCE
    ]
    if moved:
        await connection.executemany(
            f"""INSERT INTO {SCHEMA}.state (pipeline_id, stream, source_stream, epoch, cursor)
            VALUES ($1, $2, $3, $4, $5) ON CONFLICT (pipeline_id, stream, source_stream)
            DO UPDATE SET epoch = EXCLUDED.epoch, cursor = EXCLUDED.cursor, changed_at = now()""",
            moved,
        )
    row = await connection.fetchrow(
        f"""INSERT INTO {SCHEMA}.loads (run_id, stream, chunk, pipeline_id, epoch, write, rows, inserted, updated,
            unchanged, superseded, deleted, checksum, cursors_from, cursors_to, note, committed_at, txid)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, clock_timestamp(),
            txid_current())
        RETURNING {RECEIPT}, {MARKS.format(relation="to_regclass($17)")} AS marks""",
        load.run_id, load.stream, load.chunk, load.pipeline_id, load.epoch, load.write.value, counts.rows,
        counts.inserted, counts.updated, counts.unchanged, counts.superseded, counts.deleted, checksum,
        _cursors(before), _cursors(after), note, parse_table(load.stream).sql,
    )  # fmt: skip
    assert row is not None  # noqa: S101  (INSERT … RETURNING answers the row it made)
    return _receipt(row), row["marks"]


async def has_ledger(connection: Connection) -> bool:
    return bool(await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", f"{SCHEMA}.loads"))


async def find_receipt(connection: Connection, load: LoadRequest) -> Receipt | None:
    """The ledger row of this chunk; None also where nothing was ever loaded."""
    if not await has_ledger(connection):
        return None
    return await receipt_of(connection, load)


async def receipt_of(connection: Connection, load: LoadRequest) -> Receipt | None:
    """The ledger row of this chunk, where it is known that there is a ledger."""
    row = await connection.fetchrow(
        f"SELECT {RECEIPT} FROM {SCHEMA}.loads WHERE run_id = $1 AND stream = $2 AND chunk = $3",
        load.run_id, load.stream, load.chunk,
    )  # fmt: skip
    return None if row is None else _receipt(row)


def _receipt(row: asyncpg.Record) -> Receipt:
    return Receipt(
        run_id=row["run_id"],
        stream=row["stream"],
        chunk=row["chunk"],
        rows=row["rows"],
        inserted=row["inserted"],
        updated=row["updated"],
        unchanged=row["unchanged"],
        superseded=row["superseded"],
        deleted=row["deleted"],
        checksum=row["checksum"],
        committed_at=row["committed_at"],
        cursors={name: Cursor.from_json(data) for name, data in json.loads(row["cursors_to"]).items()},
        note=row["note"],
    )


def _cursors(cursors: Mapping[str, Cursor]) -> str:
    return json.dumps({name: cursor.to_json() for name, cursor in cursors.items()})
