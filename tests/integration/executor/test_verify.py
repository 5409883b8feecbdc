"""A run verified while nobody can open its connector: a clear answer, which is in the audit trail."""

from collections.abc import Awaitable, Callable
from uuid import UUID

import pytest

from dataaggregator.db import Database
from services.executor.commands import Attempts
from services.executor.store.runs import Run
from tests.integration.executor.place import Place
from tests.integration.executor.test_routes import end


@pytest.fixture
def workspace(place: Place) -> UUID:
    return place.workspace


async def test_a_connector_that_cannot_be_opened_is_told_and_every_verification_audited(
    place: Place, claimed: Callable[..., Awaitable[Run]], attempts: Attempts, database: Database
) -> None:
    run = await claimed()
    await end(attempts, run)
    told = await place.client.post(f"/api/runs/{run.run_id}/verify")
    [one] = told["destinations"]
    assert (one["destination"], one["status"], one["code"]) == ("warehouse/public.a", "unknown", "service-unavailable")
    async with database.platform() as tx:
        [line] = [
            row["data"] for row in await tx.fetch("SELECT data FROM executor.outbox WHERE type = 'audit.entry.v1'")
        ]
    assert (line["action"], line["resource_id"]) == ("run.verified", str(run.run_id))
    assert line["detail"] == {"warehouse/public.a": "unknown"}
    assert line["actor"]
