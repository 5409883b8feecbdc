"""What every connector must keep: `TestMine = conformance(CONNECTOR)` in a module with a fixture `rig`."""

import dataclasses
import gc
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any
from uuid import UUID

import pyarrow as pa

from dataaggregator.connector.context import Context
from dataaggregator.connector.destination import (
    CountingDestination,
    Destination,
    LoadRequest,
    Receipt,
    Recount,
    WriteKind,
)
from dataaggregator.connector.source import NarrowSource, ReadMode, ReadRequest, Source
from dataaggregator.connector.spec import Config, ConnectorType, config_schema, secret_paths
from dataaggregator.dataplane.batch import Cursor
from dataaggregator.dataplane.deletes import DELETE_MARK
from dataaggregator.errors import Conflict, PlatformError
from dataaggregator.ids import new_id


class Rig(ABC):
    """A real system on the other side. `rows` have a whole, growing `id` and whatever types the system can hold."""

    config: Config
    context: Context
    rows: pa.Table
    target: str = ""

    @abstractmethod
    async def seed(self, rows: pa.Table) -> str:
        """Make the rows (or more of them) readable; answers the stream's name."""

    async def held(self) -> list[dict[str, Any]]:
        """What a reader of the destination sees, in order of id; only destinations are asked."""
        return []

    async def drop_connections(self) -> None:
        """Cut every connection a connector has to the system, where it has any."""
        return


def conformance(connector: ConnectorType) -> type:
    """The suite for what this type says it can do."""
    parts: list[type] = [Described]
    if connector.source is not None:
        parts.append(Reads)
    if ReadMode.INCREMENTAL in connector.read_modes:
        parts.append(GoesOn)
    exactly_once = {mode.mode for mode in connector.write_modes if mode.delivery == "exactly_once"}
    if exactly_once:
        parts.append(Loads)
    if WriteKind.MERGE in exactly_once:
        parts.append(Merges)
    return type(f"Test{connector.name.title()}", tuple(reversed(parts)), {"connector": connector})


class Described:
    connector: ConnectorType

    async def test_the_configuration_is_a_schema_with_its_secrets_marked(self) -> None:
        schema = config_schema(self.connector)
        assert schema["type"] == "object"
        json.dumps(schema)
        assert all(path for path in secret_paths(self.connector))

    async def test_the_check_passes(self, rig: Rig) -> None:
        checks = [check async for check in self.connector.check(rig.config, rig.context)]
        assert checks
        assert all(check.ok for check in checks), checks

    def source(self, rig: Rig) -> Source:
        assert self.connector.source is not None
        return self.connector.source(rig.config, rig.context)

    def destination(self, rig: Rig) -> Destination:
        assert self.connector.destination is not None
        return self.connector.destination(rig.config, rig.context)


async def read_all(source: Source, request: ReadRequest) -> tuple[list[dict[str, Any]], Cursor | None]:
    """All rows in order of id, and the last cursor; the counts of the batches must add up."""
    rows: list[dict[str, Any]] = []
    cursor = None
    async for batch in source.read(request):
        assert batch.read == batch.rows.num_rows + len(batch.rejected)
        rows.extend(batch.rows.to_pylist())
        cursor = batch.cursor or cursor
    return sorted(rows, key=lambda row: int(row["id"])), cursor


