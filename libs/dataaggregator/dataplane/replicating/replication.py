"""One attempt of a run of a whole schema: a runner for each stream, a few at a time, each for itself."""

import asyncio
import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from dataaggregator.clock import SystemClock
from dataaggregator.connector.kept import Kept
from dataaggregator.contracts.replicate import ResolvedReplicate
from dataaggregator.contracts.run import RunCounts
from dataaggregator.dataplane.chunked import runner_for
from dataaggregator.dataplane.compile.patterns import Patterns
from dataaggregator.dataplane.failpoints import Failpoints
from dataaggregator.dataplane.failures import at
from dataaggregator.dataplane.job import ReplicatedStream, RunJob, RunOutcome
from dataaggregator.dataplane.opening import Opening
from dataaggregator.dataplane.replicating.following import Following
from dataaggregator.dataplane.replicating.matching import Found, find
from dataaggregator.dataplane.replicating.planning import SOURCE, Planned, Streams, plan
from dataaggregator.dataplane.replicating.uniting import Ended, Names, known_streams, nothing, united
from dataaggregator.dataplane.report import Teller, explained
from dataaggregator.dataplane.runner import Runner
from dataaggregator.dataplane.warm import WarmSandbox

FOLDER = PurePosixPath("streams")


class Replication:
    """`run` once; `cancel` at any time from the same loop. As a Runner, of a definition that replicates."""

    def __init__(
        self, job: RunJob, report: Teller, sandboxes: WarmSandbox, failpoints: Failpoints, kept: Kept | None = None
    ) -> None:
        assert job.definition.replicate is not None  # noqa: S101  (the run process has looked)
        self._job = job
        self._replicate: ResolvedReplicate = job.definition.replicate
        self._report = report
        self._sandboxes = sandboxes
        self._failpoints = failpoints
        self._kept = kept
        self._folder = Path(job.folder)
        self._following = Following(report, SystemClock())
        self._turns = asyncio.Semaphore(self._replicate.parallelism)
        self._at_work: set[Runner] = set()
        self._planning: asyncio.Task[Streams] | None = None
        self._cancelled = False

    def cancel(self) -> None:
        """Streams at work roll back at their next wait, the others are not begun."""
        self._cancelled = True
        if self._planning is not None:
            self._planning.cancel()
        for runner in self._at_work:
            runner.cancel()

    async def run(self) -> RunOutcome:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._planning = asyncio.create_task(self._plan(), name="replicate-plan")
        if self._cancelled:
            self._planning.cancel()
        async with self._following:
            await asyncio.wait([self._planning])
            if self._planning.cancelled():
                return nothing(self._job.run_id, None)
            if (error := self._planning.exception()) is not None:
                return nothing(self._job.run_id, explained(error, self._report))
            streams = self._planning.result()
            self._following.streams, self._following.phase = len(streams.planned), "reading"
            ends = await asyncio.gather(*(self._stream(one) for one in streams.planned))
            gone = await self._gone(ends)
        return united(self._job, streams, ends, gone, cancelled=self._cancelled)

    async def _plan(self) -> Streams:
        """Those of the attempt before, if it was here: a stream that it committed stays one of the run."""
        if (streams := Streams.kept(self._folder)) is not None:
            return streams
        found = await self._find()
        streams = plan(self._replicate, found, known_streams(self._replicate, self._job.previous_rows))
        streams.save(self._folder)
        return streams

    async def _find(self) -> Found:
        """The streams that are meant, as the source lists them now."""
        opening = Opening(self._job.settings, self._folder, logging.getLogger("dataaggregator.connector"), self._kept)
        came = self._replicate.from_
        try:
            with at(came.connector_name):
                source = opening.source(self._job.connectors[came.connector_id])
                return await find(source, Patterns.of(came.streams))
        finally:
            await opening.close()

    async def _gone(self, ends: Sequence[Ended]) -> Sequence[str]:
        """Those that have vanished since the run began: not found, and not listed any more. One that is listed still
        lacks something that belongs to it, and has failed; so have all of them if not one is left."""
        missing = [one.names.stream for one in ends if one.missing]
        if not missing or self._replicate.on_vanished == "fail" or self._cancelled:
            return ()
        try:
            listed = {stream.name for stream in (await self._find()).streams}
        except Exception as error:
            explained(error, self._report)
            return ()
        gone = [name for name in missing if name not in listed]
        return gone if len(gone) < len(ends) else ()

    async def _stream(self, one: Planned) -> Ended:
        names = Names.of(self._replicate, one)
        folder = FOLDER / hashlib.sha256(one.stream.encode()).hexdigest()[:32]
        outcome = None
        async with self._turns:
            if one.error is None and not self._cancelled:
                job = self._job_of(one, names, self._folder / folder)
                runner = runner_for(job)(job, self._following.of(names), self._sandboxes, self._failpoints, self._kept)
                self._at_work.add(runner)
                try:
                    outcome = await runner.run()
                finally:
                    self._at_work.discard(runner)
        ended = Ended(one, names, folder, outcome)
        self._tell_end(ended)
        return ended

    def _job_of(self, one: Planned, names: Names, folder: Path) -> RunJob:
        before = self._job.previous_rows.get(names.source)
        return self._job.model_copy(
            update={
                "definition": one.pipeline(self._job.definition),
                "replicated": ReplicatedStream(stream=one.stream, primary_key=one.primary_key),
                "folder": str(folder),
                "cursors": tuple(known for known in self._job.cursors if known.destination == names.destination),
                "previous_rows": {} if before is None else {SOURCE: before},
            }
        )

    def _tell_end(self, ended: Ended) -> None:
        counts = RunCounts() if ended.outcome is None else ended.outcome.counts
        self._following.ended(ended.names.source, counts)
        if ended.succeeded:
            told = f"{ended.names.stream} → {ended.planned.target}: {counts.rows_written} rows written."
            self._report.log("info", told, stream=ended.names.stream, rows_read=counts.rows_read)
        elif ended.planned.error is not None:
            error = ended.planned.error
            self._report.log("error", error.detail, code=error.code, stream=ended.names.stream)
