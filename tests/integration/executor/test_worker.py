"""The executor at work with real run processes: runs are done, retried, cancelled, timed out and handed back."""

import errno
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from dataaggregator.errors import Transient
from dataaggregator.ids import new_id
from dataaggregator.settings import Settings
from services.executor.domain import Status
from services.executor.folders import RunFolders
from services.executor.report import Report
from tests.integration.executor.place import Place, open_place

SLOW = "SELECT i::bigint AS id FROM generate_series(1, 1000) i, LATERAL (SELECT pg_sleep(0.05 + i * 0)) s"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    found = tmp_path / "in" / "a.csv"
    found.parent.mkdir()
    fill(found, 100)
    return found


def fill(file: Path, rows: int) -> None:
    file.write_text("id,name\n" + "".join(f"{n},name {n}\n" for n in range(rows)))


def copying(place: Place, file: Path, warehouse: str, **changes: Any) -> dict[str, Any]:
    """A definition that appends a file's rows to a table."""
    source = {**place.connect("files", root=f"file://{file.parent}", format="csv"), "stream": file.name}
    destination = {**place.connect("postgres", url=warehouse), "stream": "public.a", "input": "a", "write": "append"}
    return {"name": "copy-a", "sources": {"a": source}, "destinations": [destination], **changes}


def crawling(place: Place, warehouse: str, query: str = SLOW, **changes: Any) -> dict[str, Any]:
    """A definition whose source takes its time."""
    connector = place.connect("postgres", url=warehouse)
    source, destination = {**connector, "query": query}, {**connector, "stream": "public.a", "input": "a"}
    return {"name": "copy-a", "sources": {"a": source}, "destinations": [destination], **changes}


async def count(warehouse: str, table: str = "public.a") -> int:
    connection = await asyncpg.connect(warehouse)
    try:
        if await connection.fetchval("SELECT to_regclass($1)", table) is None:
            return 0
        found: int = await connection.fetchval(f"SELECT count(*) FROM {table}")
        return found
    finally:
        await connection.close()


async def test_a_queued_run_is_done_and_leaves_everything_told(
    workplace: Place, file: Path, empty_database_url: str
) -> None:
    queued = await workplace.queue(definition=copying(workplace, file, empty_database_url))
    run = await workplace.ended(queued.run_id)
    assert run.status is Status.SUCCEEDED, await workplace.error_detail(queued.run_id)
    assert await count(empty_database_url) == 100
    assert await workplace.said(queued.run_id) == ["started", "succeeded"]
    ledger = await workplace.client.get(f"/api/runs/{queued.run_id}/ledger")
    assert ledger["balanced"] is True
    assert ledger["receipts"][0]["committed"] == 100
    lines = await workplace.client.get(f"/api/runs/{queued.run_id}/logs")
    assert lines["items"][0]["message"] == "Attempt 1 started."


async def test_a_source_without_rows_where_there_were_some_is_an_event_about_its_pipeline_once(
    workplace: Place, file: Path, empty_database_url: str
) -> None:
    definition, pipeline = copying(workplace, file, empty_database_url), new_id()
    definition["sources"]["a"]["schema"] = {"id": "bigint", "name": "string"}
    for rows in (100, 0, 0):
        fill(file, rows)
        queued = await workplace.queue(definition=definition, pipeline_id=pipeline)
        run = await workplace.ended(queued.run_id)
        assert run.status is Status.SUCCEEDED, await workplace.error_detail(queued.run_id)
    async with workplace.ports.database.platform() as tx:
        told = await tx.fetch("SELECT type, sequence, data FROM executor.outbox WHERE subject = $1", str(pipeline))
    assert [(one["type"], one["sequence"], one["data"]["sources"]) for one in told] == [
        ("pipeline.emptied.v1", 1, [{"source": "a", "stream": "a.csv", "rows_before": 100}])
    ]


async def test_streams_that_a_parameter_names_are_compared_each_with_itself(
    workplace: Place, file: Path, empty_database_url: str
) -> None:
    definition, pipeline = copying(workplace, file, empty_database_url), new_id()
    definition["parameters"] = {"region": {"type": "string", "default": "eu"}}
    definition["sources"]["a"].update(stream="{{ parameters.region }}.csv", schema={"id": "bigint", "name": "string"})
    for region, rows in (("eu", 100), ("us", 0), ("eu", 0)):
        fill(file.with_name(f"{region}.csv"), rows)
        queued = await workplace.queue(definition=definition, pipeline_id=pipeline, parameters={"region": region})
        assert (await workplace.ended(queued.run_id)).status is Status.SUCCEEDED
    async with workplace.ports.database.platform() as tx:
        told = await tx.fetch("SELECT type, data FROM executor.outbox WHERE subject = $1", str(pipeline))
        ends = await tx.fetch("SELECT data FROM executor.outbox WHERE type = 'run.succeeded.v1' ORDER BY position")
    assert [one["data"]["sources"] for one in told] == [[{"source": "a", "stream": "eu.csv", "rows_before": 100}]]
    assert [one["data"]["warnings"] for one in ends] == [
        [],
        [],
        ["a gave no rows; in the run before it gave 100."],
    ]


async def test_the_same_message_again_runs_nothing_again(workplace: Place, file: Path, empty_database_url: str) -> None:
    queued = await workplace.queue(definition=copying(workplace, file, empty_database_url))
    await workplace.ended(queued.run_id)
    await workplace.queue(**queued.model_dump())
    assert await workplace.said(queued.run_id) == ["started", "succeeded"]
    assert await count(empty_database_url) == 100


