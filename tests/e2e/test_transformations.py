"""Transformations: saved, versioned, and tried on a sample that adds up."""

import pytest

from tests.e2e.api import Api, Json

CLEAN: Json = {
    "name": "clean",
    "steps": [
        {"name": "numbers", "cast": {"amount": "DOUBLE"}},
        {"validate": [{"rule": "region-known", "check": {"not_null": "region"}}]},
        {"name": "large", "filter": "amount > 2"},
        {"derive": {"double": "amount * 2"}},
        {"rename": {"id": "order_id"}},
        {"drop": ["region"]},
    ],
}
ROWS: list[Json] = [
    {"id": 1, "region": "EU", "amount": "10"},
    {"id": 2, "region": "EU", "amount": "ten"},
    {"id": 3, "region": None, "amount": "7"},
    {"id": 4, "region": "US", "amount": "1"},
]


async def test_a_transformation_is_saved_shown_changed_and_deleted(api: Api) -> None:
    answer = await api.call("POST", "/api/transformations", CLEAN)
    saved = answer.body
    assert (answer.status, answer.headers["Location"]) == (201, f"/api/transformations/{saved['id']}")
    assert (saved["name"], saved["version"]) == ("clean", 1)
    assert await api.get("/api/transformations/clean") == saved
    assert saved["id"] in [one["id"] for one in await api.items("/api/transformations", limit=1)]
    changed = await api.patch("/api/transformations/clean", {"steps": [{"filter": "amount > 3"}]})
    assert changed["version"] == 2
    assert (await api.put("/api/transformations/clean", CLEAN))["version"] == 3
    await api.delete("/api/transformations/clean")
    assert (await api.refused("GET", "/api/transformations/clean"))["status"] == 404


async def test_a_name_is_taken_once(api: Api) -> None:
    body = {"name": "once", "steps": [{"filter": "a > 0"}]}
    await api.post("/api/transformations", body)
    problem = await api.refused("POST", "/api/transformations", body)
    assert (problem["status"], problem["code"]) == (409, "already-exists")


async def test_a_stale_change_is_refused(api: Api) -> None:
    await api.post("/api/transformations", {"name": "etag", "steps": [{"filter": "a > 0"}]})
    path = "/api/transformations/etag"
    seen = (await api.call("GET", path)).headers["ETag"]
    await api.patch(path, {"steps": [{"filter": "a > 1"}]}, headers={"If-Match": seen})
    problem = await api.refused("PATCH", path, {"steps": [{"filter": "a > 2"}]}, headers={"If-Match": seen})
    assert problem["status"] == 412
    assert (await api.refused("DELETE", path, headers={"If-Match": seen}))["status"] == 412


async def test_a_sample_shows_what_each_step_does_and_adds_up(api: Api) -> None:
    body = {"steps": CLEAN["steps"], "sample_data": ROWS}
    tried = await api.post("/api/transformations/test", body, expect=200)
    assert tried["output"] == [{"order_id": 1, "amount": 10.0, "double": 20.0}]
    assert tried["balanced"] is True
    assert [step["kind"] for step in tried["steps"]] == ["cast", "validate", "filter", "derive", "rename", "drop"]
    for step in tried["steps"]:
        assert step["accounting"] == "proven"
        assert step["read"] == step["written"] + step["filtered"] + step["rejected"], step
    assert [(step["filtered"], step["rejected"]) for step in tried["steps"][:3]] == [(0, 1), (0, 1), (1, 0)]
    rejected = {row["rule"]: row for row in tried["rejected"]}
    assert rejected["region-known"]["row"]["id"] == 3
    assert {row["row"]["id"] for row in tried["rejected"]} == {2, 3}
    assert all(row["reason"] for row in tried["rejected"])


async def test_a_saved_one_is_tried_by_name_with_rows_for_each_input(api: Api) -> None:
    steps = [
        {"join": {"with": "regions", "on": ["region"], "expect": "many_to_one"}},
        {"aggregate": {"by": ["continent"], "measures": {"total": "sum(amount)::BIGINT"}}},
    ]
    await api.post("/api/transformations", {"name": "totals", "inputs": ["orders", "regions"], "steps": steps})
    sample = {
        "orders": [{"region": "CH", "amount": 1}, {"region": "DE", "amount": 2}, {"region": "XX", "amount": 4}],
        "regions": [{"region": "CH", "continent": "EU"}, {"region": "DE", "continent": "EU"}],
    }
    tried = await api.post("/api/transformations/totals/test", {"sample_data": sample}, expect=200)
    assert tried["output"] == [{"continent": "EU", "total": 3}]
    assert tried["balanced"] is True
    problem = await api.refused("POST", "/api/transformations/totals/test", {"sample_data": {"orders": []}})
    assert (problem["status"], problem["errors"][0]["field"]) == (422, "sample_data.regions")


