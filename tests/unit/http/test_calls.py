"""What a call goes through: input of every wrong kind becomes a problem that names field and cure."""

import gzip
from typing import Annotated, Any
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, Field

from dataaggregator.catalogue import CATALOGUE
from dataaggregator.errors import Conflict, NotFound, Permanent, RateLimited, Transient
from dataaggregator.http import etag, patch
from dataaggregator.http.answer import Answer, TextAnswer
from dataaggregator.http.call import Call
from dataaggregator.http.paging import Page, PageQuery, decode_cursor, encode_cursor, page_of
from dataaggregator.http.route import Route
from dataaggregator.http.tokens import ServiceTokens
from dataaggregator.ids import new_id
from dataaggregator.permissions import Permission, Role
from dataaggregator.ports import Ports

from .conftest import WORKSPACE, Issuer, Reply, Serve

P = Permission


class Step(BaseModel):
    model_config = ConfigDict(extra="forbid")
    filter: str


class Thing(BaseModel):
    """What the trial service keeps."""

    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(min_length=1, max_length=20)]
    count: int = 0
    owner: UUID | None = None
    steps: list[Step] = []


class Kept(Thing):
    id: UUID
    version: int


class Search(PageQuery):
    tag: tuple[str, ...] = ()
    least: int | None = None


ID = UUID("01890a5d-ac96-774b-bcce-b302099a8001")


async def make(call: Call) -> Answer:
    thing = call.body_as(Thing)
    return Answer(Kept(**thing.model_dump(), id=ID, version=1), 201, {"Location": f"/api/things/{ID}"}, etag=1)


async def get(call: Call) -> Answer:
    if call.path["thing"] == "missing":
        raise NotFound("not-found", "There is no thing of this name.")
    return Answer(Kept(name=call.path["thing"][:20], id=ID, version=3), etag=3)


async def change(call: Call) -> Answer:
    etag.check(call.if_match, 3)
    thing = patch.apply(Thing, {"name": "a", "count": 1}, call.body)
    return Answer(Kept(**thing.model_dump(), id=ID, version=4), etag=4)


async def search(call: Call) -> Answer:
    query = call.query_as(Search)
    start = decode_cursor(query.cursor, int)[0] if query.cursor else 0
    found = [Kept(name=f"t{number}", id=ID, version=1) for number in range(start, start + query.limit + 1)]
    return Answer(page_of(found, query.limit, lambda last: encode_cursor(int(last.name[1:]) + 1)))


async def by_id(call: Call) -> Answer:
    return Answer(Kept(name="x", id=call.id("thing"), version=1))


async def drop(_call: Call) -> Answer:
    return Answer(status=204)


async def fail(call: Call) -> Answer:
    raise {
        "conflict": Conflict("conflict", "It is running."),
        "transient": Transient("database-unavailable", "connection refused to postgresql://u:hunter2@h/d"),
        "limited": RateLimited("rate-limited", "Too many.", retry_after=7.2),
        "permanent": Permanent("service-refused", "No."),
        "bug": ZeroDivisionError("a secret: hunter2"),
    }[call.path["how"]]


async def large(_call: Call) -> Answer:
    return TextAnswer(text="x" * 5000)


ROUTES = [
    Route("POST", "/api/things", make, "Make", "things", P.DEFINITIONS_WRITE, body=Thing, answers={201: Kept},
          etag=True, idempotent=True, max_body_bytes=2000),
    Route("GET", "/api/things", search, "List", "things", P.DEFINITIONS_READ, query=Search, answers={200: Page[Kept]}),
    Route("GET", "/api/things/{thing}", get, "One", "things", P.DEFINITIONS_READ, answers={200: Kept}, etag=True),
    Route("PATCH", "/api/things/{thing}", change, "Change", "things", P.DEFINITIONS_WRITE, body=Thing,
          merge_patch=True, answers={200: Kept}, etag=True),
    Route("DELETE", "/api/things/{thing}", drop, "Drop", "things", P.DEFINITIONS_WRITE, answers={204: None}, etag=True),
    Route("GET", "/api/by-id/{thing:id}", by_id, "By id", "things", P.SELF, answers={200: Kept}),
    Route("GET", "/api/fail/{how}", fail, "Fail", "things", None, answers={204: None}, problems=(409, 502)),
    Route("GET", "/api/large", large, "Much text", "things", None, produces=("text/plain",)),
    Route("POST", "/internal/thing", drop, "For services", "things", None, internal=True, answers={204: None}),
]  # fmt: skip