class Reads(Described):
    @asynccontextmanager
    async def seeded(self, rig: Rig, rows: int | None = None) -> AsyncIterator[tuple[Source, str]]:
        """A source of the rig's rows, or so many of them, and what their stream is called."""
        stream, source = await rig.seed(rig.rows.slice(0, rows)), self.source(rig)
        yield source, stream
        await source.close()

    async def test_discovery_lists_the_stream_with_the_schema_it_is_read_with(self, rig: Rig) -> None:
        async with self.seeded(rig) as (source, stream):
            found = {info.name: info for info in await source.discover(None)}
            assert found[stream].schema == await source.schema(ReadRequest(stream=stream))

    async def test_a_reader_who_stops_early_leaves_nothing_open(self, rig: Rig) -> None:
        async with (
            self.seeded(rig) as (source, stream),
            aclosing(source.read(ReadRequest(stream=stream, batch_rows=1))) as batches,
        ):
            await anext(batches)
        gc.collect()  # what was left open says so here, and a warning is an error

    async def test_every_value_arrives_as_it_was(self, rig: Rig) -> None:
        async with self.seeded(rig) as (source, stream):
            rows, _ = await read_all(source, ReadRequest(stream=stream))
            assert rows == rig.rows.to_pylist()

    async def test_a_batch_holds_at_most_the_rows_asked_for(self, rig: Rig) -> None:
        async with self.seeded(rig) as (source, stream):
            sizes = [batch.rows.num_rows async for batch in source.read(ReadRequest(stream=stream, batch_rows=2))]
            assert max(sizes) <= 2
            assert sum(sizes) == rig.rows.num_rows

    async def test_only_the_columns_asked_for_are_read_in_their_order(self, rig: Rig) -> None:
        async with self.seeded(rig) as (source, stream):
            wanted = tuple(reversed(rig.rows.schema.names[:2]))
            async for batch in source.read(ReadRequest(stream=stream, columns=wanted)):
                assert tuple(batch.rows.schema.names) == wanted

    async def test_a_narrow_read_gives_the_same_rows_whichever_column_is_asked_for(self, rig: Rig) -> None:
        """Also one that holds what could not be read: by `narrow` a source says that this costs no row."""
        async with self.seeded(rig) as (source, stream):
            if isinstance(source, NarrowSource) and await source.narrow(ReadRequest(stream=stream)):
                for name in rig.rows.schema.names:
                    columns = tuple(dict.fromkeys(("id", name)))
                    rows, _ = await read_all(source, ReadRequest(stream=stream, columns=columns))
                    assert rows == rig.rows.select(list(columns)).to_pylist()

    async def test_a_limit_bounds_the_read(self, rig: Rig) -> None:
        async with self.seeded(rig) as (source, stream):
            rows, _ = await read_all(source, ReadRequest(stream=stream, limit=3))
            assert len(rows) == 3

    async def test_a_read_can_be_left_in_the_middle(self, rig: Rig) -> None:
        async with self.seeded(rig) as (source, stream):
            reading = source.read(ReadRequest(stream=stream, batch_rows=1))
            await anext(reading)
            await reading.aclose()  # reads are generators
            rows, _ = await read_all(source, ReadRequest(stream=stream))
            assert len(rows) == rig.rows.num_rows

    async def test_a_stream_that_is_not_there_is_named(self, rig: Rig) -> None:
        async with self.seeded(rig) as (source, _):
            error = await failure(source.schema(ReadRequest(stream="not_there")))
        assert error.code == "stream-missing"
        assert "not_there" in error.detail


class GoesOn(Reads):
    async def test_an_incremental_read_goes_on_after_what_it_has(self, rig: Rig) -> None:
        async with self.seeded(rig, 3) as (source, stream):
            request = ReadRequest(stream=stream, mode=ReadMode.INCREMENTAL, cursor_field="id")
            rows, first = await read_all(source, request)
            assert len(rows) == 3
            assert first is not None
            kept = Cursor.from_json(json.loads(json.dumps(first.to_json())))
            nothing, same = await read_all(source, dataclasses.replace(request, cursor=kept))
            assert (nothing, same) == ([], first)
            await rig.seed(rig.rows.slice(3))
            rest, last = await read_all(source, dataclasses.replace(request, cursor=kept))
            assert rest == rig.rows.slice(3).to_pylist()
            assert last != first