async def test_a_connector_that_is_gone_fails_the_run_without_retry(
    workplace: Place, file: Path, empty_database_url: str
) -> None:
    definition = copying(workplace, file, empty_database_url)
    workplace.connectors.clear()
    queued = await workplace.queue(definition=definition)
    assert (await workplace.ended(queued.run_id)).status is Status.FAILED
    assert await workplace.error(queued.run_id) == "not-found"
    assert await workplace.said(queued.run_id) == ["started", "failed"]


async def test_a_destination_that_does_not_answer_is_tried_as_often_as_the_definition_says(
    workplace: Place, file: Path
) -> None:
    nobody = "postgresql://nobody:secret@127.0.0.1:1/none"
    retry = {"attempts": 2, "initial": "1s", "backoff": "fixed"}
    queued = await workplace.queue(definition=copying(workplace, file, nobody, retry=retry))
    run = await workplace.ended(queued.run_id)
    assert (run.status, run.attempt) == (Status.FAILED, 2)
    assert await workplace.said(queued.run_id) == ["started", "attempt_failed", "started", "failed"]


async def running(place: Place, definition: dict[str, Any]) -> Any:
    """The id of a run that reads its first rows."""
    queued = await place.queue(definition=definition)
    deadline = time.monotonic() + 30
    while (await place.run_now(queued.run_id)).process is None:
        assert time.monotonic() < deadline
    return queued.run_id


async def backends(warehouse: str) -> int:
    """Connections to the warehouse besides the one that asks."""
    connection = await asyncpg.connect(warehouse)
    try:
        found: int = await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()",
            urlsplit(warehouse).path[1:],
        )
        return found
    finally:
        await connection.close()


async def test_a_cancel_is_obeyed_within_ten_seconds_and_leaves_nothing(
    workplace: Place, empty_database_url: str
) -> None:
    run_id = await running(workplace, crawling(workplace, empty_database_url))
    began = time.monotonic()
    await workplace.cancel(run_id)
    run = await workplace.ended(run_id, within_seconds=10)
    assert run.status is Status.CANCELLED
    assert time.monotonic() - began < 10
    assert await count(empty_database_url) == 0
    assert await workplace.said(run_id) == ["started", "cancelled"]


async def test_a_run_in_which_nothing_moves_is_timed_out(settings: Settings, empty_database_url: str) -> None:
    impatient = settings.model_copy(update={"execution_timeout": 3.0})
    async with open_place(impatient, working=True) as place:
        still = crawling(place, empty_database_url, query="SELECT 1::bigint AS id FROM pg_sleep(60)")
        queued = await place.queue(definition=still)
        assert (await place.ended(queued.run_id)).status is Status.TIMED_OUT
        assert await place.error(queued.run_id) == "run-stalled"


async def test_an_attempt_longer_than_its_pipeline_allows_is_timed_out(
    workplace: Place, empty_database_url: str
) -> None:
    definition = crawling(workplace, empty_database_url, timeout_seconds=2.0)
    queued = await workplace.queue(definition=definition)
    assert (await workplace.ended(queued.run_id, within_seconds=30)).status is Status.TIMED_OUT
    assert await workplace.error(queued.run_id) == "run-timeout"


async def test_a_stopping_executor_hands_its_run_back_and_the_next_one_ends_it(
    settings: Settings, empty_database_url: str
) -> None:
    brief = "SELECT i::bigint AS id FROM generate_series(1, 60) i, LATERAL (SELECT pg_sleep(0.05 + i * 0)) s"
    async with open_place(settings, working=True) as first:
        definition = crawling(first, empty_database_url, query=brief)
        run_id = await running(first, definition)
        known = first.connectors
    async with open_place(settings, working=False) as between:
        run = await between.run_now(run_id)
        assert (run.status, run.attempt, run.lost) == (Status.QUEUED, 1, 0)
    async with open_place(settings, working=True, connectors=known) as second:
        assert (await second.ended(run_id)).status is Status.SUCCEEDED, await second.error_detail(run_id)
        assert await second.said(run_id) == ["started", "attempt_failed", "started", "succeeded"]
    assert await count(empty_database_url) == 60


@pytest.mark.parametrize(
    "doubt", [Transient("database-busy", "Not known yet."), RuntimeError("a bug of the log's own")]
)
async def test_an_end_waits_for_its_lines_as_long_as_they_are_in_doubt_and_never_fails_by_them(
    doubt: Exception, workplace: Place, file: Path, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    take, doubts = Report.take_lines, [doubt]

    async def doubtful(report: Report) -> Any:
        if doubts:
            raise doubts.pop()
        return await take(report)

    monkeypatch.setattr(Report, "take_lines", doubtful)
    queued = await workplace.queue(definition=copying(workplace, file, empty_database_url))
    assert (await workplace.ended(queued.run_id, 30)).status is Status.SUCCEEDED
    lines = (await workplace.client.get(f"/api/runs/{queued.run_id}/logs"))["items"]
    told = [line["message"] for line in lines].count("Attempt 1 ended: succeeded.")
    # What a bug took may have been stored before it, when the half second of the lines was over just then.
    assert told in ([1] if isinstance(doubt, Transient) else [0, 1])
    assert not doubts


async def test_a_folder_that_cannot_be_cleaned_stops_nobody(
    workplace: Place, file: Path, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(RunFolders, "keep_quarantine_only", refuse)
    for _ in range(2):
        queued = await workplace.queue(definition=copying(workplace, file, empty_database_url))
        assert (await workplace.ended(queued.run_id, 30)).status is Status.SUCCEEDED
