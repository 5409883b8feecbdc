"""What a load leaves behind: I1 the destination equals the oracle, I2 the ledger adds up, I6 one epoch commits."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import orjson

Json: TypeAlias = dict[str, Any]
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@dataclass(frozen=True)
class Loaded:
    """One destination table after a run, beside a table that holds exactly what must be in it."""

    table: str
    oracle: str
    run_id: str | None = None
    """None where the run did not commit."""
    slot: UUID | None = None
    """Of a backfill: whose fence it is, and not the pipeline's."""


@dataclass(frozen=True)
class Copied:
    """A CSV file, or a folder of them, that must hold exactly the rows of another one."""

    source: Path
    target: Path


def check_copy(copied: Copied) -> None:
    """I1, as multisets of lines."""
    there, wanted = _lines(copied.target), _lines(copied.source)
    assert there == wanted, f"I1: {copied.target} lacks {wanted - there}, and has {there - wanted} too many"


def _lines(path: Path) -> Counter[str]:
    """Header and rows; the header once."""
    parts = sorted(path.glob("*.csv")) if path.is_dir() else [path]
    texts = [part.read_text().splitlines() for part in parts]
    return Counter([line for text in texts for line in text[1:]] + [line for text in texts[:1] for line in text[:1]])


async def check_destination(connection: Connection, table: str, oracle: str) -> None:
    """I1, as multisets: neither a row too few nor one too many."""
    for few, many, what in ((oracle, table, "missing"), (table, oracle, "too many")):
        query = f"SELECT count(*) FROM (TABLE {few} EXCEPT ALL TABLE {many}) difference"
        difference = await connection.fetchval(query)
        assert difference == 0, f"I1: {difference} rows {what} in {table}"


def check_ledger(ledger: Json) -> None:
    """I2, counted again from the figures, whatever the ledger says of itself."""
    assert ledger["balanced"] is True, f"I2: not balanced: {ledger.get('violations')}"
    for edge in ledger["edges"]:
        assert edge["handed_over"] == edge["taken"], f"I2: {edge}"
    for stage in ledger["stages"]:
        if stage["kind"] in {"select", "drop", "rename", "derive", "cast", "filter", "validate"}:
            left = stage["written"] + stage["filtered"] + stage["rejected"]
            assert stage["read"] == left, f"I2: {stage}"
            assert stage["filtered"] == sum(stage["filtered_by"].values()), f"I2: {stage}"
            assert stage["rejected"] == sum(stage["rejected_by"].values()), f"I2: {stage}"
    for receipt in ledger["receipts"]:
        parts = receipt["inserted"] + receipt["updated"] + receipt["unchanged"] + receipt["superseded"]
        (stage,) = (one for one in ledger["stages"] if one["stage"] == receipt["destination"])
        if stage.get("marked") is not None:
            parts += receipt["deleted"]
        assert receipt["committed"] == parts, f"I2: {receipt}"
        assert not receipt["committed"] or (stage["bytes"] and stage["batches"]), f"I2: counts are lost: {stage}"


async def check_ledgers(connection: Connection) -> None:
    """I2, for every run that has succeeded."""
    rows = await connection.fetch(
        """SELECT ledger FROM executor.attempts JOIN executor.runs USING (run_id, lease_epoch)
           WHERE status = 'succeeded'"""
    )
    for row in rows:
        check_ledger(orjson.loads(row["ledger"]))


async def check_winners(connection: Connection) -> None:
    """I6, as the executors know it: a run that succeeded did so in one attempt, its last one; no other did."""
    wrong = await connection.fetch(
        """SELECT run_id, status, count(*) FILTER (WHERE ended = 'succeeded') AS winners
           FROM executor.runs r JOIN executor.attempts a USING (run_id)
           GROUP BY run_id, status HAVING count(*) FILTER (WHERE ended = 'succeeded') <> (status = 'succeeded')::int
               OR max(a.lease_epoch) FILTER (WHERE ended = 'succeeded') <> max(a.lease_epoch)"""
    )
    assert not wrong, f"I6: {[dict(row) for row in wrong[:5]]}"


async def check_epochs(platform: Connection, connection: Connection, loaded: Loaded) -> None:
    """I6: each chunk of the run was committed once, under one epoch, and the fence is not behind it."""
    ledger = orjson.loads(
        await platform.fetchval(
            """SELECT ledger FROM executor.attempts JOIN executor.runs USING (run_id, lease_epoch)
               WHERE run_id = $1::uuid""",
            loaded.run_id,
        )
    )
    loads = await connection.fetch(
        "SELECT pipeline_id, stream, chunk, epoch, rows FROM _dataaggregator.loads WHERE run_id = $1::uuid",
        loaded.run_id,
    )
    chunks = [(load["stream"], load["chunk"]) for load in loads]
    assert len(chunks) == len(set(chunks)) > 0, f"I6: {chunks}"
    committed = sum(receipt["committed"] for receipt in ledger["receipts"])
    assert sum(load["rows"] for load in loads) == committed, f"I6: {loads}"
    for load in loads:
        fence = await connection.fetchval(
            "SELECT max(epoch) FROM _dataaggregator.state WHERE pipeline_id = $1 AND stream = $2",
            loaded.slot or load["pipeline_id"],
            load["stream"],
        )
        assert fence >= load["epoch"], f"I6: the fence stands at {fence}, {load}"
