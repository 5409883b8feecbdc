"""Webhooks: the end of a run reaches somebody else's address, signed."""

from datetime import UTC, datetime

import orjson
from aiohttp import web

from dataaggregator.signatures import verify
from tests.e2e.api import Api, Json, until
from tests.e2e.test_schedules import pipeline
from tests.e2e.world import Disk, Site


async def test_the_end_of_a_run_is_sent_to_a_receiver_until_it_is_taken(api: Api, disk: Disk, site: Site) -> None:
    disk.write("schedules.csv", "id\n1\n")
    taken: list[tuple[dict[str, str], bytes]] = []

    async def receive(request: web.Request) -> web.Response:
        taken.append(({name.lower(): value for name, value in request.headers.items()}, await request.read()))
        return web.Response(status=503 if len(taken) == 1 else 204)

    site.answers("/receiver", receive)
    await api.post("/api/pipelines", pipeline("told-of"))
    body = {"name": "ends", "url": f"{site.url}/receiver", "types": ["run.succeeded.v1"]}
    made = await api.post("/api/webhooks", body)
    run = await api.run("told-of")

    async def delivered() -> Json | None:
        found = await api.items("/api/webhooks/ends/deliveries", status="delivered")
        return next((one for one in found if one["subject"] == run["id"]), None)

    delivery = await until(delivered, "the delivery")
    await api.patch("/api/webhooks/ends", {"enabled": False})
    for headers, sent in taken:
        verify([made["secret"]], headers, sent, datetime.now(UTC))
    ours = [headers["webhook-id"] for headers, sent in taken if orjson.loads(sent)["subject"] == run["id"]]
    assert set(ours) == {delivery["event_id"]}
    assert delivery["attempts"] == len(ours)


async def test_a_source_without_rows_where_there_were_some_is_told_to_who_follows_and_to_who_is_called(
    api: Api, disk: Disk, site: Site
) -> None:
    called: list[Json] = []

    async def receive(request: web.Request) -> web.Response:
        called.append(orjson.loads(await request.read()))
        return web.Response(status=204)

    site.answers("/emptied", receive)
    sources = {"s": {"connector": "disk", "stream": "emptied.csv"}}
    made = await api.post("/api/pipelines", pipeline("emptied", sources=sources))
    await api.post("/api/webhooks", {"name": "alerts", "url": f"{site.url}/emptied", "types": ["pipeline.emptied.v1"]})
    async with api.stream("/api/events", type="pipeline.emptied.v1", subject=made["id"]) as events:
        for rows in ("id\n1\n2\n", "id\n"):
            disk.write("emptied.csv", rows)
            run = await api.run("emptied")
            assert run["status"] == "succeeded", run
        told = (await anext(events)).data

    async def sent() -> bool | None:
        return called == [told] or None

    await until(sent, "the call")
    assert (told["source"], told["data"]["name"], told["data"]["run_id"]) == ("executor", "emptied", run["id"])
    assert told["data"]["sources"] == [{"source": "s", "stream": "emptied.csv", "rows_before": 2}]
    assert run["warnings"] == ["s gave no rows; in the run before it gave 2."]
    await api.delete("/api/webhooks/alerts")
