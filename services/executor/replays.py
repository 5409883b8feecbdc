"""replays: rejected rows made ready to be the source of a run, or refused with the reason."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
from pydantic import BaseModel

from dataaggregator.contracts.pipeline import ResolvedPipeline
from dataaggregator.contracts.run import Replay
from dataaggregator.dataplane.compile.parameters import parameter_values
from dataaggregator.dataplane.compile.replay import Replayed, entry_of, replayed, replayed_at
from dataaggregator.dataplane.job import ReplayedRows
from dataaggregator.dataplane.opening import destination_names
from dataaggregator.dataplane.replicating.replaying import replayed_stream
from dataaggregator.db import Database
from dataaggregator.errors import Conflict
from dataaggregator.http.answer import Answer
from dataaggregator.http.call import Call
from dataaggregator.http.route import Route
from services.executor import rejected
from services.executor.domain import has_ended
from services.executor.folders import BROUGHT
from services.executor.rejected_files import RejectedFiles
from services.executor.store import quarantine, replays, runs
from services.executor.store.quarantine import Chosen, StoredEntry
from services.executor.store.replays import Earlier
from services.executor.store.runs import Run


class ReplayAsked(BaseModel):
    """A replay as it would run."""

    definition: ResolvedPipeline
    parameters: dict[str, Any]
    replay: Replay


@dataclass(frozen=True)
class Prepared:
    """The definition that is left of the pipeline, and the rows that are its source."""

    definition: ResolvedPipeline
    rows: ReplayedRows
    parent: UUID
    entries: Sequence[StoredEntry]


@dataclass(frozen=True)
class _Found:
    """What the database says of the rows and of other runs."""

    parent: Run
    entries: Sequence[StoredEntry]
    earlier: Sequence[Earlier]
    written_since: Sequence[str]
    """Streams of the pipeline with rows that came later."""


@dataclass(frozen=True)
class Replays:
    """The same is looked at twice: when somebody asks, for an answer, and when the run begins, because time passes."""

    database: Database
    files: RejectedFiles
    retention_days: float

    def route(self) -> Route:
        return Route(
            "POST", "/internal/runs/{run:id}/replay", self.check,
            "Could the rejected rows of a run be replayed? for the scheduler, which asks for runs", "internal", None,
            body=ReplayAsked, answers={204: None}, problems=(409,), internal=True, max_body_bytes=16 * 1024 * 1024,
        )  # fmt: skip

    async def check(self, call: Call) -> Answer:
        await self.prepare(call.workspace, call.id("run"), call.body_as(ReplayAsked))
        return Answer(status=204)

    async def prepare(self, workspace: UUID, parent: UUID, asked: ReplayAsked, run_id: UUID | None = None) -> Prepared:
        """Raises Conflict, or NotFound where the rows are gone, each with a code of its own."""
        found = await self._find(workspace, parent, asked.replay, run_id)
        entries = _lacking(found.entries)
        files = self.files.of(parent)
        fields = _fields(found.entries, await self.files.work(partial(rejected.types_of, files, entries)))
        made = _made(found.parent, asked, entries, fields)
        if found.written_since and not asked.replay.overwrite:
            _must_not_overwrite(made, entries[0], found.written_since)
        covering, overlapping = _unsure(found.earlier, entries)
        rows = ReplayedRows(
            source=made.source,
            transformation=made.entry.transformation,
            first=made.entry.first,
            folder=str(files.folder),
            files=tuple(entry.file for entry in entries),
            rows=sum(entry.row_count for entry in entries),
            earlier=covering,
            overlapping=overlapping,
        )
        return Prepared(made.definition, rows, parent, entries)

    async def bring(self, prepared: Prepared, run_folder: Path) -> ReplayedRows:
        """The rows where the run process can read them until its end."""
        folder = await self.files.bring(prepared.parent, prepared.entries, run_folder / BROUGHT)
        return prepared.rows.model_copy(update={"folder": str(folder)})

    async def _find(self, workspace: UUID, parent: UUID, wish: Replay, run_id: UUID | None) -> _Found:
        async with self.database.transaction(workspace) as tx:
            run = await runs.get(tx, workspace, parent)
            if not has_ended(run.status):
                raise Conflict("run-not-ended", f"The run has not ended yet, it is {run.status}; wait for its end.")
            rejected.must_be_kept(run, self.retention_days)
            entries = await quarantine.list_entries(tx, workspace, parent, Chosen(wish.stage, wish.rule))
            earlier = await replays.list_unsuccessful(tx, run, run_id)
            return _Found(run, entries, earlier, await replays.list_written_since(tx, run))


def _unsure(earlier: Sequence[Earlier], entries: Sequence[StoredEntry]) -> tuple[tuple[UUID, ...], tuple[UUID, ...]]:
    """Of the replays before, of which nobody may know what they committed, those of all these rows, and of some."""
    shares = {one.run_id: [_means(one.replay, entry) for entry in entries] for one in earlier}
    covering = tuple(run_id for run_id, meant in shares.items() if all(meant))
    return covering, tuple(run_id for run_id, meant in shares.items() if any(meant) and run_id not in covering)


def _means(replay: Replay, entry: StoredEntry) -> bool:
    return replay.stage in (None, entry.stage) and replay.rule in (None, entry.rule)


def _lacking(entries: Sequence[StoredEntry]) -> Sequence[StoredEntry]:
    """Those whose rows some destination lacks, while it has the others that were read with them."""
    lacking = [entry for entry in entries if entry.destinations]
    if not entries:
        raise Conflict("replay-nothing", "The run has no rejected rows of that stage and rule.")
    if not lacking:
        if by := next((entry.replayed_by for entry in entries if entry.replayed_by), None):
            raise Conflict("replay-done", f"These rows have been replayed, by the run {by}.")
        detail = "No destination has committed the rows that were read with these: run the pipeline again instead."
        raise Conflict("replay-nowhere", detail)
    if len({frozenset(entry.destinations) for entry in lacking}) > 1:
        raise Conflict("replay-several-entries", f"These rows go to different destinations: {_choices(lacking)}.")
    return lacking


def _fields(entries: Sequence[StoredEntry], found: Mapping[pa.DataType, Sequence[StoredEntry]]) -> pa.Schema:
    """Those of the rows. What a source could not read is text: only the source can make a row of it."""
    raw = [entry for kind, held in found.items() if not pa.types.is_struct(kind) for entry in held]
    if raw := [*raw, *(entry for entry in entries if entry.kind == "source")]:
        detail = f"Rows that {raw[0].stage} rejected are text: correct them there and run the pipeline again"
        raise Conflict("replay-raw-rows", f"{detail}, or choose the rows of a step by its stage.")
    if len(found) > 1:
        held = [entry for one in found.values() for entry in one]
        raise Conflict("replay-several-entries", f"These rows have different fields: {_choices(held)}.")
    (kind,) = found
    assert isinstance(kind, pa.StructType)  # noqa: S101 (the others are refused above)
    return pa.schema(list(kind))


def _choices(entries: Sequence[StoredEntry]) -> str:
    return "choose one of " + "; ".join(dict.fromkeys(f"stage {one.stage}, rule {one.rule}" for one in entries))


def _made(parent: Run, asked: ReplayAsked, entries: Sequence[StoredEntry], fields: pa.Schema) -> Replayed:
    before, after = parent.queued.definition, asked.definition
    if (of := entries[0].replicated) is not None:
        return replayed_stream(after, of, fields, entries[0].destinations[0])
    names = destination_names(after, parameter_values(after.parameters, asked.parameters))
    lacking = entries[0].destinations
    if gone := [name for name in lacking if name not in names]:
        detail = f"{', '.join(gone)} has the rows that were read with these, and is no destination any more."
        raise Conflict("replay-nowhere", detail)
    stages, kinds = {one.stage for one in entries}, {one.kind for one in entries}
    if "destination" not in kinds:
        return replayed(before, after, entry_of(before, stages), {names.index(name) for name in lacking})
    if len(stages) > 1:
        raise Conflict("replay-several-entries", f"These rows come in again at several places: {_choices(entries)}.")
    known = destination_names(before, parameter_values(before.parameters, parent.queued.parameters))
    return replayed_at(before, after, (known.index(lacking[0]), names.index(lacking[0])))


def _must_not_overwrite(made: Replayed, entry: StoredEntry, since: Sequence[str]) -> None:
    """Of a whole schema only the row's own stream counts; a plain pipeline may have had another name for its table."""
    merged = [one.stream for one in made.definition.destinations if one.write == "merge" and one.version_field is None]
    if entry.replicated is not None:
        merged = [stream for stream in merged if stream in since]
    if merged:
        raise Conflict(
            "replay-overwrites",
            f"A later run has written to {', '.join(merged)}, where no version_field says which row is newer; "
            "with overwrite: true the replayed rows win.",
        )
