"""The steps that give rows another shape, in whole runs: what arrives, and the law of each in the ledger."""

import hmac
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dataaggregator.contracts.ledger import LedgerStage
from dataaggregator.dataplane.job import RunOutcome

from .conftest import MASK_KEY, Bench


async def run(bench: Bench, table: pa.Table, *steps: dict[str, Any]) -> tuple[RunOutcome, list[dict[str, Any]]]:
    """A Parquet file through the steps into another one."""
    for name in ("in", "out"):
        (bench.folder / name).mkdir()
        bench.connector(name, "files", {"root": f"file://{bench.folder}/{name}"})
    pq.write_table(table, bench.folder / "in" / "rows.parquet")
    job = bench.job(
        {"rows": {"connector": "in", "stream": "rows.parquet"}},
        [{"connector": "out", "input": "shaped", "stream": "shaped.parquet", "write": "replace"}],
        [{"name": "shaped", "inputs": ["rows"], "steps": list(steps)}],
    )
    outcome = await bench.run(job)
    assert (outcome.status, outcome.error, outcome.ledger.violations) == ("succeeded", None, ())
    assert (outcome.ledger.balanced, outcome.ledger.accounting) == (True, "proven")
    (path,) = (bench.folder / "out").rglob("*.parquet")
    return outcome, pq.read_table(Path(path)).to_pylist()


def stage(outcome: RunOutcome, kind: str) -> LedgerStage:
    (found,) = [stage for stage in outcome.ledger.stages if stage.kind == kind]
    return found


async def test_a_dedupe_writes_the_newest_of_each_key_and_counts_the_rest(bench: Bench) -> None:
    table = pa.table({"id": [n % 100 for n in range(1000)], "at": list(range(1000))})
    outcome, rows = await run(bench, table, {"dedupe": {"key": ["id"], "order_by": ["at desc"]}})
    assert [row["at"] for row in rows] == list(range(900, 1000))
    counted = stage(outcome, "dedupe")
    assert (counted.read, counted.kept, counted.duplicates, counted.written) == (1000, 100, 900, 100)
    assert counted.law == "read = kept + duplicates"


async def test_a_mask_hashes_with_the_workspaces_key_and_what_is_rejected_later_shows_no_original(bench: Bench) -> None:
    table = pa.table({"id": [1, 2, 3], "mail": ["a@example.org", None, "c@example.org"], "phone": ["0790001122"] * 3})
    rule = {"rule": "not-three", "check": "id <> 3"}
    outcome, rows = await run(bench, table, {"mask": {"mail": "hash", "phone": "partial"}}, {"validate": [rule]})
    hashed = hmac.digest(bytes.fromhex(MASK_KEY), b"a@example.org", "sha256").hex()
    assert rows == [{"id": 1, "mail": hashed, "phone": "***1122"}, {"id": 2, "mail": None, "phone": "***1122"}]
    counted = stage(outcome, "mask")
    assert (counted.read, counted.written, counted.rejected) == (3, 3, 0)
    (entry,) = outcome.quarantine
    (path,) = bench.folder.rglob(entry.file)
    (refused,) = pq.read_table(path).to_pylist()
    assert "example.org" not in str(refused["row"])
    assert refused["row"]["phone"] == "***1122"


async def test_a_flatten_writes_the_fields_of_a_struct(bench: Bench) -> None:
    table = pa.table({"id": [1, 2], "at": [{"city": "Bern", "zip": 3000}, None]})
    outcome, rows = await run(bench, table, {"flatten": {"field": "at"}})
    assert rows == [{"id": 1, "at_city": "Bern", "at_zip": 3000}, {"id": 2, "at_city": None, "at_zip": None}]
    counted = stage(outcome, "flatten")
    assert (counted.read, counted.written, counted.empty) == (2, 2, 1)


async def test_an_explode_writes_as_many_rows_as_its_lists_have_elements(bench: Bench) -> None:
    table = pa.table({"id": [1, 2, 3, 4], "tags": [["a", None], [], None, ["b"]]})
    outcome, rows = await run(bench, table, {"explode": {"field": "tags"}})
    assert rows == [{"id": 1, "tags": "a"}, {"id": 1, "tags": None}, {"id": 4, "tags": "b"}]
    counted = stage(outcome, "explode")
    assert (counted.read, counted.written, counted.lengths, counted.empty) == (4, 3, 3, 2)


async def test_no_rows_with_a_list_of_uuids_are_still_a_file(bench: Bench) -> None:
    ids = pa.ListArray.from_arrays(pa.array([0, 1], pa.int32()), pa.array([bytes(16)], pa.uuid()))
    _, rows = await run(bench, pa.table({"id": [1], "ids": ids}), {"filter": "id > 1"})
    assert rows == []
