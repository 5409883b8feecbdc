"""Pipelines, HTTP door: the plan of a change: the saved and the proposed definition on one sample, nothing written."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from dataaggregator.catalogue import help_section
from dataaggregator.contracts.dry_run import Candidate, DryRun, DryRunAsked, DryRunError, Tried, WrongField
from dataaggregator.contracts.pipeline import PipelineDefinition, ResolvedPipeline
from dataaggregator.dataplane.compile.parameters import parameter_values
from dataaggregator.db import Database
from dataaggregator.errors import Denied, FieldError, Invalid
from dataaggregator.http.answer import Answer
from dataaggregator.http.call import Call
from dataaggregator.http.client import ServiceClient
from dataaggregator.http.route import Route
from dataaggregator.permissions import Permission
from services.scheduler.pipelines import connectors, material, store
from services.scheduler.pipelines.commands import PROJECTION_POLL_SECONDS, PROJECTION_SECONDS
from services.scheduler.pipelines.domain import Pipeline, connectors_named
from services.scheduler.pipelines.resource import Planned, PlanOptions, PlanWish, may_query

TAG = "Pipelines"
PLAN_SECONDS = 65.0
SAID = (
    "Both definitions run on the same rows, by the steps, sandbox and laws of a run; destinations are looked at only. "
    "Whoever may not see rows gets counts and schemas. A definition that a run would fail with is told in the answer. "
    "Of a whole schema the streams are listed with what a run would do to each; no row of them is read."
)


@dataclass(frozen=True)
class PlanApi:
    database: Database
    services: ServiceClient

    def routes(self) -> Sequence[Route]:
        answers = {200: DryRun}
        return (
            Route(
                "POST", "/api/pipelines/{pipeline}/plan", self.plan, "See what a changed definition would do", TAG,
                Permission.RUNS_OPERATE, body=PlanWish, body_optional=True, answers=answers, problems=(502,),
                description=f"{SAID} Without a definition the saved one is tried alone; proposing another one needs "
                f"the permission {Permission.DEFINITIONS_WRITE}.",
            ),
            Route(
                "POST", "/api/pipelines/plan", self.plan_new, "See what a definition that is not saved would do", TAG,
                Permission.DEFINITIONS_WRITE, body=Planned, answers=answers, problems=(404, 502), description=SAID,
            ),
        )  # fmt: skip

    async def plan(self, call: Call) -> Answer:
        wish = call.body_as(PlanWish).root
        async with self.database.transaction(call.workspace) as tx:
            pipeline = await store.get(tx, call.workspace, call.path["pipeline"])
        proposed = None
        if isinstance(wish, Planned):
            _may_propose(call)
            may_query(call, wish, pipeline.find_definition())
            proposed = await self._proposed(call.workspace, wish, pipeline)
        current, wrong = await self._current(pipeline, wish)
        if wrong is not None and proposed is None:
            raise wrong
        told = await self._ask(call, wish, pipeline.id, (current, proposed))
        return Answer(told if wrong is None else told.model_copy(update={"ok": False, "current": _unready(wrong)}))

    async def plan_new(self, call: Call) -> Answer:
        wish = call.body_as(Planned)
        may_query(call, wish, None)
        proposed = await self._proposed(call.workspace, wish, None)
        return Answer(await self._ask(call, wish, None, (None, proposed)))

    async def _ask(
        self, call: Call, wish: PlanOptions, pipeline: UUID | None, both: tuple[Candidate | None, Candidate | None]
    ) -> DryRun:
        asked = DryRunAsked(
            pipeline_id=pipeline,
            current=both[0],
            proposed=both[1],
            sample_rows=wish.sample_rows,
            show_rows=Permission.DATA_READ in call.identity.permissions(call.workspace),
        )
        told = await self.services.post(
            "executor", "/internal/dry-run", asked, workspace=call.workspace, timeout_seconds=PLAN_SECONDS
        )
        return DryRun.model_validate(told)

    async def _proposed(self, workspace: UUID, wish: Planned, pipeline: Pipeline | None) -> Candidate:
        """Resolved as it would be to be saved, with the same errors; names that were saved with it are understood."""
        definition = wish.definition()
        id_ = None if pipeline is None else pipeline.id
        await self._await_connectors(workspace, definition, id_)
        async with self.database.transaction(workspace) as tx:
            resolved = (await material.checked(tx, workspace, definition, id_)).definition
        known = None if pipeline is None else pipeline.find_definition()
        declared = {*resolved.parameters, *(known.parameters if known is not None else ())}
        if unknown := [name for name in wish.parameter_values if name not in declared]:
            errors = [
                FieldError(f"parameter_values.{name}", "the pipeline has no such parameter", "unknown-field")
                for name in unknown
            ]
            raise Invalid("parameters-invalid", "The parameters do not fit this pipeline.", errors=errors)
        return _candidate(resolved, {n: v for n, v in wish.parameter_values.items() if n in resolved.parameters})

    async def _current(self, pipeline: Pipeline, wish: PlanOptions) -> tuple[Candidate | None, Invalid | None]:
        """The saved definition as a run would take it now, or why none would."""
        try:
            async with self.database.transaction(pipeline.workspace_id) as tx:
                resolved = await material.resolved(tx, pipeline)
            given = wish.parameter_values
            if isinstance(wish, Planned):
                given = {name: value for name, value in given.items() if name in resolved.parameters}
            return _candidate(resolved, given), None
        except Invalid as error:
            return None, error

    async def _await_connectors(self, workspace: UUID, definition: PipelineDefinition, pipeline: UUID | None) -> None:
        """One that was made a moment ago may still be on its way; one that is about to go is not asked to stay."""
        names = connectors_named(definition)
        deadline = asyncio.get_running_loop().time() + PROJECTION_SECONDS
        while asyncio.get_running_loop().time() < deadline:
            async with self.database.transaction(workspace) as tx:
                if len(await connectors.named(tx, workspace, names, pipeline)) == len(names):
                    return
            await asyncio.sleep(PROJECTION_POLL_SECONDS)


def _may_propose(call: Call) -> None:
    """The counts of steps of one's own choice tell of the rows they are counted on."""
    if Permission.DEFINITIONS_WRITE not in call.identity.permissions(call.workspace):
        detail = f"Proposing another definition needs the permission {Permission.DEFINITIONS_WRITE}."
        raise Denied("permission-denied", detail)


def _candidate(definition: ResolvedPipeline, given: Mapping[str, Any]) -> Candidate:
    """Raises Invalid naming every value that is wrong or missing, where it is given here."""
    try:
        parameter_values(definition.parameters, given)
    except Invalid as error:
        wrong = [
            FieldError(f"parameter_values{one.field.removeprefix('parameters')}", one.message, one.code)
            for one in error.errors
        ]
        raise Invalid(error.code, error.detail, errors=wrong) from error
    return Candidate(definition=definition, parameters=dict(given))


def _unready(error: Invalid) -> Tried:
    """What is told of a saved definition that no run could take any more."""
    wrong = tuple(WrongField(field=one.field, message=one.message, code=one.code) for one in error.errors)
    told = DryRunError(code=error.code, detail=error.detail, help=help_section(error.code), errors=wrong)
    return Tried(ok=False, error=told)
