"""Health and operations: is it alive, how is it, and what does it say of itself."""

import json
import re

import pytest

from tests.e2e.api import Api

SERVICES = ["auth", "connectors", "executor", "gateway", "scheduler"]


async def test_it_is_alive_and_ready(api: Api) -> None:
    anybody = api.anonymous()
    assert await anybody.get("/health/live") == {"status": "alive"}
    ready = await anybody.get("/health/ready")
    assert ready["status"] == "ready"
    assert all(check["ok"] for check in ready["checks"])


async def test_the_status_shows_every_part_of_the_platform_and_no_secret(api: Api) -> None:
    status = await api.anonymous().get("/api/status")
    assert status["status"] == "ok"
    assert [service["name"] for service in status["services"]] == SERVICES
    assert {service["status"] for service in status["services"]} == {"ready"}
    assert status["database"]["ok"]
    assert status["bus"]["ok"]
    assert status["limits"]["ok"]
    assert [line["service"] for line in status["backlog"]] == SERVICES
    assert status["versions"]["dataaggregator"]
    sandbox = status["sandbox"]
    parts = {part["name"]: (part["available"], part["used"]) for part in sandbox["parts"] if part["needed"]}
    assert (sandbox["level"], parts["landlock"], parts["seccomp"]) == ("strict", (True, True), (True, True))
    assert {"cgroup-memory", "cgroup-pids", "rlimits", "user-namespaces"} <= {one["name"] for one in sandbox["parts"]}
    assert "postgresql://" not in json.dumps(status)


async def test_metrics_are_prometheus_text_with_bounded_labels(api: Api) -> None:
    await api.get("/api/runs")
    answer = await api.call("GET", "/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert "dataaggregator_http_requests_total{" in answer.body
    assert "dataaggregator_build_info{" in answer.body
    lines = [line for line in answer.body.splitlines() if not line.startswith("#")]
    assert not [line for line in lines if re.search(r"[0-9a-f]{8}-[0-9a-f]{4}-", line)], "a label is an id"


async def test_the_documents_are_served(api: Api) -> None:
    document = await api.get("/api/openapi.json")
    assert document["openapi"].startswith("3.1")
    operations = [one["operationId"] for path in document["paths"].values() for one in path.values()]
    assert len(operations) == len(set(operations))
    events = await api.get("/api/asyncapi.json")
    assert events["asyncapi"].startswith("3.")
    assert "run.succeeded.v1" in json.dumps(events)


async def test_the_page_to_try_it_needs_no_internet(api: Api) -> None:
    page = (await api.call("GET", "/api/docs")).body
    assert "<html" in page
    assert not re.findall(r"""(?:src|href)=["'](?:https?:)?//""", page)
    for name in ("page.js", "style.css"):
        assert (await api.call("GET", f"/api/docs/{name}")).status == 200


async def test_the_type_of_a_problem_leads_to_its_entry_in_the_catalogue(api: Api) -> None:
    problem = await api.refused("GET", "/api/pipelines/nowhere")
    page, _, code = problem["type"].partition("#")
    assert f'id="{code}"' in (await api.call("GET", page)).body


async def test_a_call_keeps_its_request_id_and_its_trace(api: Api) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = {"X-Request-ID": "mine-17", "traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    answer = await api.call("GET", "/api/pipelines/nowhere", headers=headers)
    assert answer.headers["X-Request-ID"] == "mine-17"
    assert trace in answer.headers["traceparent"]
    assert answer.body["trace_id"] == trace


async def test_only_known_origins_may_call_from_a_browser(api: Api) -> None:
    asked = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "PATCH"}
    async with api.http.options(f"{api.url}/api/runs", headers=asked) as answer:
        assert answer.status == 204
        assert answer.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"
        allowed = {method.strip() for method in answer.headers["Access-Control-Allow-Methods"].split(",")}
    assert {"GET", "POST", "PUT", "PATCH", "DELETE"} <= allowed
    async with api.http.options(f"{api.url}/api/runs", headers=asked | {"Origin": "https://evil.example"}) as answer:
        assert "Access-Control-Allow-Origin" not in answer.headers


async def test_answers_are_compressed_on_request(api: Api) -> None:
    for path in ("/api/openapi.json", "/api/connector-types"):
        plain = await api.call("GET", path, headers={"Accept-Encoding": "identity"})
        assert "Content-Encoding" not in plain.headers
        for accepted, coding in (("gzip", "gzip"), ("gzip, br", "br")):
            answer = await api.call("GET", path, headers={"Accept-Encoding": accepted})
            assert answer.headers["Content-Encoding"] == coding
            assert "Accept-Encoding" in answer.headers["Vary"]
            assert answer.body == plain.body


async def test_a_stream_is_never_compressed(api: Api) -> None:
    """What is packed is held back until there is enough of it; an event must arrive when it happens."""
    headers = {"Authorization": f"Bearer {api.token}", "Accept-Encoding": "br, gzip"}
    async with api.http.get(f"{api.url}/api/events", headers=headers) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        assert "Content-Encoding" not in answer.headers
        assert await answer.content.readany()


async def test_answers_tell_what_is_left_of_the_limit(api: Api) -> None:
    headers = (await api.call("GET", "/api/runs")).headers
    assert int(headers["RateLimit-Remaining"]) < int(headers["RateLimit-Limit"])
    assert int(headers["RateLimit-Reset"]) >= 0


async def test_head_answers_like_get_without_a_body(api: Api) -> None:
    answer = await api.call("HEAD", "/api/connector-types")
    assert (answer.status, answer.body) == (200, None)


@pytest.mark.parametrize("path", ["/", "/api", "/api/nowhere", "/internal/probe", "/api/../internal/probe"])
async def test_what_is_not_served_is_a_problem_too(api: Api, path: str) -> None:
    assert (await api.refused("GET", path))["status"] in (404, 405)


async def test_another_method_is_405_and_the_right_ones_are_named(api: Api) -> None:
    answer = await api.call("PATCH", "/api/runs", {})
    assert answer.status == 405
    assert "GET" in answer.headers["Allow"]
    assert answer.body["code"] == "method-not-allowed"