class Loads(Described):
    pipeline_id: UUID

    def request(self, rig: Rig, write: WriteKind = WriteKind.APPEND, **more: Any) -> LoadRequest:
        given: dict[str, Any] = {"run_id": new_id(), "pipeline_id": new_id(), "epoch": 1} | more
        return LoadRequest(stream=rig.target, write=write, **given)

    async def load(self, rig: Rig, load: LoadRequest, rows: pa.Table) -> Receipt:
        destination = self.destination(rig)
        await self.begin(destination, load, rows)
        receipt = await destination.commit({"source": Cursor("id", "bigint", "7")})
        await destination.close()
        return receipt

    async def begin(self, destination: Destination, load: LoadRequest, rows: pa.Table) -> None:
        await destination.prepare(load, rows.schema)
        await destination.begin(load)
        for batch in rows.to_batches(max_chunksize=2):
            await destination.write(batch)

    async def test_every_row_is_held_and_the_receipt_says_so(self, rig: Rig) -> None:
        load = self.request(rig)
        receipt = await self.load(rig, load, rig.rows)
        assert (receipt.rows, receipt.inserted) == (rig.rows.num_rows, rig.rows.num_rows)
        assert receipt.checksum
        assert await rig.held() == rig.rows.to_pylist()

    async def test_the_receipt_can_be_read_back(self, rig: Rig) -> None:
        load = self.request(rig)
        destination = self.destination(rig)
        assert await destination.read_back(load) is None
        receipt = await self.load(rig, load, rig.rows)
        assert await destination.read_back(load) == receipt
        await destination.close()

    async def test_the_rows_of_a_load_are_told_from_those_of_others(self, rig: Rig) -> None:
        destination = self.destination(rig)
        if not isinstance(destination, CountingDestination):
            return
        whole, gone = Recount(rig.rows.num_rows, rig.rows.num_rows), Recount(rig.rows.num_rows, 0)
        first, second, none = (self.request(rig) for _ in range(3))
        for load in (first, second):
            await self.load(rig, load, rig.rows)
        assert [await destination.recount(load, 30) for load in (first, second, none)] == [whole, whole, None]
        third = self.request(rig, WriteKind.REPLACE)
        await self.load(rig, third, rig.rows)
        assert [await destination.recount(load, 30) for load in (first, second, third)] == [gone, gone, whole]
        await destination.close()

    async def test_what_prepare_does_is_foreseen_by_a_look_that_does_nothing(self, rig: Rig) -> None:
        load = self.request(rig)
        created = await self.answered(rig, load, rig.rows, look=True)
        assert created[1]
        assert await self.answered(rig, load, rig.rows, look=True) == created
        assert await self.answered(rig, load, rig.rows, look=False) == created
        await self.load(rig, load, rig.rows)
        assert await self.answered(rig, load, rig.rows, look=True) == (rig.rows.schema, [], [])
        wider = rig.rows.append_column("one_more", pa.nulls(rig.rows.num_rows, pa.int64()))
        foreseen = await self.answered(rig, load, wider, look=True)
        assert await self.answered(rig, load, wider, look=False) == foreseen

    async def answered(self, rig: Rig, load: LoadRequest, rows: pa.Table, *, look: bool) -> tuple[Any, ...]:
        """What the destination answers to being looked at, or prepared."""
        destination = self.destination(rig)
        try:
            ask = destination.foresee if look else destination.prepare
            prepared = await ask(load, rows.schema)
            return prepared.schema, [*prepared.changes], [*prepared.left]
        finally:
            await destination.close()

    async def test_nothing_is_seen_before_the_commit(self, rig: Rig) -> None:
        destination = self.destination(rig)
        await self.begin(destination, self.request(rig), rig.rows)
        assert await rig.held() == []
        await destination.rollback()
        assert await rig.held() == []
        await destination.close()

    async def test_a_second_load_of_the_same_chunk_changes_nothing(self, rig: Rig) -> None:
        load = self.request(rig)
        receipt = await self.load(rig, load, rig.rows)
        destination = self.destination(rig)
        await destination.prepare(load, rig.rows.schema)
        begun = await destination.begin(load)
        assert begun.receipt == receipt
        await destination.close()
        assert len(await rig.held()) == rig.rows.num_rows

    async def test_append_adds_and_replace_replaces(self, rig: Rig) -> None:
        await self.load(rig, self.request(rig), rig.rows.slice(0, 2))
        await self.load(rig, self.request(rig), rig.rows.slice(2))
        assert await rig.held() == rig.rows.to_pylist()
        await self.load(rig, self.request(rig, WriteKind.REPLACE), rig.rows.slice(0, 1))
        assert await rig.held() == rig.rows.slice(0, 1).to_pylist()

    async def test_a_replace_by_nothing_leaves_nothing(self, rig: Rig) -> None:
        await self.load(rig, self.request(rig), rig.rows)
        receipt = await self.load(rig, self.request(rig, WriteKind.REPLACE), rig.rows.slice(0, 0))
        assert receipt.rows == 0
        assert await rig.held() == []

    async def test_the_next_load_of_a_pipeline_finds_the_cursors(self, rig: Rig) -> None:
        load = self.request(rig)
        await self.load(rig, load, rig.rows)
        destination = self.destination(rig)
        begun = await destination.begin(self.request(rig, pipeline_id=load.pipeline_id))
        assert begun.cursors == {"source": Cursor("id", "bigint", "7")}
        assert begun.receipt is None
        await destination.close()

    async def test_an_older_epoch_is_refused(self, rig: Rig) -> None:
        pipeline_id = new_id()
        await self.load(rig, self.request(rig, pipeline_id=pipeline_id, epoch=7), rig.rows)
        destination = self.destination(rig)
        error = await failure(destination.begin(self.request(rig, pipeline_id=pipeline_id, epoch=6)))
        assert isinstance(error, Conflict)
        assert error.code == "lease-lost"
        await destination.close()

    async def test_connections_lost_before_the_commit_leave_nothing(self, rig: Rig) -> None:
        load = self.request(rig)
        destination = self.destination(rig)
        await self.begin(destination, load, rig.rows)
        await rig.drop_connections()
        await destination.close()
        assert await rig.held() == []
        receipt = await self.load(rig, load, rig.rows)
        assert receipt.rows == rig.rows.num_rows
        assert await rig.held() == rig.rows.to_pylist()


