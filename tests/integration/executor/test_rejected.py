"""The routes about rejected rows: page by page, counted, as a file; and what they say when the rows are gone."""

import csv
import io
import json
from collections.abc import Awaitable, Callable
from decimal import Decimal
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataaggregator.client import ApiError
from dataaggregator.contracts.ledger import Ledger
from dataaggregator.contracts.run import RunCounts
from dataaggregator.dataplane.batch import RejectedRow
from dataaggregator.dataplane.job import QuarantineEntry, RunOutcome
from dataaggregator.dataplane.quarantine import Quarantine
from dataaggregator.db import Database
from dataaggregator.settings import Settings
from services.executor import rejected
from services.executor.cleaner import Cleaner
from services.executor.commands import AttemptEnd, Attempts
from services.executor.domain import End
from services.executor.folders import KeptFolders, RunFolders
from services.executor.store.runs import Run
from tests.integration.executor.place import Place

Claim = Callable[..., Awaitable[Run]]
Rejecting = Callable[..., Awaitable[Run]]

KINDS = {"orders": "source", "clean.check": "validate"}
PRICES = [Decimal(n) / 100 for n in range(5)]


def rejected_by_a_step(quarantine: Quarantine) -> None:
    """In several row groups."""
    for prices in (PRICES[:2], PRICES[2:]):
        rows = pa.record_batch({"price": pa.array(prices, pa.decimal128(20, 2)), "name": [None] * len(prices)})
        quarantine.add_refused("clean.check", "known", "name is null", rows)


def rejected_by_a_source(quarantine: Quarantine) -> None:
    rows = [
        RejectedRow("a.csv:7", "1 field, not 2", "row-ragged", "=1"),
        RejectedRow("a.csv:9", "3, not 2", "row-ragged", "1,2,3"),
    ]
    quarantine.add_unreadable("orders", rows)


@pytest.fixture
def workspace(place: Place) -> UUID:
    return place.workspace


@pytest.fixture
def ended(claimed: Claim, attempts: Attempts, place: Place, settings: Settings) -> Rejecting:
    """A run that has ended with these rows rejected."""

    async def end(*rejected: Callable[[Quarantine], None]) -> Run:
        run = await claimed()
        folder = settings.home / "runs" / str(run.run_id)
        quarantine = Quarantine(folder, folder / "quarantine")
        for reject in rejected:
            reject(quarantine)
        outcome = RunOutcome(
            status="succeeded",
            ledger=Ledger(run_id=run.run_id, balanced=True),
            counts=RunCounts(),
            quarantine=quarantine.close(KINDS),
        )
        assert await attempts.record(run, AttemptEnd(End.SUCCEEDED, None, outcome)) is not None
        return run

    return end


async def refused(awaitable: Awaitable[object]) -> tuple[int, str, str]:
    with pytest.raises(ApiError) as raised:
        await awaitable
    return raised.value.status, raised.value.code, str(raised.value)


async def downloaded(place: Place, run: Run, **query: str) -> bytes:
    into = io.BytesIO()
    await place.client.download(f"/api/runs/{run.run_id}/rejected/download", into, **query)
    return into.getvalue()


async def test_rejected_rows_come_page_by_page_from_the_run_folder(place: Place, ended: Rejecting) -> None:
    run = await ended(rejected_by_a_step, rejected_by_a_source)
    path = f"/api/runs/{run.run_id}/rejected"
    rows = [row async for row in place.client.pages(path, limit=3)]
    assert [row["row"] for row in rows] == [*({"price": f"{p:.2f}", "name": None} for p in PRICES), "=1", "1,2,3"]
    assert rows[0] == {
        "stage": "clean.check",
        "kind": "validate",
        "rule": "known",
        "reason": "name is null",
        "position": None,
        "row": {"price": "0.00", "name": None},
    }
    assert rows[5]["position"] == "a.csv:7"
    assert await place.client.get(path, stage="another") == {"items": [], "next_cursor": None}
    assert (await place.client.get(path, rule="row-ragged"))["items"] == rows[5:]


