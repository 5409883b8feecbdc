"""Jobs of the benchmarks, each through a run process as an executor gives it one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from dataaggregator.contracts.pipeline import ResolvedPipeline
from dataaggregator.dataplane.job import ConnectorUse, JobSettings, RunJob
from dataaggregator.dataplane.processes import ProcessPool

WORKSPACE = UUID(int=1)
APPENDED = {"stream": "public.target", "write": "append"}


@dataclass(frozen=True)
class Connector:
    """One end of a job."""

    type: str
    config: Mapping[str, Any]
    id: UUID = field(default_factory=uuid4)

    @property
    def use(self) -> dict[str, Any]:
        return {"connector_id": self.id, "connector_name": self.type, "connector_type": self.type}


Sources = Mapping[str, Mapping[str, Any]]
Steps = Sequence[Mapping[str, object]]


def job(url: str, folder: Path, sources: Sources, steps: Steps) -> RunJob:
    """PostgreSQL to PostgreSQL, appended to `public.target`."""
    postgres = Connector("postgres", {"url": url})
    return between(postgres, postgres, folder, sources, steps=steps)


def between(
    giver: Connector,
    taker: Connector,
    folder: Path,
    sources: Sources,
    *,
    steps: Steps = (),
    writing: Mapping[str, Any] = APPENDED,
) -> RunJob:
    """All sources through these steps, if there are any, to where `writing` says; the first one is what flows."""
    run = uuid4()
    flow = next(iter(sources))
    definition = {
        "name": "bench",
        "sources": {name: {**giver.use, **source} for name, source in sources.items()},
        "transformations": [{"name": "shaped", "inputs": list(sources), "steps": steps}] if steps else [],
        "destinations": [{**taker.use, "input": "shaped" if steps else flow, **writing}],
    }
    return RunJob(
        run_id=run,
        workspace_id=WORKSPACE,
        pipeline_id=uuid4(),
        epoch=1,
        mask_key="0f" * 32,
        definition=ResolvedPipeline.model_validate(definition),
        connectors={end.id: ConnectorUse(type=end.type, config=dict(end.config)) for end in (giver, taker)},
        folder=str(folder / "runs" / str(run)),
        kept=str(folder / "kept"),
        settings=JobSettings(egress_private=True, allowed_roots=(str(folder),)),
    )


async def through(pool: ProcessPool, made: RunJob) -> None:
    """To its end; one that did not succeed is no figure."""
    async with pool.take(WORKSPACE) as process:
        outcome = await process.run(made, _quiet)
    if outcome.status != "succeeded" or not outcome.ledger.balanced:
        raise RuntimeError(f"the run {outcome.status}: {outcome.error}")


async def _quiet(_: object) -> None:
    """Frames are taken and left."""