class Merges(Loads):
    def merge(self, rig: Rig, **more: Any) -> LoadRequest:
        return self.request(rig, WriteKind.MERGE, key=("id",), **more)

    async def test_rows_of_known_keys_are_updated_only_where_they_differ(self, rig: Rig) -> None:
        await self.load(rig, self.merge(rig), rig.rows)
        again = await self.load(rig, self.merge(rig), rig.rows)
        assert (again.inserted, again.updated, again.unchanged) == (0, 0, rig.rows.num_rows)
        assert await rig.held() == rig.rows.to_pylist()

    async def test_among_rows_of_one_key_the_last_read_wins(self, rig: Rig) -> None:
        doubled = pa.concat_tables([rig.rows, rig.rows])
        receipt = await self.load(rig, self.merge(rig), doubled)
        assert (receipt.inserted, receipt.superseded) == (rig.rows.num_rows, rig.rows.num_rows)
        assert await rig.held() == rig.rows.to_pylist()

    async def test_a_version_field_keeps_older_rows_out(self, rig: Rig) -> None:
        newer, older = versions([5, 5]), versions([4, 6])
        await self.load(rig, self.merge(rig, version_field="version"), newer)
        receipt = await self.load(rig, self.merge(rig, version_field="version"), older)
        assert (receipt.superseded, receipt.updated) == (1, 1)
        assert [row["version"] for row in await rig.held()] == [5, 6]

    async def test_null_is_set_and_an_absent_column_is_left(self, rig: Rig) -> None:
        await self.load(rig, self.merge(rig), pa.table({"id": [1], "a": ["x"], "b": ["y"]}))
        await self.load(rig, self.merge(rig), pa.table({"id": [1], "a": pa.array([None], pa.string())}))
        assert await rig.held() == [{"id": 1, "a": None, "b": "y"}]

    async def test_a_mark_deletes_the_row_of_its_key_or_changes_nothing(self, rig: Rig) -> None:
        deletes = self.merge(rig, delete_when="gone")
        await self.load(rig, deletes, marked([1, 2, 3], [5, 5, 5], [False, False, False]))
        receipt = await self.load(
            rig, self.merge(rig, delete_when="gone"), marked([2, 9, 4], [6, 6, 6], [True, True, False])
        )
        assert (receipt.rows, receipt.deleted, receipt.unchanged, receipt.inserted) == (3, 1, 1, 1)
        assert [(row["id"], row["version"]) for row in await rig.held()] == [(1, 5), (3, 5), (4, 6)]
        assert {name for row in await rig.held() for name in row} == {"id", "version"}

    async def test_an_older_mark_leaves_a_newer_row(self, rig: Rig) -> None:
        more: dict[str, Any] = {"delete_when": "gone", "version_field": "version"}
        await self.load(rig, self.merge(rig, **more), marked([1, 2, 3], [5, 5, 5], [False, False, False]))
        receipt = await self.load(rig, self.merge(rig, **more), marked([1, 2, 3], [4, 5, None], [True, True, True]))
        assert (receipt.rows, receipt.deleted, receipt.superseded) == (3, 1, 2)
        assert [row["id"] for row in await rig.held()] == [1, 3]

    async def test_among_rows_of_one_key_the_winner_says_whether_it_is_deleted(self, rig: Rig) -> None:
        more: dict[str, Any] = {"delete_when": "gone", "version_field": "version"}
        await self.load(rig, self.merge(rig, **more), marked([1, 2], [1, 1], [False, False]))
        ids, versions, gone = [1, 1, 2, 2], [3, 2, 2, 3], [True, False, True, False]
        receipt = await self.load(rig, self.merge(rig, **more), marked(ids, versions, gone))
        assert (receipt.deleted, receipt.updated, receipt.superseded) == (1, 1, 2)
        assert [(row["id"], row["version"]) for row in await rig.held()] == [(2, 3)]

    async def test_a_slot_has_a_fence_of_its_own_and_no_cursors(self, rig: Rig) -> None:
        live = self.merge(rig, epoch=7)
        await self.load(rig, live, rig.rows)
        destination = self.destination(rig)
        begun = await destination.begin(dataclasses.replace(live, epoch=6, run_id=new_id(), fence=new_id()))
        assert (begun.cursors, begun.receipt) == ({}, None)
        await destination.close()

    async def test_a_key_without_a_value_is_refused(self, rig: Rig) -> None:
        await self.load(rig, self.request(rig), pa.table({"id": [1]}))
        error = await failure(self.load(rig, self.merge(rig), pa.table({"id": pa.array([None], pa.int64())})))
        assert error.code in ("merge-key-null", "merge-key-not-unique")


def versions(values: Sequence[int]) -> pa.Table:
    return pa.table({"id": list(range(1, len(values) + 1)), "version": list(values)})


def marked(ids: Sequence[int], versions: Sequence[int | None], gone: Sequence[bool]) -> pa.Table:
    """Rows as a merge with `delete_when` gets them."""
    return pa.table({"id": ids, "version": pa.array(versions, pa.int64()), DELETE_MARK: gone})


async def failure(work: Any) -> PlatformError:
    """The platform's error the work ends with."""
    try:
        await work
    except PlatformError as error:
        return error
    raise AssertionError("it did not fail")
