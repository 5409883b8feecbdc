"""A connector is deleted or a pipeline is saved with it, never both, whatever has been told of either so far."""

import asyncio
from collections.abc import Collection, Set
from typing import Any
from uuid import UUID

import pytest

from dataaggregator.contracts.pipeline import PipelineDefinition
from dataaggregator.definition import Author
from dataaggregator.errors import Conflict, Invalid
from services.connectors.commands import ConnectorCommands
from services.connectors.domain import Connector
from services.connectors.pipelines import Pipelines
from services.connectors.references import References
from services.scheduler.pipelines import commands
from services.scheduler.pipelines.leaving import Owner
from tests.integration.control import WORKSPACE, Control, a_pipeline, until

RACES = 20
SOMEBODY = Author(None, "ada@example.org")
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"


def in_use(reply: Any) -> bool:
    return bool((reply.status, reply.json["code"]) == (409, "connector-in-use") and "copy" in reply.json["detail"])


async def test_a_use_counts_before_anybody_was_told_of_it(control: Control, warehouse: str) -> None:
    async with control.ports.database.platform() as held:
        await held.execute("LOCK TABLE connectors.uses IN EXCLUSIVE MODE")  # pipeline.created cannot be taken in
        await control.pipeline()
        assert in_use(await control.call("DELETE", "/api/connectors/warehouse"))
    assert (await control.call("GET", "/api/connectors/warehouse")).status == 200


async def test_a_pipeline_that_is_being_saved_is_waited_for(control: Control, warehouse: str) -> None:
    async with control.ports.database.platform() as held, asyncio.TaskGroup() as tasks:
        await held.execute("LOCK TABLE scheduler.pipelines IN SHARE MODE")  # its row cannot be written yet
        saving = tasks.create_task(control.call("POST", "/api/pipelines", a_pipeline()))

        async def waiting(number: int) -> bool:
            return bool(await held.fetchval(WAITING) >= number)

        await until(lambda: waiting(1), "the pipeline to be nearly saved")
        deleting = tasks.create_task(control.call("DELETE", "/api/connectors/warehouse"))

        async def both() -> bool:
            return deleting.done() or await waiting(2)

        await until(both, "the deletion to wait for it")
        await held.execute("COMMIT; BEGIN")
    assert saving.result().status == 201
    assert in_use(deleting.result())


async def test_a_pipeline_saved_while_its_connector_is_being_deleted_keeps_it(control: Control, warehouse: str) -> None:
    pipelines = Pipelines(control.services)

    async def let_go_and_be_named(connector: Connector) -> None:
        await pipelines.let_go(connector)
        await control.pipeline()

    ports = control.ports
    deleting = ConnectorCommands(ports.database, ports.keys, References(ports.settings), let_go_and_be_named)
    with pytest.raises(Conflict, match="is being saved"):
        await deleting.delete(WORKSPACE, "warehouse", SOMEBODY, lambda _: None)
    assert in_use(await control.call("DELETE", "/api/connectors/warehouse"))


async def test_a_deletion_that_was_broken_off_leaves_a_connector_that_can_be_used(
    control: Control, warehouse: str
) -> None:
    body = {"name": "warehouse", "type": "postgres"}
    path = f"/internal/connectors/{warehouse}/leave"
    await control.services.post("scheduler", path, body, workspace=WORKSPACE)
    await control.pipeline()
    assert in_use(await control.call("DELETE", "/api/connectors/warehouse"))


async def test_a_connector_that_is_gone_is_not_used_although_nobody_was_told(
    control: Control, warehouse: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def known() -> bool:
        async with control.ports.database.platform() as tx:
            return bool(await tx.fetchval("SELECT count(*) FROM scheduler.connectors"))

    await until(known, "the connector to be known")
    monkeypatch.setattr(commands, "PROJECTION_SECONDS", 0.1)
    async with control.ports.database.platform() as held:
        await held.execute("LOCK TABLE scheduler.inbox IN EXCLUSIVE MODE")  # connector.deleted cannot be taken in
        await control.good("DELETE", "/api/connectors/warehouse")
        reply = await control.call("POST", "/api/pipelines", a_pipeline())
        assert reply.status == 422, reply.json
        assert reply.fields["sources.flights.connector"] == "connector-unknown"


async def test_a_deletion_that_begins_after_the_connector_was_asked_to_stay_is_not_forgotten(
    control: Control, warehouse: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "PROJECTION_SECONDS", 0.1)
    body = {"name": "warehouse", "type": "postgres"}
    await control.services.post("scheduler", f"/internal/connectors/{warehouse}/leave", body, workspace=WORKSPACE)
    owner = Owner(control.services)

    async def keep_and_delete(workspace: UUID, connectors: Collection[UUID]) -> Set[UUID]:
        there = await owner.keep(workspace, connectors)
        if there:
            await control.good("DELETE", "/api/connectors/warehouse")
        return there

    saving = commands.PipelineCommands(control.ports.database, keep_and_delete)
    async with control.ports.database.platform() as held:
        await held.execute("LOCK TABLE scheduler.inbox IN EXCLUSIVE MODE")  # connector.deleted cannot be taken in
        with pytest.raises(Invalid):
            await saving.create(WORKSPACE, SOMEBODY, PipelineDefinition.model_validate(a_pipeline()))


async def test_of_a_deletion_and_a_definition_at_once_one_is_refused(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "PROJECTION_SECONDS", 0.2)
    for number in range(RACES):
        name = f"warehouse-{number}"
        connector = await control.connector(name)
        source, destination = {"connector": name, "stream": "a.b"}, {"connector": name, "stream": "c.d"}
        definition = a_pipeline(f"copy-{number}", sources={"flights": source}, destinations=[destination])
        saved, deleted = await asyncio.gather(
            control.call("POST", "/api/pipelines", definition),
            control.call("DELETE", f"/api/connectors/{UUID(connector['id'])}"),
        )
        assert (saved.status, deleted.status) in ((201, 409), (422, 204)), (saved.json, deleted.json)
