"""Applying: transformations and pipelines saved in the caller's transaction, all that is wrong gathered."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

from dataaggregator.contracts.apply import Change, FieldChange, Kind, differences, gathering
from dataaggregator.contracts.pipeline import PipelineDefinition
from dataaggregator.contracts.transformation import TransformationDefinition
from dataaggregator.db import Connection
from dataaggregator.definition import Author, Saved
from dataaggregator.errors import FieldError
from dataaggregator.ids import new_id
from services.scheduler.applying.domain import Placed, Wanted, by_names
from services.scheduler.pipelines import connectors, material, upstreams
from services.scheduler.pipelines import store as pipelines
from services.scheduler.pipelines.commands import set_down
from services.scheduler.pipelines.domain import Connector, Pipeline
from services.scheduler.transformations import commands as transformation_commands
from services.scheduler.transformations import store as transformations
from services.scheduler.transformations.store import SavedTransformation

MayUse = Callable[[PipelineDefinition, PipelineDefinition | None], None]
"""Raises Denied for a definition, in place of another, that the caller may not write."""


@dataclass
class Saving:
    """One transaction's work. Each step looks at all definitions, so that each sees the others as if saved."""

    tx: Connection
    workspace: UUID
    author: Author
    wanted: Wanted
    may_use: MayUse
    proposed: Mapping[str, Connector]
    changes: list[Change] = field(default_factory=list)
    wrong: list[FieldError] = field(default_factory=list)

    async def run(self) -> None:
        """Nothing is raised for what is wrong: `wrong` names it, and the caller undoes everything."""
        await upstreams.hold(self.tx, self.workspace)
        names = [one.definition.name for one in self.wanted.pipelines]
        there = await pipelines.named(self.tx, self.workspace, names)
        changed = await self._transformations()
        kept = [await self._keep(one, there.get(one.definition.name)) for one in self.wanted.pipelines]
        await self._set_down([one for one in kept if one is not None])
        mentioned = {pipeline.id for pipeline in there.values()}
        for index, saved in changed:
            with gathering(self.wrong, index):
                await transformation_commands.users_must_compile(self.tx, saved, mentioned)

    async def _transformations(self) -> list[tuple[int, SavedTransformation]]:
        """Those that were there and are others now."""
        names = [one.definition.name for one in self.wanted.transformations]
        there = await transformations.named(self.tx, self.workspace, names, lock="FOR UPDATE")
        changed = []
        for one in self.wanted.transformations:
            before = there.get(one.definition.name)
            with gathering(self.wrong, one.index):
                after = await self._transformation(one, before)
                self._tell("transformation", one.index, before, after)
                if before is not None and after is not before:
                    changed.append((one.index, after))
                continue
            self.wanted.unreadable.add(("transformation", one.definition.name))
        return changed

    async def _transformation(
        self, one: Placed[TransformationDefinition], before: SavedTransformation | None
    ) -> SavedTransformation:
        if before is None:
            return await transformation_commands.add(self.tx, self.workspace, self.author, one.definition)
        return await transformation_commands.change(self.tx, before, self.author, one.definition)

    async def _keep(
        self, one: Placed[PipelineDefinition], before: Pipeline | None
    ) -> tuple[Placed[PipelineDefinition], Pipeline] | None:
        """The row and version of one that is not as it was: others may then name it."""
        self.may_use(one.definition, None if before is None else before.find_definition())
        if before is None:
            after = await pipelines.add(self.tx, self.workspace, new_id(), one.definition, self.author)
            self._tell("pipeline", one.index, None, after)
            return one, after
        now = await self._called_now(before)
        if _read(now) == one.definition:
            self._tell("pipeline", one.index, before, before)
            return None
        after = await pipelines.save(self.tx, before, one.definition, self.author)
        self._tell("pipeline", one.index, before, after, now)
        return one, after

    async def _set_down(self, kept: list[tuple[Placed[PipelineDefinition], Pipeline]]) -> None:
        """What each uses, once all are there; circles last, when every trigger is as it will be."""
        placed = []
        for one, pipeline in kept:
            if self.wanted.can_be_judged(one.definition):
                with gathering(self.wrong, one.index):
                    used = await material.looked_up(self.tx, self.workspace, one.definition, pipeline.id, self.proposed)
                    await set_down(self.tx, pipeline, used, self.author)
                    placed.append((one, pipeline, used))
        for one, pipeline, used in placed:
            with gathering(self.wrong, one.index):
                await material.no_circle(self.tx, self.workspace, one.definition, pipeline.id, used)

    async def _called_now(self, pipeline: Pipeline) -> dict[str, Any]:
        of_connectors = await connectors.names_now(self.tx, self.workspace, [pipeline.id])
        of_pipelines = await upstreams.names_now(self.tx, self.workspace, [pipeline.id])
        return by_names(pipeline.written, of_connectors[pipeline.id], of_pipelines[pipeline.id])

    def _tell(
        self, kind: Kind, index: int, before: Saved[Any] | None, after: Saved[Any], now: Mapping[str, Any] | None = None
    ) -> None:
        """`now` is how `before` is written with the names of now."""
        outcome: Literal["created", "updated", "unchanged"] = "created" if before is None else "unchanged"
        fields: tuple[FieldChange, ...] = ()
        if before is not None and after is not before:
            outcome = "updated"
            fields = tuple(differences(before.written if now is None else now, after.written))
        self.changes.append(
            Change(
                index=index, kind=kind, name=after.name, outcome=outcome, id=after.id, version=after.version,
                fields=fields,
            )
        )  # fmt: skip


def _read(written: Mapping[str, Any]) -> PipelineDefinition | None:
    try:
        return PipelineDefinition.model_validate(written)
    except ValueError:
        return None