def told(reply: Reply, status: int, code: str) -> dict[str, Any]:
    """The problem of a reply, which has this status and code and everything a problem must have."""
    assert reply.status == status, reply.raw
    assert reply.headers["Content-Type"].startswith("application/problem+json")
    problem: dict[str, Any] = reply.json
    assert problem["code"] == code
    assert code in CATALOGUE
    assert problem["type"] == f"/api/docs/errors#{code}"
    assert problem["help"] == f"docs/troubleshooting/errors.md#{code}"
    assert problem["trace_id"] in reply.headers["traceparent"]
    return problem


def wrong(reply: Reply) -> dict[str, str]:
    return {error["field"]: error["code"] for error in reply.json["errors"]}


async def test_a_right_call_is_answered_with_version_and_place(serve: Serve) -> None:
    api = await serve(ROUTES)
    reply = await api.call("POST", "/api/things", json={"name": "a", "owner": str(ID), "steps": [{"filter": "x"}]})
    assert reply.status == 201
    assert reply.headers["ETag"] == '"1"'
    assert reply.headers["Location"] == f"/api/things/{ID}"
    assert reply.json["owner"] == str(ID)


async def test_all_wrong_fields_are_named_unknown_ones_included(serve: Serve) -> None:
    api = await serve(ROUTES)
    body = {"count": "5", "colour": 1, "owner": "x", "steps": [{"filter": 7}, {"filter": "a", "kind": 1}]}
    reply = await api.call("POST", "/api/things", json=body)
    told(reply, 422, "body-invalid")
    assert wrong(reply) == {
        "name": "missing-field",
        "count": "int-type",
        "colour": "unknown-field",
        "owner": "uuid-parsing",
        "steps[0].filter": "string-type",
        "steps[1].kind": "unknown-field",
    }


@pytest.mark.parametrize(
    "raw",
    [
        b"{",
        b"",
        b"\xff\xfe",
        b'{"name": NaN',
        b'{"name": 1e999}',
        b'{"name": "\xed\xa0\x80"}',
        b'{"name": "\\ud800"}',
        b"[" * 1900,
    ],
)
async def test_what_is_not_json_is_400(serve: Serve, raw: bytes) -> None:
    api = await serve(ROUTES)
    reply = await api.call("POST", "/api/things", data=raw, headers={"Content-Type": "application/json"})
    told(reply, 400, "json-malformed")


@pytest.mark.parametrize("raw", [b"[]", b"1", b'"a"', b"null", b'{"name": {"name": 1}}'])
async def test_json_of_another_shape_is_422(serve: Serve, raw: bytes) -> None:
    api = await serve(ROUTES)
    for method, path in (("POST", "/api/things"), ("PATCH", "/api/things/a")):
        reply = await api.call(method, path, data=raw, headers={"Content-Type": "application/json"})
        assert told(reply, 422, "body-invalid")["errors"]


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 10**30, -(10**30)])
async def test_a_whole_number_beyond_64_bits_is_422_wherever_it_stands(serve: Serve, number: int) -> None:
    api = await serve(ROUTES)
    raw = b'{"name": "%d", "steps": [{"filter": {"deep": [%d]}}]}' % (number, number)
    for method, path in (("POST", "/api/things"), ("PATCH", "/api/things/a")):
        reply = await api.call(method, path, data=raw, headers={"Content-Type": "application/json"})
        told(reply, 422, "body-invalid")
        assert wrong(reply) == {"steps[0].filter.deep[0]": "number"}


