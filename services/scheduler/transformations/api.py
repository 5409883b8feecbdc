"""Transformations, HTTP door: /api/transformations."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from dataaggregator.contracts.base import Name
from dataaggregator.contracts.transformation import TransformationDefinition
from dataaggregator.dataplane.compile.graph import compile_transformation
from dataaggregator.db import Database
from dataaggregator.errors import FieldError, Invalid
from dataaggregator.http.answer import Answer
from dataaggregator.http.call import Call
from dataaggregator.http.client import ServiceClient
from dataaggregator.http.definition import Models, Titles, author, definition_routes, expect, patching, replacing, shown
from dataaggregator.http.paging import Page, PageQuery
from dataaggregator.http.route import MEBIBYTE, Route
from dataaggregator.permissions import Permission
from services.scheduler.transformations import store
from services.scheduler.transformations.commands import TransformationCommands
from services.scheduler.transformations.store import SavedTransformation

TAG = "Transformations"
TEST_SECONDS = 60.0
SAMPLE_ROWS = 1000

Rows = Annotated[list[dict[str, Any]], Field(max_length=SAMPLE_ROWS)]


class Transformation(TransformationDefinition):
    """A saved transformation."""

    id: UUID
    workspace_id: UUID
    version: int
    created_at: datetime
    updated_at: datetime
    created_by: UUID | None


class Sample(BaseModel):
    """Rows to try a transformation on: of its only input, or by the name of each input."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    sample_data: Rows | dict[str, Rows]


class TestedDefinition(TransformationDefinition):
    """A transformation that is not saved, and rows to try it on."""

    name: Name = "test"
    sample_data: Rows | dict[str, Rows]


class TestedStep(BaseModel):
    """What one step did to the sample; the counts that its kind does not have are null or left out."""

    model_config = ConfigDict(extra="allow")
    name: str
    kind: str
    accounting: str
    read: int | None = None
    written: int | None = None
    filtered: int | None = None
    rejected: int | None = None


class TestResult(BaseModel):
    """The rows that came out, what each step did, and the rows it rejected."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)
    output: list[dict[str, Any]]
    fields: Any = Field(alias="schema")
    steps: list[TestedStep]
    rejected: list[dict[str, Any]]
    balanced: bool


@dataclass(frozen=True)
class TransformationsApi:
    database: Database
    commands: TransformationCommands
    services: ServiceClient

    def routes(self) -> Sequence[Route]:
        read, write, one = (
            Permission.DEFINITIONS_READ,
            Permission.DEFINITIONS_WRITE,
            "/api/transformations/{transformation}",
        )
        return (
            *definition_routes(
                self, one, TAG,
                Titles(
                    "List transformations", "Save a transformation", "Show a transformation",
                    "Replace a transformation by a new version", "Change parts of a transformation",
                    "Delete an unused transformation",
                ),
                Models(PageQuery, Page[Transformation], TransformationDefinition, Transformation, Transformation),
            ),
            Route(
                "POST", "/api/transformations/test", self.test, "Try a transformation that is not saved", TAG,
                write, body=TestedDefinition, answers={200: TestResult},
                problems=(502,), max_body_bytes=8 * MEBIBYTE,
            ),
            Route(
                "POST", f"{one}/test", self.test_saved, "Try a saved transformation", TAG, read,
                body=Sample, answers={200: TestResult}, problems=(502,), max_body_bytes=8 * MEBIBYTE,
            ),
        )  # fmt: skip

    async def list_page(self, call: Call) -> Answer:
        async with self.database.transaction(call.workspace) as tx:
            found, cursor = await store.list_page(tx, call.workspace, call.query_as(PageQuery))
        return Answer(Page[Transformation](items=[_shown(saved) for saved in found], next_cursor=cursor))

    async def create(self, call: Call) -> Answer:
        definition = call.body_as(TransformationDefinition)
        saved = await self.commands.create(call.workspace, author(call), definition)
        location = {"Location": f"/api/transformations/{saved.id}"}
        return Answer(_shown(saved), status=201, headers=location, etag=saved.version)

    async def get(self, call: Call) -> Answer:
        async with self.database.transaction(call.workspace) as tx:
            return _answer(await store.get(tx, call.workspace, call.path["transformation"]))

    async def replace(self, call: Call) -> Answer:
        edit = replacing(call, TransformationDefinition)
        return _answer(await self.commands.save(call.workspace, call.path["transformation"], author(call), edit))

    async def patch(self, call: Call) -> Answer:
        edit = patching(call, TransformationDefinition)
        return _answer(await self.commands.save(call.workspace, call.path["transformation"], author(call), edit))

    async def delete(self, call: Call) -> Answer:
        await self.commands.delete(call.workspace, call.path["transformation"], author(call), expect(call))
        return Answer(status=204)

    async def test(self, call: Call) -> Answer:
        tested = call.body_as(TestedDefinition)
        definition = TransformationDefinition(name=tested.name, inputs=tested.inputs, steps=tested.steps)
        return await self._probe(call.workspace, definition, tested.sample_data)

    async def test_saved(self, call: Call) -> Answer:
        async with self.database.transaction(call.workspace) as tx:
            saved = await store.get(tx, call.workspace, call.path["transformation"])
        return await self._probe(call.workspace, saved.definition, call.body_as(Sample).sample_data)

    async def _probe(
        self, workspace: UUID, definition: TransformationDefinition, sample: Rows | dict[str, Rows]
    ) -> Answer:
        """Run where runs run, so that what is seen here is what a run does."""
        compile_transformation(definition)
        body = {
            "probe": "transform_test",
            "transformation": definition.model_dump(mode="json", exclude_unset=True),
            "sample": _by_input(definition, sample),
            "limit": SAMPLE_ROWS,
        }
        return Answer(
            await self.services.post(
                "executor", "/internal/probe", body, workspace=workspace, timeout_seconds=TEST_SECONDS
            )
        )


def _by_input(definition: TransformationDefinition, sample: Rows | dict[str, Rows]) -> dict[str, Rows]:
    inputs = definition.inputs or ("input",)
    if isinstance(sample, list):
        if len(inputs) > 1:
            message = f"this transformation has several inputs: give rows for each: {', '.join(inputs)}"
            raise Invalid("sample-invalid", message, errors=[FieldError("sample_data", message, "sample")])
        return {inputs[0]: sample}
    expected = set(inputs) if definition.inputs else set(sample)
    wrong = [
        FieldError(f"sample_data.{name}", "there is no such input", "unknown-field")
        for name in sample
        if name not in expected
    ]
    wrong += [
        FieldError(f"sample_data.{name}", "rows are needed", "missing-field")
        for name in inputs
        if definition.inputs and name not in sample
    ]
    if wrong:
        raise Invalid("sample-invalid", "The sample does not fit the transformation's inputs.", errors=wrong)
    return sample


def _answer(saved: SavedTransformation) -> Answer:
    return Answer(_shown(saved), etag=saved.version)


def _shown(saved: SavedTransformation) -> Transformation:
    return shown(Transformation, saved)
