"""The document is valid OpenAPI 3.1 and says what the routes do."""

from dataclasses import replace

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator, validate
from pydantic import BaseModel

from dataaggregator.http.agreement import validate_answer, validate_request
from dataaggregator.http.openapi import document, merge
from dataaggregator.http.problems import Problem

from .conftest import Serve
from .test_calls import ROUTES, Kept


def test_the_document_is_valid() -> None:
    validate(document(ROUTES, "trial", internal=True), cls=OpenAPIV31SpecValidator)


def test_internal_routes_stand_in_the_internal_document_only() -> None:
    assert "/internal/thing" not in document(ROUTES, "trial")["paths"]
    assert "/internal/thing" in document(ROUTES, "trial", internal=True)["paths"]


def test_who_is_let_in_is_said_for_each_route() -> None:
    told = document(ROUTES, "trial", internal=True)
    ways = {
        (path, method): [set(way) for way in operation.get("security", [])]
        for path, item in told["paths"].items()
        for method, operation in item.items()
    }
    key, cookie = {"apiKey"}, {"session", "csrfToken"}
    assert ways["/api/things/{thing}", "get"] == [{"bearer"}, key, {"session"}]
    assert ways["/api/things/{thing}", "patch"] == [{"bearer"}, key, cookie]
    assert ways["/internal/thing", "post"] == [{"bearer"}]
    assert ways["/api/fail/{how}", "get"] == []
    by_login = document([replace(route, by_login=True) for route in ROUTES], "trial")
    assert {"apiKey": []} not in by_login["paths"]["/api/things/{thing}"]["get"]["security"]
    named = {name for each in ways.values() for way in each for name in way}
    assert named == set(told["components"]["securitySchemes"])


def test_every_status_a_route_may_answer_with_is_declared() -> None:
    paths = document(ROUTES, "trial")["paths"]
    assert set(paths["/api/things"]["post"]["responses"]) == {
        "201", "400", "401", "403", "409", "413", "415", "422", "429", "500", "503",
    }  # fmt: skip
    assert set(paths["/api/things/{thing}"]["patch"]["responses"]) == {
        "200", "400", "401", "403", "404", "412", "413", "415", "422", "429", "500", "503",
    }  # fmt: skip
    assert set(paths["/api/fail/{how}"]["get"]["responses"]) == {
        "204", "400", "404", "409", "422", "429", "500", "502", "503",
    }  # fmt: skip


def test_a_merge_patch_may_hold_any_field_or_null() -> None:
    told = document(ROUTES, "trial")
    right: list[object] = [{}, {"name": "a"}, {"count": None, "steps": []}]
    for body in right:
        validate_request(told, "PATCH", "/api/things/a", body)
    wrong: list[object] = [{"name": 1}, {"colour": "red"}]
    for body in wrong:
        with pytest.raises(AssertionError):
            validate_request(told, "PATCH", "/api/things/a", body)


def test_an_answer_that_is_not_declared_is_found_out() -> None:
    told = document(ROUTES, "trial")
    right = {"name": "a", "count": 0, "owner": None, "steps": [], "version": 1}
    right["id"] = "01890a5d-ac96-774b-bcce-b302099a8001"
    headers = {"Content-Type": "application/json"}
    validate_answer(told, "GET", "/api/things/a", 200, right, headers=headers)
    for status, body in ((200, {**right, "id": "x"}), (200, {"name": "a"}), (418, right), (404, right)):
        with pytest.raises(AssertionError):
            validate_answer(told, "GET", "/api/things/a", status, body, headers=headers)
    with pytest.raises(AssertionError, match="Retry-After"):
        validate_answer(told, "GET", "/api/things/a", 503, {}, headers=headers)


def test_documents_of_services_are_put_together_without_mixing_up_names() -> None:
    class Other(BaseModel):
        colour: str

    Other.__name__ = "Kept"
    moved = replace(ROUTES[2], path="/api/others/{other}", answers={200: Other})
    one, two = document(ROUTES, "one"), document([moved], "two")
    two_schema = two["paths"]["/api/others/{other}"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    whole = merge({"one": one, "two": two}, "whole", without=["/api/large"])
    validate(whole, cls=OpenAPIV31SpecValidator)
    assert two_schema == {"$ref": "#/components/schemas/Kept"} or "Other" in two_schema["$ref"]
    got = whole["paths"]["/api/others/{other}"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    name = got["$ref"].rpartition("/")[2]
    assert list(whole["components"]["schemas"][name]["properties"]) == ["colour"]
    assert "count" in whole["components"]["schemas"]["Kept"]["properties"]
    assert "/api/large" not in whole["paths"]
    assert set(Kept.model_fields) <= set(whole["components"]["schemas"]["Kept"]["properties"])
    assert set(whole["components"]["schemas"]["Problem"]["properties"]) == set(Problem.model_fields)


async def test_every_service_says_how_it_is(serve: Serve) -> None:
    api = await serve(ROUTES)
    api.token = None
    assert (await api.call("GET", "/health/live")).json == {"status": "alive"}
    ready = (await api.call("GET", "/health/ready")).json
    assert ready["status"] == "ready"
    assert [(check["name"], check["ok"]) for check in ready["checks"]] == [("revocations", True)]
    metrics = (await api.call("GET", "/metrics")).raw
    assert b"dataaggregator_http_requests_total{" in metrics
    assert b"dataaggregator_build_info" in metrics