async def test_a_nul_character_is_422_wherever_it_stands(serve: Serve) -> None:
    api = await serve(ROUTES)
    reply = await api.call("POST", "/api/things", json={"name": "a\0b", "steps": [{"filter": "\0"}]})
    told(reply, 422, "body-invalid")
    assert wrong(reply) == {"name": "nul", "steps[0].filter": "nul"}
    told(await api.call("PATCH", "/api/things/a", json={"na\0me": 1}), 422, "body-invalid")
    told(await api.call("GET", "/api/things?cursor=a%00b"), 422, "query-invalid")
    told(await api.call("GET", "/api/things/a%00b"), 422, "path-invalid")
    slash = await api.call("POST", "/api/things", json={"name": "a\\u0000"})
    assert slash.status == 201


async def test_what_is_not_utf8_is_400(serve: Serve) -> None:
    api = await serve(ROUTES)
    for target in (b"/api/things/%ff", b"/api/things?cursor=%c3%28", b"/api/things/\xff"):
        token = (api.token or "").encode()
        head = b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer " + token
        answered = await api.raw(head + b"\r\n\r\n")
        assert b" 400 " in answered.split(b"\r\n")[0], target
        assert b'"code":"' in answered, target
    answered = await api.raw(
        b"GET /api/things HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer \xff\r\n\r\n"
    )
    assert b" 400 " in answered.split(b"\r\n")[0]


