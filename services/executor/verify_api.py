"""verify_api: the executor's HTTP door to the destinations of an ended run: what do they hold of it now?"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from dataaggregator.contracts.ledger import DestinationVerified, Ledger, Receipt, Verification
from dataaggregator.contracts.modes import WriteMode
from dataaggregator.contracts.pipeline import ResolvedDestination
from dataaggregator.contracts.replicate import ResolvedReplicateTo
from dataaggregator.dataplane.compile.parameters import parameter_values
from dataaggregator.dataplane.job import ConnectorUse, HeldLoad, ReadBack
from dataaggregator.dataplane.opening import destination_names, without_parameters
from dataaggregator.db import Database
from dataaggregator.errors import Conflict, PlatformError
from dataaggregator.http.answer import Answer
from dataaggregator.http.call import Call
from dataaggregator.http.client import ServiceClient
from dataaggregator.http.definition import author
from dataaggregator.http.route import Route
from dataaggregator.permissions import Permission
from services.executor import commands
from services.executor.arrival import arrived
from services.executor.domain import has_ended
from services.executor.probe import ProbeRequest, Probes
from services.executor.store import results
from services.executor.store.runs import Run
from services.executor.verifying import judged

AT_ONCE = 2
"""Loads of one call that are asked for at the same time: other probes have their turn too."""


@dataclass(frozen=True)
class VerifyApi:
    database: Database
    client: ServiceClient
    probes: Probes

    def routes(self) -> Sequence[Route]:
        return (
            Route(
                "POST", "/api/runs/{run:id}/verify", self.verify, "Read a run's receipts back at its destinations",
                "runs", Permission.RUNS_OPERATE, answers={200: Verification}, problems=(409,),
                description="The receipts in the ledger say then when, and whether they were found. A destination "
                "that cannot be asked is `unknown`, with the reason.",
            ),
        )  # fmt: skip

    async def verify(self, call: Call) -> Answer:
        run = await arrived(self.database, call.workspace, call.id("run"))
        async with self.database.transaction(call.workspace) as tx:
            found = await results.find_ledger(tx, call.workspace, run.run_id)
        ledger = None if found is None else Ledger.model_validate(found)
        if not has_ended(run.status):
            raise Conflict("run-not-ended", f"The run has not ended yet, it is {run.status}; wait for it.")
        receipts = ledger.receipts if ledger is not None else ()
        expected = {one.destination: one for one in receipts}
        loads = _loads(run, ledger)
        opened = {connector: await self._opened(run, connector) for connector in {one for one, _ in loads}}
        turns = asyncio.Semaphore(AT_ONCE)
        answers = await asyncio.gather(
            *(self._ask(run, turns, opened[one], load, expected.get(load.destination)) for one, load in loads)
        )
        told = Verification(
            run_id=run.run_id, verified=all(one.status == "verified" for one in answers), destinations=tuple(answers)
        )
        async with self.database.transaction(call.workspace) as tx:
            await commands.record_verification(tx, call.workspace, told, author(call))
        return Answer(told)

    async def _opened(self, run: Run, connector: UUID) -> ConnectorUse | PlatformError:
        """Of each connector once, for as many loads as a whole schema has share one."""
        try:
            body = {"connector_ids": [str(connector)]}
            opened = await self.client.post(
                "connectors", "/internal/connectors/resolve", body, workspace=run.workspace_id
            )
        except PlatformError as error:
            return error
        return ConnectorUse.model_validate(opened["connectors"][str(connector)])

    async def _ask(
        self,
        run: Run,
        turns: asyncio.Semaphore,
        use: ConnectorUse | PlatformError,
        load: HeldLoad,
        expected: Receipt | None,
    ) -> DestinationVerified:
        """Each by itself: one that is away, or whose connector is gone, leaves the others their answer."""
        if isinstance(use, PlatformError):
            return judged(load, expected, use)
        request = ProbeRequest(probe="read_back", connector=use, load=load)
        try:
            async with turns:
                answer = ReadBack.model_validate(await self.probes.ask(run.workspace_id, request))
        except PlatformError as error:
            return judged(load, expected, error)
        return judged(load, expected, answer)


def _loads(run: Run, ledger: Ledger | None) -> list[tuple[UUID, HeldLoad]]:
    """The connector of each destination, and the load as the run has asked for it."""
    definition = run.queued.definition
    if definition.replicate is not None:
        return _loads_of_streams(run, definition.replicate.to, ledger)
    values = parameter_values(definition.parameters, run.queued.parameters)

    def load(name: str, destination: ResolvedDestination) -> HeldLoad:
        stream = without_parameters(destination.stream, values)
        return _held(run, name, stream, destination.write)

    names = destination_names(definition, values)
    return [(one.connector_id, load(name, one)) for name, one in zip(names, definition.destinations, strict=True)]


def _loads_of_streams(run: Run, to: ResolvedReplicateTo, ledger: Ledger | None) -> list[tuple[UUID, HeldLoad]]:
    """Which streams there were, the ledger knows; a stream that is not in it never came to its destination."""
    stages = [] if ledger is None else [stage.stage for stage in ledger.stages if stage.kind == "destination"]
    streams = {stage: stage.removeprefix(f"{to.connector_name}/") for stage in stages}
    return [(to.connector_id, _held(run, stage, stream, to.write)) for stage, stream in streams.items()]


def _held(run: Run, destination: str, stream: str, write: WriteMode) -> HeldLoad:
    return HeldLoad(run_id=run.run_id, pipeline_id=run.pipeline_id, destination=destination, stream=stream, write=write)