async def test_free_sql_says_what_it_can_prove_of_its_rows(api: Api) -> None:
    async def tried(sql: str) -> Json:
        body = {"steps": [{"sql": sql}], "sample_data": ROWS}
        found: Json = await api.post("/api/transformations/test", body, expect=200)
        assert found["balanced"] is True
        return {"output": found["output"], **found["steps"][0]}

    step = await tried("SELECT count(*) AS n FROM input WHERE region = 'EU'")
    assert (step["output"], step["accounting"]) == ([{"n": 2}], "proven")
    assert (step["read"], step["counted"], step["filtered_by"], step["groups"]) == (4, 2, {"where": 2}, 1)
    step = await tried("SELECT id FROM input ORDER BY id DESC LIMIT 1")
    assert (step["output"], step["accounting"]) == ([{"id": 4}], "proven")
    assert (step["kept"], step["filtered"], step["doubled"], step["invented"]) == (1, 3, 0, 0)
    step = await tried("SELECT DISTINCT region FROM input ORDER BY region")
    assert (len(step["output"]), step["accounting"]) == (3, "unaccounted")


async def test_a_dedupe_shows_what_it_kept_and_that_it_adds_up(api: Api) -> None:
    rows = [{"id": 1, "v": 1}, {"id": 2, "v": 9}, {"id": 1, "v": 7}]
    steps = [{"dedupe": {"key": ["id"], "keep": "last", "order_by": ["v"]}}]
    tried = await api.post("/api/transformations/test", {"steps": steps, "sample_data": rows}, expect=200)
    assert (tried["output"], tried["balanced"]) == (rows[1:], True)
    (step,) = tried["steps"]
    assert (step["kind"], step["read"], step["kept"], step["duplicates"]) == ("dedupe", 3, 2, 1)
    wrong = {"steps": [{"dedupe": {"key": ["idd"]}}], "sample_data": rows}
    problem = await api.refused("POST", "/api/transformations/test", wrong)
    assert (problem["status"], problem["errors"][0]["field"]) == (422, "steps[0].dedupe.key")


async def test_a_mask_hides_what_it_is_tried_on(api: Api) -> None:
    rows = [{"id": 1, "mail": "a@example.org"}, {"id": 2, "mail": "a@example.org"}, {"id": 3, "mail": None}]
    steps = [{"mask": {"mail": "hash"}}, {"validate": [{"rule": "small", "check": "id < 2"}]}]
    tried = await api.post("/api/transformations/test", {"steps": steps, "sample_data": rows}, expect=200)
    (kept,) = tried["output"]
    assert tried["balanced"] is True
    assert [row["row"]["mail"] for row in tried["rejected"]] == [kept["mail"], None]
    assert "example.org" not in str(tried)


async def test_a_flatten_takes_objects_of_a_sample_apart(api: Api) -> None:
    rows = [{"id": 1, "at": {"city": "Bern", "zip": 3000}}, {"id": 2}]
    body = {"steps": [{"flatten": {"field": "at", "prefix": ""}}], "sample_data": rows}
    tried = await api.post("/api/transformations/test", body, expect=200)
    assert tried["output"] == [{"id": 1, "city": "Bern", "zip": 3000}, {"id": 2, "city": None, "zip": None}]
    assert (tried["balanced"], tried["steps"][0]["empty"]) == (True, 1)


async def test_an_explode_of_a_sample_counts_elements_and_empty_lists(api: Api) -> None:
    rows = [{"id": 1, "tags": ["a", "b"]}, {"id": 2, "tags": []}, {"id": 3}]
    body = {"steps": [{"explode": {"field": "tags"}}], "sample_data": rows}
    tried = await api.post("/api/transformations/test", body, expect=200)
    assert tried["output"] == [{"id": 1, "tags": "a"}, {"id": 1, "tags": "b"}]
    (step,) = tried["steps"]
    assert (tried["balanced"], step["read"], step["written"], step["lengths"], step["empty"]) == (True, 3, 2, 2, 2)