@pytest.mark.parametrize("request_", [b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9.9\r\n\r\n"])
async def test_what_is_not_http_gets_a_problem_too(serve: Serve, request_: bytes) -> None:
    api = await serve(ROUTES)
    answered = await api.raw(request_)
    assert b" 400 " in answered.split(b"\r\n")[0]
    assert b'"code":"request-malformed"' in answered


async def test_a_body_of_another_kind_is_415(serve: Serve) -> None:
    api = await serve(ROUTES)
    reply = await api.call("POST", "/api/things", data=b"name: a", headers={"Content-Type": "application/yaml"})
    assert "application/json" in told(reply, 415, "media-type-unsupported")["detail"]


async def test_a_body_over_the_limit_is_413_announced_or_not(serve: Serve) -> None:
    api = await serve(ROUTES)
    headers = {"Content-Type": "application/json"}
    reply = await api.call("POST", "/api/things", data=b"x" * 3000, headers=headers)
    assert "2000 bytes" in told(reply, 413, "body-too-large")["detail"]

    async def pieces() -> Any:
        for _ in range(30):
            yield b"x" * 100

    told(await api.call("POST", "/api/things", data=pieces(), headers=headers), 413, "body-too-large")
    bomb = gzip.compress(b"x" * 1_000_000)
    packed = {**headers, "Content-Encoding": "gzip"}
    told(await api.call("POST", "/api/things", data=bomb, headers=packed), 413, "body-too-large")
    told(await api.call("POST", "/api/things", data=b"not gzip", headers=packed), 400, "body-incomplete")


async def test_wrong_query_parameters_are_named(serve: Serve) -> None:
    api = await serve(ROUTES)
    reply = await api.call("GET", "/api/things?limit=0&colour=red&least=x&sort=A&cursor=1&cursor=2")
    told(reply, 422, "query-invalid")
    assert wrong(reply) == {"cursor": "repeated"}
    reply = await api.call("GET", "/api/things?limit=501&colour=red&least=x&sort=A")
    assert set(wrong(reply)) == {"limit", "colour", "least", "sort"}
    told(await api.call("GET", f"/api/by-id/{ID}?x=1"), 422, "query-invalid")


async def test_a_list_is_paged_by_a_cursor_nobody_else_can_make(serve: Serve) -> None:
    api = await serve(ROUTES)
    first = (await api.call("GET", "/api/things?limit=2&tag=a&tag=b")).json
    second = (await api.call("GET", f"/api/things?limit=2&cursor={first['next_cursor']}")).json
    assert [item["name"] for item in first["items"] + second["items"]] == ["t0", "t1", "t2", "t3"]
    for forged in ("x", "====", "WzFd", "W10", "WyJhIl0", "WzFlOTld", "WzEsMl0", "é"):
        reply = await api.call("GET", "/api/things", params={"cursor": forged})
        if reply.status != 200:
            told(reply, 422, "cursor-invalid")


async def test_ids_in_the_path_are_checked(serve: Serve) -> None:
    api = await serve(ROUTES)
    for bad in ("1", "abc", "01890a5d-ac96-774b-bcce", "%20", "x" * 300):
        told(await api.call("GET", f"/api/by-id/{bad}"), 422, "path-invalid")
    reply = await api.call("GET", f"/api/by-id/{str(ID).upper()}")
    assert reply.json["id"] == str(ID)
    told(await api.call("GET", "/api/things/" + "x" * 201), 422, "path-invalid")
    told(await api.call("GET", "/api/things/missing"), 404, "not-found")


async def test_unknown_addresses_and_methods_are_problems(serve: Serve) -> None:
    api = await serve(ROUTES)
    told(await api.call("GET", "/api/nothing"), 404, "route-unknown")
    told(await api.call("GET", "/"), 404, "route-unknown")
    reply = await api.call("PUT", "/api/things")
    told(reply, 405, "method-not-allowed")
    assert reply.headers["Allow"] == "GET, HEAD, POST"
    told(await api.call("TRACE", "/api/things"), 405, "method-not-allowed")


async def test_a_stale_version_is_412_and_the_right_one_is_taken(serve: Serve) -> None:
    api = await serve(ROUTES)
    body = {"count": 5, "steps": None}
    told(await api.call("PATCH", "/api/things/a", json=body, headers={"If-Match": '"2"'}), 412, "version-stale")
    for match in ('"3"', "*", '"1", "3"'):
        reply = await api.call("PATCH", "/api/things/a", json=body, headers={"If-Match": match})
        assert reply.json["count"] == 5
    reply = await api.call("PATCH", "/api/things/a", json={"name": None, "count": "x"})
    told(reply, 422, "body-invalid")
    assert wrong(reply) == {"name": "missing-field", "count": "int-type"}


async def test_each_error_has_its_status_and_headers_and_no_secret(serve: Serve) -> None:
    api = await serve(ROUTES)
    told(await api.call("GET", "/api/fail/conflict"), 409, "conflict")
    reply = await api.call("GET", "/api/fail/transient")
    told(reply, 503, "database-unavailable")
    assert reply.headers["Retry-After"] == "5"
    assert b"hunter2" not in reply.raw
    assert (await api.call("GET", "/api/fail/limited")).headers["Retry-After"] == "8"
    told(await api.call("GET", "/api/fail/permanent"), 502, "service-refused")
    reply = await api.call("GET", "/api/fail/bug")
    told(reply, 500, "internal-error")
    assert b"hunter2" not in reply.raw
    assert b"Zero" not in reply.raw


async def test_who_is_not_logged_in_is_401_and_told_how(serve: Serve) -> None:
    api = await serve(ROUTES)
    api.token = None
    reply = await api.call("GET", "/api/things")
    told(reply, 401, "token-missing")
    assert reply.headers["WWW-Authenticate"].startswith("Bearer")
    for header in ("Basic YTpi", "Bearer", "Bearer ", "x"):
        told(await api.call("GET", "/api/things", headers={"Authorization": header}), 401, "token-missing")


async def test_roles_decide_in_the_workspace_of_the_call(serve: Serve, issuer: Issuer) -> None:
    api = await serve(ROUTES)
    api.token = issuer.token(Role.VIEWER)
    assert (await api.call("GET", "/api/things")).status == 200
    problem = told(await api.call("POST", "/api/things", json={"name": "a"}), 403, "permission-denied")
    assert "definitions:write" in problem["detail"]
    assert "viewer" in problem["detail"]
    for workspace in ("default", str(WORKSPACE)):
        assert (await api.call("GET", "/api/things", headers={"X-Workspace": workspace})).status == 200
    for workspace in ("other", str(new_id()), "%", "é"):
        told(await api.call("GET", "/api/things", headers={"X-Workspace": workspace}), 403, "workspace-denied")
    api.token = issuer.token(None)
    told(await api.call("GET", "/api/things"), 403, "no-workspace")
    assert (await api.call("GET", f"/api/by-id/{ID}")).status == 200


async def test_internal_routes_are_not_for_people(serve: Serve) -> None:
    api = await serve(ROUTES)
    told(await api.call("POST", "/internal/thing"), 403, "permission-denied")


async def test_services_call_nothing_but_internal_routes(serve: Serve, plain_ports: Ports) -> None:
    api = await serve(ROUTES)
    api.token = ServiceTokens(plain_ports.keys, "scheduler", plain_ports.clock).token("trial")
    assert (await api.call("POST", "/internal/thing", headers={"X-Workspace": str(WORKSPACE)})).status == 204
    told(await api.call("POST", "/internal/thing", headers={"X-Workspace": "default"}), 403, "workspace-denied")
    told(await api.call("GET", "/api/things"), 403, "permission-denied")


async def test_request_and_trace_ids_are_taken_and_returned(serve: Serve) -> None:
    api = await serve(ROUTES)
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = {"X-Request-ID": "mine-1", "traceparent": f"00-{trace}-b7ad6b7169203331-00"}
    reply = await api.call("GET", "/api/things/missing", headers=headers)
    assert reply.headers["X-Request-ID"] == "mine-1"
    assert reply.json["trace_id"] == trace
    reply = await api.call("GET", "/api/things/missing", headers={"X-Request-ID": "a b", "traceparent": "00-zz"})
    assert reply.headers["X-Request-ID"] == reply.json["trace_id"]


@pytest.mark.parametrize(
    ("accepted", "coding"), [("gzip", "gzip"), ("gzip, deflate, br", "br"), ("br;q=0, gzip;q=0.1", "gzip")]
)
async def test_answers_are_compressed_on_request(serve: Serve, accepted: str, coding: str) -> None:
    api = await serve(ROUTES)
    reply = await api.call("GET", "/api/large", headers={"Accept-Encoding": accepted})
    assert (reply.headers["Content-Encoding"], reply.headers["Vary"]) == (coding, "Accept-Encoding")
    assert reply.raw == b"x" * 5000
    reply = await api.call("GET", "/api/large", headers={"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in reply.headers
    assert reply.headers["Vary"] == "Accept-Encoding"
    reply = await api.call("GET", "/api/things/a", headers={"Accept-Encoding": accepted})
    assert "Content-Encoding" not in reply.headers


async def test_head_answers_as_get_does_without_a_body(serve: Serve) -> None:
    api = await serve(ROUTES)
    reply = await api.call("HEAD", "/api/things/a")
    assert (reply.status, reply.raw, reply.headers["ETag"]) == (200, b"", '"3"')


async def test_wrong_headers_are_named(serve: Serve) -> None:
    api = await serve(ROUTES)
    for match in ("", "3", "'3'", '"3', '"3" "4"'):
        reply = await api.call("PATCH", "/api/things/a", json={}, headers={"If-Match": match})
        told(reply, 422, "header-invalid")
        assert wrong(reply) == {"If-Match": "header"}
    for key in ("", "a b", "é", "x" * 256):
        reply = await api.call("POST", "/api/things", json={"name": "a"}, headers={"Idempotency-Key": key})
        told(reply, 422, "header-invalid")
