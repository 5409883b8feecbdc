"""Sources that lie: a row that cannot be used is in the quarantine with its place, or the run fails; never silence."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from tests.e2e.api import Api, Json
from tests.e2e.world import Disk, Site, Warehouse

# So many pages are looked at before the schema is settled.
PAGES_LOOKED_AT = 3

Pages = Mapping[str, web.Response | Exception]


@dataclass
class Lie:
    """What a source says, and what must come of it: rows delivered, and rows rejected by their place."""

    name: str
    text: str
    delivered: int
    rejected: Mapping[str, str] = field(default_factory=dict)
    schema: Mapping[str, str] | None = None


LIES = [
    Lie("ragged.csv", "id,name\n1,a\n2,b,c\n3\n4,d\n", 2, {"ragged.csv:3": "row-ragged", "ragged.csv:4": "row-ragged"}),
    Lie("unfit.csv", "id\n1\ntwo\n3\n", 2, {"unfit.csv:3": "row-unfit"}, {"id": "bigint"}),
    Lie("too_large.csv", f"id\n1\n{2**63}\n", 1, {"too_large.csv:3": "row-unfit"}, {"id": "bigint"}),
    Lie("quoted.csv", 'id,name\n1,"a\nb"\n2,c,d\n3,e\n', 2, {"quoted.csv:4": "row-ragged"}),
    Lie("broken.ndjson", '{"id": 1}\n{"id": 2\n\n{"id": 3}\n', 2, {"broken.ndjson:2": "row-malformed"}),
    Lie("doubled.ndjson", '{"id": 1}\n{"id": 2, "id": 3}\n', 1, {"doubled.ndjson:2": "row-malformed"}),
    Lie("doubled.json", '[{"id": 1, "id": 2}, {"id": 3}]', 1, {"doubled.json:1": "row-malformed"}),
    Lie(
        "no_object.ndjson",
        '{"id": 1}\n[2]\n"x"\n',
        1,
        {"no_object.ndjson:2": "row-unfit", "no_object.ndjson:3": "row-unfit"},
    ),
    Lie("changed.json", '[{"id": 1}, {"id": "x"}, {"id": 3}]', 2, {"changed.json:2": "row-unfit"}, {"id": "bigint"}),
]


def pipeline(called: str, source: Json, **changed: Any) -> Json:
    return {
        "name": called,
        "sources": {"told": source},
        "destinations": [{"connector": "warehouse", "stream": f"public.{called}", "write": "append"}],
        "retry": {"attempts": 1},
        **changed,
    }


async def finished(api: Api, definition: Json) -> Json:
    await api.post("/api/pipelines", definition)
    return await api.run(definition["name"])


async def adds_up(api: Api, run: Json) -> None:
    """Every row that was read is delivered, filtered or in the quarantine."""
    assert run["balanced"] is True
    assert run["rows_read"] == run["rows_written"] + run["rows_filtered"] + run["rows_rejected"], run
    ledger = await api.get(f"/api/runs/{run['id']}/ledger")
    assert (ledger["balanced"], ledger["violations"]) == (True, [])
    assert len(await api.items(f"/api/runs/{run['id']}/rejected")) == run["rows_rejected"]


async def failed(api: Api, warehouse: Warehouse, run: Json, *told: str) -> None:
    """It failed, said where, and delivered nothing."""
    assert run["status"] == "failed", run
    for text in told:
        assert text in run["error"]["detail"], run["error"]
    assert run["error"]["help"].endswith(f"#{run['error']['code']}")
    table = run["destinations"][0]["stream"] if run["destinations"] else f"public.{run['pipeline_name']}"
    assert not await warehouse.has(table) or await warehouse.rows(f"SELECT * FROM {table}") == []


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.name)
async def test_a_row_that_cannot_be_used_is_set_aside_with_its_place(
    api: Api, disk: Disk, warehouse: Warehouse, lie: Lie
) -> None:
    disk.write(lie.name, lie.text)
    source = {"connector": "disk", "stream": lie.name, **({"schema": lie.schema} if lie.schema else {})}
    run = await finished(api, pipeline(lie.name.replace(".", "_"), source))
    assert run["status"] == "succeeded", run["error"]
    rows = await api.items(f"/api/runs/{run['id']}/rejected")
    assert {row["position"]: row["rule"] for row in rows} == lie.rejected
    assert all(row["reason"] and row["row"] for row in rows)
    assert (run["rows_written"], run["rows_rejected"]) == (lie.delivered, len(lie.rejected))
    assert await warehouse.rows(f"SELECT count(*) FROM {lie.name.replace('.', '_')}") == [(lie.delivered,)]
    await adds_up(api, run)


BROKEN = {
    "cut_off.json": ('[{"id": 1}, {"id": 2}, {"id"', "after element 2"),
    "not_a_list.json": ('{"id": 1}', "array"),
    "twice.csv": ("id,id\n1,2\n", "twice.csv:1"),
    "no.parquet": ("PAR1 but not really", "no.parquet"),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_file_that_cannot_be_read_on_fails_the_run_with_its_place(
    api: Api, disk: Disk, warehouse: Warehouse, name: str
) -> None:
    text, place = BROKEN[name]
    disk.write(name, text)
    run = await finished(api, pipeline(name.replace(".", "_"), {"connector": "disk", "stream": name}))
    await failed(api, warehouse, run, name, place)


def paged(pages: Pages) -> Any:
    """A web API that gives these pages, and an empty one after the last."""

    async def answer(request: web.Request) -> web.StreamResponse:
        page = pages.get(request.query["page"])
        if isinstance(page, Exception):
            # The head promises more than is sent before the connection is cut.
            response = web.StreamResponse(headers={"Content-Length": "1000", "Content-Type": "application/json"})
            await response.prepare(request)
            await response.write(b'[{"id": 3}, {"id"')
            assert request.transport is not None
            request.transport.abort()
            return response
        if page is None:
            return web.json_response([])
        return web.Response(status=page.status, body=page.body, content_type="application/json")

    return answer


async def of_pages(api: Api, site: Site, name: str, pages: Pages) -> Json:
    site.answers(f"/{name}", paged(pages))
    stream = {"path": f"/{name}", "pagination": {"type": "page"}}
    await api.post("/api/connectors", site.connector(f"{name}-api", {"rows": stream}))
    source = {"connector": f"{name}-api", "stream": "rows", "schema": {"id": "bigint", "name": "text"}}
    return await finished(api, pipeline(name, source))


async def test_a_page_that_breaks_off_fails_the_run_and_delivers_nothing(
    api: Api, site: Site, warehouse: Warehouse
) -> None:
    pages: Pages = {"1": web.json_response([{"id": 1}, {"id": 2}]), "2": ConnectionResetError()}
    await failed(api, warehouse, await of_pages(api, site, "half_a_page", pages), "page 2")


async def test_a_page_that_is_not_json_fails_the_run_with_its_number(
    api: Api, site: Site, warehouse: Warehouse
) -> None:
    pages = {"1": web.json_response([{"id": 1}]), "2": web.Response(text="<html>Sorry</html>")}
    await failed(api, warehouse, await of_pages(api, site, "html_page", pages), "page 2", "JSON")


async def test_an_error_on_a_later_page_fails_the_run_with_its_number(
    api: Api, site: Site, warehouse: Warehouse
) -> None:
    pages = {"1": web.json_response([{"id": 1}]), "2": web.Response(status=500, text="oh dear")}
    await failed(api, warehouse, await of_pages(api, site, "broken_page", pages), "page 2", "500")


async def test_a_schema_that_changes_between_pages_sets_the_rows_aside_that_do_not_fit(
    api: Api, site: Site, warehouse: Warehouse
) -> None:
    pages: dict[str, web.Response | Exception] = {
        str(number): web.json_response([{"id": number, "name": "a"}]) for number in range(1, PAGES_LOOKED_AT + 1)
    }
    later = [{"id": "x", "name": "c"}, {"id": 90, "name": "d", "colour": "red"}, {"id": 91, "name": "e"}]
    pages[str(PAGES_LOOKED_AT + 1)] = web.json_response(later)
    run = await of_pages(api, site, "drifting", pages)
    assert run["status"] == "succeeded", run["error"]
    rejected = await api.items(f"/api/runs/{run['id']}/rejected")
    assert [row["row"]["id"] for row in rejected] == ["x", 90]
    assert [row["position"].rpartition(", ")[2] for row in rejected] == ["record 1", "record 2"]
    assert all(f"page {PAGES_LOOKED_AT + 1}" in row["position"] for row in rejected)
    assert "colour" in rejected[1]["reason"]
    assert await warehouse.rows("SELECT max(id), count(*) FROM drifting") == [(91, PAGES_LOOKED_AT + 1)]
    await adds_up(api, run)


async def test_a_value_that_does_not_fit_its_column_is_named_and_nothing_is_delivered(
    api: Api, disk: Disk, warehouse: Warehouse
) -> None:
    await warehouse.execute("CREATE TABLE narrow (id smallint)")
    disk.write("wide.csv", "id\n1\n70000\n")
    run = await finished(api, pipeline("narrow", {"connector": "disk", "stream": "wide.csv"}))
    assert run["status"] in ("succeeded", "failed")
    if run["status"] == "succeeded":
        assert (run["rows_written"], run["rows_rejected"]) == (1, 1)
        await adds_up(api, run)
    else:
        await failed(api, warehouse, run, "70000", "id")


async def test_a_cast_that_fails_sets_the_row_aside_as_it_was(api: Api, disk: Disk, warehouse: Warehouse) -> None:
    disk.write("casts.csv", "id,amount\na1,10\na2,ten\na3,\n")
    steps = [{"name": "numbers", "cast": {"amount": "BIGINT"}}]
    definition = pipeline("casts", {"connector": "disk", "stream": "casts.csv"})
    run = await finished(api, {**definition, "transformations": [{"name": "t", "steps": steps}]})
    assert run["status"] == "succeeded", run["error"]
    (row,) = await api.items(f"/api/runs/{run['id']}/rejected")
    assert row["row"] == {"id": "a2", "amount": "ten"}
    assert "amount" in row["reason"]
    assert await warehouse.rows("SELECT id, amount FROM casts ORDER BY id") == [("a1", 10), ("a3", None)]
    await adds_up(api, run)


async def test_a_table_that_loses_a_column_fails_the_run_by_name(api: Api, warehouse: Warehouse) -> None:
    await warehouse.execute("CREATE TABLE shrinking (id bigint, name text); INSERT INTO shrinking VALUES (1, 'a')")
    source = {"connector": "warehouse", "stream": "public.shrinking", "schema": {"id": "bigint", "name": "text"}}
    definition = pipeline("shrunk", source, transformations=[{"name": "t", "steps": [{"filter": "name <> ''"}]}])
    await api.post("/api/pipelines", definition)
    assert (await api.run("shrunk"))["status"] == "succeeded"
    await warehouse.execute("ALTER TABLE shrinking DROP COLUMN name")
    run = await api.run("shrunk")
    assert run["status"] == "failed", run
    assert "name" in run["error"]["detail"]
    assert await warehouse.rows("SELECT count(*) FROM shrunk") == [(1,)]