async def test_large_rejected_rows_end_a_page_by_their_bytes(
    place: Place, ended: Rejecting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of one row group, which is cut; a row that is larger than a page is one."""
    rows = [{"name": str(n), "text": "x" * 40_000} for n in range(9)]

    def large(quarantine: Quarantine) -> None:
        quarantine.add_refused("clean.check", "known", "too long", pa.RecordBatch.from_pylist(rows))

    monkeypatch.setattr(rejected, "PART_BYTES", 50_000)
    monkeypatch.setattr(rejected, "PAGE_BYTES", 100_000)
    run = await ended(large, rejected_by_a_source)
    path = f"/api/runs/{run.run_id}/rejected"
    page = await place.client.get(path, limit=500)
    assert [row["row"] for row in page["items"]] == rows[:3]
    found = [row["row"] async for row in place.client.pages(path, limit=500)]
    assert found == [*rows, "=1", "1,2,3"]
    monkeypatch.setattr(rejected, "PAGE_BYTES", 1)
    assert [len((await place.client.get(path, limit=limit))["items"]) for limit in (1, 2, 500)] == [1, 1, 1]
    assert [row["row"] async for row in place.client.pages(path)] == found


async def test_rows_of_an_earlier_version_are_still_read(
    place: Place, claimed: Claim, attempts: Attempts, settings: Settings
) -> None:
    """It kept every row as JSON and said nothing of kinds and reasons."""
    run = await claimed()
    file = settings.home / "runs" / str(run.run_id) / "quarantine" / "0001.parquet"
    file.parent.mkdir(parents=True)
    columns = {"position": [None], "rule": ["known"], "reason": ["name is null"], "row": ['{"id": 1}']}
    pq.write_table(pa.table(columns), file)
    entry = QuarantineEntry(
        stage="a", rule="known", reason="name is null", count=1, file="quarantine/0001.parquet", row_offset=0
    )
    ledger = Ledger(run_id=run.run_id, balanced=True)
    outcome = RunOutcome(status="succeeded", ledger=ledger, counts=RunCounts(), quarantine=(entry,))
    await attempts.record(run, AttemptEnd(End.SUCCEEDED, None, outcome))
    (row,) = (await place.client.get(f"/api/runs/{run.run_id}/rejected"))["items"]
    assert (row["row"], row["kind"], row["reason"]) == ({"id": 1}, None, "name is null")


async def test_the_summary_says_how_many_were_rejected_where_and_why(place: Place, ended: Rejecting) -> None:
    run = await ended(rejected_by_a_step, rejected_by_a_source)
    told = await place.client.get(f"/api/runs/{run.run_id}/rejected/summary")
    assert told["rows"] == 7
    by_step, by_source = told["items"]
    assert by_step == {
        "stage": "clean.check",
        "kind": "validate",
        "rule": "known",
        "rows": 5,
        "reasons": [{"reason": "name is null", "rows": 5}],
        "position": None,
        "replayed_by": None,
    }
    assert (by_source["kind"], by_source["rows"], by_source["position"]) == ("source", 2, "a.csv:7")
    assert by_source["reasons"] == [{"reason": "1 field, not 2", "rows": 1}, {"reason": "3, not 2", "rows": 1}]


async def test_a_run_without_rejected_rows_has_an_empty_list_summary_and_file(place: Place, ended: Rejecting) -> None:
    run = await ended()
    path = f"/api/runs/{run.run_id}/rejected"
    assert await place.client.get(path) == {"items": [], "next_cursor": None}
    assert await place.client.get(f"{path}/summary") == {"rows": 0, "items": []}
    assert await downloaded(place, run, format="ndjson") == b""
    assert await downloaded(place, run, format="csv") == b"stage,kind,rule,reason,position,row\r\n"
    assert pq.read_table(io.BytesIO(await downloaded(place, run, format="parquet"))).num_rows == 0


async def test_as_lines_of_json_a_file_has_what_the_list_has(place: Place, ended: Rejecting) -> None:
    run = await ended(rejected_by_a_step, rejected_by_a_source)
    listed = (await place.client.get(f"/api/runs/{run.run_id}/rejected"))["items"]
    assert [json.loads(line) for line in (await downloaded(place, run)).splitlines()] == listed
    of_source = await downloaded(place, run, stage="orders")
    assert [json.loads(line) for line in of_source.splitlines()] == listed[5:]


async def test_as_csv_the_row_is_json_in_one_field(place: Place, ended: Rejecting) -> None:
    """Rows of several stages have different fields; and no program takes a row for a formula."""
    run = await ended(rejected_by_a_step, rejected_by_a_source)
    rows = list(csv.DictReader(io.StringIO((await downloaded(place, run, format="csv")).decode(), newline="")))
    assert [json.loads(row["row"]) for row in rows[4:6]] == [{"price": "0.04", "name": None}, "=1"]
    assert not any(row["row"].startswith("=") for row in rows)
    assert (rows[5]["stage"], rows[5]["position"], rows[5]["reason"]) == ("orders", "a.csv:7", "1 field, not 2")


async def test_as_parquet_rows_keep_their_types_and_stand_with_rows_like_them(place: Place, ended: Rejecting) -> None:
    run = await ended(rejected_by_a_step, rejected_by_a_source)
    path = f"/api/runs/{run.run_id}/rejected/download"
    status, code, told = await refused(place.client.get(path, format="parquet"))
    assert (status, code) == (422, "rejected-rows-differ")
    assert "stage=clean.check&rule=known" in told
    assert "stage=orders&rule=row-ragged" in told
    table = pq.read_table(io.BytesIO(await downloaded(place, run, format="parquet", stage="clean.check")))
    assert table["row"].type.field("price").type == pa.decimal128(20, 2)
    assert table.select(["row"]).flatten()["row.price"].to_pylist() == PRICES
    assert set(table["kind"].to_pylist()) == {"validate"}


async def test_rejected_rows_whose_file_is_gone_say_so(place: Place, ended: Rejecting, settings: Settings) -> None:
    run = await ended(rejected_by_a_step)
    for file in (settings.home / "runs" / str(run.run_id)).rglob("*.parquet"):
        file.unlink()
    for what in ("rejected", "rejected/download", "rejected/download?format=parquet"):
        found = await refused(place.client.get(f"/api/runs/{run.run_id}/{what}"))
        assert found[:2] == (404, "rejected-rows-gone"), what


async def test_rejected_rows_that_outlived_their_retention_are_gone_and_not_none(
    place: Place, ended: Rejecting, database: Database, settings: Settings
) -> None:
    run = await ended(rejected_by_a_step)
    async with database.platform() as tx:
        await tx.execute("UPDATE executor.runs SET finished_at = now() - interval '31 days'")
    folders = RunFolders(settings.home)
    await Cleaner(database, folders, KeptFolders(settings.home), retention_days=30).clean()
    for what in ("rejected", "rejected/summary", "rejected/download"):
        status, code, told = await refused(place.client.get(f"/api/runs/{run.run_id}/{what}"))
        assert (status, code) == (404, "rejected-rows-gone")
        assert "30 days" in told
