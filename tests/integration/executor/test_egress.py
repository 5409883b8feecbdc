"""Runs and probes reach what is open to their own workspace."""

from dataclasses import replace

from dataaggregator.ids import new_id
from dataaggregator.settings import Settings
from tests.integration.executor.place import open_place


async def test_what_is_closed_to_one_workspace_is_open_to_another(settings: Settings, empty_database_url: str) -> None:
    closed = new_id()
    narrowed = settings.model_copy(update={"egress_deny": (f"127.0.0.0/8@{closed}",)})
    async with open_place(narrowed, working=True) as place:
        warehouse = place.connect("postgres", url=empty_database_url)
        changes = {
            "sources": {"a": {**warehouse, "query": "SELECT 1::bigint AS id"}},
            "destinations": [{**warehouse, "stream": "public.a", "input": "a", "write": "append"}],
        }
        other = replace(place, workspace=closed)
        mine = await place.queue(definition={"name": "copy-a", **changes})
        theirs = await other.queue(definition={"name": "copy-a", **changes})
        assert (await place.ended(mine.run_id)).status == "succeeded", await place.error_detail(mine.run_id)
        assert (await other.ended(theirs.run_id)).status == "failed"
        assert await place.error(theirs.run_id) == "egress-denied"
