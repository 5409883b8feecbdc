"""Status, documents and pages."""

import re

from openapi_spec_validator import validate

from dataaggregator.catalogue import CATALOGUE
from dataaggregator.contracts.envelope import PUBLIC

from .conftest import Platform


async def test_the_status_tells_of_every_part_and_works_half_broken(platform: Platform) -> None:
    status, told, _ = await platform.call("GET", "/api/status", token="-")
    assert status == 200
    services = {service["name"]: service["status"] for service in told["services"]}
    assert (services["auth"], services["gateway"], services["scheduler"]) == ("ready", "ready", "ready")
    assert (services["connectors"], services["executor"]) == ("unreachable", "unreachable")
    assert told["status"] == "degraded"
    assert (told["database"]["ok"], told["bus"]["ok"], told["limits"]["ok"]) == (True, True, True)
    assert {one["service"] for one in told["backlog"]} >= {"auth", "gateway"}
    assert told["sandbox"] is None  # there is no executor here
    assert told["versions"]["dataaggregator"]
    assert "only-for-tests" not in str(told)


async def test_the_status_is_told_while_the_database_is_down(platform: Platform) -> None:
    await platform.ports.database.close()
    status, told, _ = await platform.call("GET", "/api/status", token="-")
    await platform.ports.database.open()
    assert (status, told["status"], told["database"]["ok"], told["backlog"]) == (200, "down", False, None)
    assert told["database"]["code"] == "database-unavailable"


async def test_one_document_tells_of_all_services(platform: Platform) -> None:
    status, told, _ = await platform.call("GET", "/api/openapi.json", token="")
    assert status == 200
    validate(told)
    assert {"/api/auth/login", "/api/pipelines", "/api/events", "/api/status", "/health/live"} <= set(told["paths"])
    assert not any(path.startswith("/internal") for path in told["paths"])


async def test_a_service_that_goes_down_stays_in_the_document(platform: Platform) -> None:
    await platform.call("GET", "/api/openapi.json", token="")
    platform.ports.directory.put("scheduler", "http://127.0.0.1:1")
    platform.clock.forward(120)
    _, told, _ = await platform.call("GET", "/api/openapi.json", token="")
    assert "/api/pipelines" in told["paths"]


async def test_the_events_document_names_every_public_event(platform: Platform) -> None:
    status, told, _ = await platform.call("GET", "/api/asyncapi.json", token="")
    assert (status, told["asyncapi"]) == (200, "3.0.0")
    assert set(told["channels"]) == set(told["components"]["messages"]) == set(PUBLIC)
    text = str(told)
    for reference in re.findall(r"'\$ref': '#/([^']+)'", text):
        at = told
        for part in reference.split("/"):
            at = at[part]


async def test_the_pages_need_nothing_from_elsewhere(platform: Platform) -> None:
    for path, kind in (
        ("/api/docs", "text/html"),
        ("/api/docs/page.js", "text/javascript"),
        ("/api/docs/style.css", "text/css"),
        ("/api/docs/errors", "text/html"),
    ):
        status, text, headers = await platform.call("GET", path, token="")
        assert status == 200
        assert headers["Content-Type"].startswith(kind)
        assert "script-src 'self'" in headers["Content-Security-Policy"]
        assert not re.search(rb'(src|href)="(https?:)?//|<script>|style="|onclick', text)


async def test_every_error_has_its_place(platform: Platform) -> None:
    _, text, _ = await platform.call("GET", "/api/docs/errors", token="")
    for code in CATALOGUE:
        assert f'id="{code}"'.encode() in text
