"""http: the conformance suite against a real server on this machine."""

from collections.abc import AsyncIterator
from typing import Any

import pyarrow as pa
import pytest
from aiohttp import web

from dataaggregator.connector.conformance import Rig, conformance
from dataaggregator.connector.context import Context
from dataaggregator_connectors.http import CONNECTOR
from dataaggregator_connectors.http.config import HttpConfig
from tests.serving import served

ROWS = pa.table({"id": [1, 2, 3, 4, 5], "name": ["a", None, "c", "d", "é"], "share": [0.5, 1.5, 2.5, None, 4.5]})
PAGINATIONS: dict[str, dict[str, Any]] = {
    "page": {"type": "page"},
    "offset": {"type": "offset", "limit": 2},
    "cursor": {"type": "cursor", "path": "$.next"},
    "link": {"type": "link"},
}


class HttpRig(Rig):
    def __init__(self, base_url: str, context: Context, pagination: dict[str, Any], records: list[Any]) -> None:
        stream = {
            "path": "/items",
            "records": "$.data.items",
            "pagination": pagination,
            "cursor_field": "id",
            "cursor_param": "after",
        }
        self.config = HttpConfig.model_validate({"base_url": base_url, "streams": {"items": stream}})
        self.context = context
        self.rows = ROWS
        self._records = records

    async def seed(self, rows: pa.Table) -> str:
        self._records.extend(rows.to_pylist())
        return "items"


@pytest.fixture(params=sorted(PAGINATIONS))
async def rig(request: pytest.FixtureRequest, context: Context) -> AsyncIterator[HttpRig]:
    records: list[Any] = []

    async def items(asked: web.Request) -> web.Response:
        found = [record for record in records if record["id"] > int(asked.query.get("after", 0))]
        start = int(asked.query.get("offset", asked.query.get("cursor", 2 * (int(asked.query.get("page", 1)) - 1))))
        more = start + 2 < len(found)
        headers = {"Link": f'<{asked.rel_url.update_query(offset=start + 2)}>; rel="next"'} if more else {}
        body = {"data": {"items": found[start : start + 2]}, "next": start + 2 if more else None}
        return web.json_response(body, headers=headers)

    app = web.Application()
    app.router.add_get("/items", items)
    async with served(app) as url:
        yield HttpRig(url, context, PAGINATIONS[request.param], records)


TestHttp = conformance(CONNECTOR)