async def test_what_does_not_compile_is_told_with_step_line_and_column(api: Api) -> None:
    body = {"name": "broken", "steps": [{"filter": "amount > 1"}, {"filter": "amount >\n  2 3"}]}
    for path, more in (("/api/transformations", {}), ("/api/transformations/test", {"sample_data": ROWS})):
        problem = await api.refused("POST", path, {**body, **more})
        assert (problem["status"], problem["code"]) == (422, "definition-invalid")
        (wrong,) = problem["errors"]
        assert wrong["field"] == "steps[1].filter"
        assert "line 2, column" in wrong["message"]


async def test_a_field_that_is_not_there_is_named_with_its_step(api: Api) -> None:
    body = {"steps": [{"filter": "amount > 2"}, {"filter": "amuont > 2"}], "sample_data": [{"amount": 3}]}
    problem = await api.refused("POST", "/api/transformations/test", body)
    assert problem["status"] == 422
    assert "amuont" in str(problem)
    assert "steps[1].filter" in str(problem["errors"])


@pytest.mark.usefixtures("disk", "warehouse")
async def test_a_used_transformation_stays_and_its_pipelines_are_named(api: Api) -> None:
    await api.post("/api/transformations", {"name": "held", "steps": [{"filter": "id > 0"}]})
    definition = {
        "name": "holder",
        "sources": {"s": {"connector": "disk", "stream": "any.csv"}},
        "transformations": ["held"],
        "destinations": [{"connector": "warehouse", "stream": "public.held"}],
    }
    await api.post("/api/pipelines", definition)
    problem = await api.refused("DELETE", "/api/transformations/held")
    assert (problem["status"], problem["code"]) == (409, "transformation-in-use")
    assert "holder" in problem["detail"]
    await api.delete("/api/pipelines/holder")
    await api.delete("/api/transformations/held")


PYTHON = """\
import pyarrow.compute as pc

def transform(rows):
    print("rows:", rows.num_rows)
    return rows.filter(pc.greater(rows["id"], 1)).append_column("double", pc.multiply(rows.filter(
        pc.greater(rows["id"], 1))["id"], 2))
"""


async def test_python_is_tried_on_a_sample_and_accounts_for_each_row_that_carries_its_number(api: Api) -> None:
    doubled = {"name": "doubled", "python": PYTHON, "expect": "many_to_one"}
    steps: list[Json] = [{"select": ["id"]}, {**doubled, "row_ids": True}]
    tried = await api.post("/api/transformations/test", {"steps": steps, "sample_data": ROWS}, expect=200)
    assert tried["output"] == [{"id": 2, "double": 4}, {"id": 3, "double": 6}, {"id": 4, "double": 8}]
    step = tried["steps"][1]
    assert (tried["balanced"], step["accounting"], step["printed"]) == (True, "proven", "rows: 4\n")
    assert (step["read"], step["written"], step["kept"], step["filtered"]) == (4, 3, 3, 1)
    assert (step["doubled"], step["invented"]) == (0, 0)
    steps[1] = doubled
    tried = await api.post("/api/transformations/test", {"steps": steps, "sample_data": ROWS}, expect=200)
    assert (tried["steps"][1]["accounting"], tried["balanced"]) == ("declared", True)


async def test_python_that_is_none_is_refused_when_it_is_saved(api: Api) -> None:
    for source, told in (
        ("def transform(rows)\n    pass", "line 1, column 20"),
        ("def other(rows): pass", "no transform"),
    ):
        body = {"name": "no-python", "steps": [{"filter": "id > 0"}, {"python": source}]}
        problem = await api.refused("POST", "/api/transformations", body)
        assert (problem["status"], problem["code"]) == (422, "definition-invalid")
        (wrong,) = problem["errors"]
        assert wrong["field"] == "steps[1].python"
        assert told in wrong["message"]


async def test_python_that_fails_is_told_with_its_line(api: Api) -> None:
    source = "def transform(rows):\n    if rows.num_rows:\n        rows['nothing']\n    return rows"
    problem = await api.refused(
        "POST", "/api/transformations/test", {"steps": [{"python": source}], "sample_data": ROWS}
    )
    assert (problem["status"], problem["code"]) == (422, "python-failed")
    assert "line 3: KeyError" in problem["errors"][0]["message"]
