"""Jobs of the benchmarks: PostgreSQL to PostgreSQL, each through a run process as an executor gives it one."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from uuid import UUID, uuid4

from dataaggregator.contracts.pipeline import ResolvedPipeline
from dataaggregator.dataplane.job import ConnectorUse, JobSettings, RunJob
from dataaggregator.dataplane.processes import ProcessPool

WORKSPACE = UUID(int=1)


def job(
    url: str, folder: Path, sources: Mapping[str, Mapping[str, str]], steps: Sequence[Mapping[str, object]]
) -> RunJob:
    """All sources through these steps, if there are any, into `public.target`; the first one is what flows."""
    connector, run = uuid4(), uuid4()
    use = {"connector_id": connector, "connector_name": "pg", "connector_type": "postgres"}
    flow = next(iter(sources))
    definition = {
        "name": "bench",
        "sources": {name: {**use, **source} for name, source in sources.items()},
        "transformations": [{"name": "shaped", "inputs": list(sources), "steps": steps}] if steps else [],
        "destinations": [
            use | {"stream": "public.target", "input": "shaped" if steps else flow, "write": "append"},
        ],
    }
    return RunJob(
        run_id=run,
        workspace_id=WORKSPACE,
        pipeline_id=uuid4(),
        epoch=1,
        mask_key="0f" * 32,
        definition=ResolvedPipeline.model_validate(definition),
        connectors={connector: ConnectorUse(type="postgres", config={"url": url})},
        folder=str(folder / str(run)),
        kept=str(folder / "kept"),
        settings=JobSettings(egress_private=True),
    )


async def through(pool: ProcessPool, made: RunJob) -> None:
    """To its end; one that did not succeed is no figure."""
    async with pool.take(WORKSPACE) as process:
        outcome = await process.run(made, _quiet)
    if outcome.status != "succeeded" or not outcome.ledger.balanced:
        raise RuntimeError(f"the run {outcome.status}: {outcome.error}")


async def _quiet(_: object) -> None:
    """Frames are taken and left."""
