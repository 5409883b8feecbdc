"""Rows that an API refuses: found, set aside with its words, counted, held against `on_rejected`, and replayed."""

from typing import Any

import pytest
from aiohttp import web

from tests.e2e.api import Api, Json
from tests.e2e.world import Disk, Site

ROWS = 40


class Shop:
    """Takes orders in batches, each key once; refuses a whole batch for one order that it does not like."""

    def __init__(self) -> None:
        self.disliked: set[int] = set()
        self.held: dict[str, list[int]] = {}

    async def take(self, asked: web.Request) -> web.Response:
        orders = await asked.json()
        wrong = [order["id"] for order in orders if order["id"] in self.disliked]
        if wrong:
            return web.json_response({"error": "unknown customer", "orders": wrong}, status=422)
        self.held.setdefault(asked.headers["Idempotency-Key"], [order["id"] for order in orders])
        return web.Response(status=201)

    @property
    def orders(self) -> list[int]:
        return sorted(order for orders in self.held.values() for order in orders)


@pytest.fixture
async def shop(api: Api, site: Site, disk: Disk) -> Shop:
    shop = Shop()
    site.answers("/orders", shop.take)
    disk.write("for-the-shop.csv", "id\n" + "".join(f"{number}\n" for number in range(ROWS)))
    return shop


async def ran(api: Api, site: Site, called: str, **changed: Any) -> Json:
    await api.post("/api/connectors", site.connector(called, {"orders": {"path": "orders", "batch_rows": 16}}))
    source = {"connector": "disk", "stream": "for-the-shop.csv", "schema": {"id": "bigint"}}
    destination = {"connector": called, "stream": "orders", "write": "append"}
    definition = {"name": called, "sources": {"orders": source}, "destinations": [destination]}
    await api.post("/api/pipelines", {**definition, "retry": {"attempts": 1}, **changed})
    return await api.run(called)


async def test_refused_rows_are_set_aside_counted_and_go_there_when_they_are_right(
    api: Api, site: Site, shop: Shop
) -> None:
    shop.disliked = {3, 17, 18}
    run = await ran(api, site, "picky-shop", on_rejected={"threshold": 3, "then": "fail"})
    assert (run["status"], run["error"], run["balanced"]) == ("succeeded", None, True)
    assert (run["rows_read"], run["rows_written"], run["rows_rejected"]) == (ROWS, ROWS - 3, 3)
    assert shop.orders == [number for number in range(ROWS) if number not in shop.disliked]
    rejected = await api.items(f"/api/runs/{run['id']}/rejected")
    assert {one["row"]["id"] for one in rejected} == shop.disliked
    assert {(one["stage"], one["rule"]) for one in rejected} == {("picky-shop/orders", "http-422")}
    assert all("unknown customer" in one["reason"] for one in rejected)
    ledger = await api.get(f"/api/runs/{run['id']}/ledger")
    stage = next(one for one in ledger["stages"] if one["kind"] == "destination")
    assert (stage["read"], stage["inserted"], stage["rejected"]) == (ROWS, ROWS - 3, 3)
    assert (stage["rejected_by"], stage["accounting"]) == ({"http-422": 3}, "declared")
    assert [one["committed"] for one in ledger["receipts"]] == [ROWS - 3]
    verified = await api.post(f"/api/runs/{run['id']}/verify", expect=200)
    assert [one["status"] for one in verified["destinations"]] == ["unknown"]
    shop.disliked = set()
    asked = await api.post(f"/api/runs/{run['id']}/rejected/replay", {}, expect=202)
    again = await api.ended(asked["id"])
    assert (again["status"], again["error"], again["rows_written"]) == ("succeeded", None, 3)
    assert shop.orders == list(range(ROWS))


async def test_more_refused_rows_than_the_pipeline_allows_fail_the_run_at_once(
    api: Api, site: Site, shop: Shop
) -> None:
    shop.disliked = {3, 17, 18}
    run = await ran(api, site, "strict-shop", on_rejected={"threshold": "3%", "then": "fail"})
    assert (run["status"], run["error"]["code"]) == ("failed", "rejected-over-threshold")
    assert "2 of 40 rows" in run["error"]["detail"], "no more was asked once it was clear"
    assert [one["status"] for one in run["destinations"]] == ["failed"]
    ledger = await api.get(f"/api/runs/{run['id']}/ledger")
    stage = next(one for one in ledger["stages"] if one["kind"] == "destination")
    assert (stage["read"], stage["written"], stage["rejected"]) == (ROWS, ROWS - 2, 2)


async def test_an_api_that_refuses_everything_fails_the_run_with_its_words(api: Api, site: Site, shop: Shop) -> None:
    shop.disliked = set(range(ROWS))
    run = await ran(api, site, "closed-shop")
    assert (run["status"], run["error"]["code"]) == ("failed", "http-status")
    assert "unknown customer" in run["error"]["detail"]
    assert "took none" in run["error"]["detail"]
    assert (run["error"]["retryable"], shop.orders) == (False, [])
