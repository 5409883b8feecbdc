"""What Schemathesis is told before it calls: the names of things that are there, and what it must leave alone."""

import json
import os
import urllib.error
import urllib.request
import uuid
from typing import Any

import schemathesis
from schemathesis.generation.meta import TestPhase
from schemathesis.specs.openapi.checks import use_after_free

THERE: dict[str, str] = json.loads(os.environ["CONTRACT_THERE"])
"""Path parameter → the name of something that is there: calls must get past 404."""

MADE: dict[str, Any] = json.loads(os.environ["CONTRACT_MADE"])
"""Path → the body that makes it, for what a generated call may have deleted or renamed."""

BODIES: dict[str, list[Any]] = json.loads(os.environ.get("CONTRACT_BODIES", "{}"))
"""Path → right bodies, of which a sequence of calls makes something to go on with."""

PIPELINES = "/api/pipelines"

EMPTIED = ("/api/pipelines/{pipeline}/state",)
"""Paths whose DELETE empties what is there: it can be read as before, and says that nothing is in it."""

ADMINISTRATOR: list[str] = json.loads(os.environ["CONTRACT_ADMINISTRATOR"])
"""Whose token all calls carry, by id and e-mail: Schemathesis takes both from answers and puts them into paths."""


@schemathesis.check
def use_after_removal(
    ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case[Any]
) -> bool | None:
    """Schemathesis' own `use_after_free`, where a DELETE removes."""
    return None if case.operation.path in EMPTIED else use_after_free(ctx, response, case)


@schemathesis.hook
def map_path_parameters(ctx: schemathesis.HookContext, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    """Every other call is about something that is there."""
    if path_parameters and sum(map(len, map(str, path_parameters.values()))) % 2:
        return {name: THERE.get(name, value) for name, value in path_parameters.items()}
    return path_parameters


@schemathesis.hook
def filter_headers(ctx: schemathesis.HookContext, headers: dict[str, Any] | None) -> bool:
    """White space around a header's value is not part of it (RFC 9110, 5.5): the service never sees such a fault."""
    return all(str(value) == str(value).strip() for value in (headers or {}).values())


@schemathesis.hook
def map_headers(ctx: schemathesis.HookContext, headers: dict[str, Any] | None) -> dict[str, Any] | None:
    """The workspace of the call is where the things are; another one is 403 whatever else is said."""
    if headers:
        headers.pop("X-Workspace", None)
    return headers


@schemathesis.hook
def before_call(ctx: schemathesis.HookContext, case: schemathesis.Case[Any], kwargs: dict[str, Any]) -> None:
    """Put back what an earlier call took away, and leave the administrator as it is: its tokens would end."""
    if case.meta is not None and case.meta.phase.name == TestPhase.STATEFUL:
        begin(case)
    if case.method.upper() in ("GET", "HEAD") or not case.path_parameters:
        return
    if str(case.path_parameters.get("user", "")).strip().lower() in ADMINISTRATOR:
        case.path_parameters["user"] = THERE["user"]
    for path in MADE:
        if case.path.startswith(path):
            put_back(path)


def begin(case: schemathesis.Case[Any]) -> None:
    """What makes something in a sequence of calls makes it, by a new name: a body that is made up is refused."""
    bodies = BODIES.get(case.operation.path)
    if case.method.upper() == "POST" and bodies:
        body = bodies[len(str(case.body)) % len(bodies)]
        new = uuid.uuid4()
        named = {"name": f"made-{new}", "email": f"{new}@example.org"}
        case.body = {**body, **{name: value for name, value in named.items() if name in body}}
        case.headers.pop("Idempotency-Key", None)  # it may be that of another body


def put_back(path: str) -> None:
    """Make it anew, unless it is there. A pipeline needs its connector: earlier calls may have renamed or deleted it,
    or made another of its name, so there is a new one where the pipeline is refused."""
    refused = _post(path, MADE[path])
    if refused.startswith("422") and path == PIPELINES:
        connector = {**MADE["/api/connectors"], "name": f"used-{uuid.uuid4()}"}
        refused = _post("/api/connectors", connector)
        for one in (MADE[path]["sources"]["s"], MADE[path]["destinations"][0]):
            one["connector"] = connector["name"]
        refused = refused or _post(path, MADE[path])
    if refused and not refused.startswith("409"):  # 409: it is there
        raise AssertionError(f"{path} could not be put back: {refused}")


def _post(path: str, body: object) -> str:
    """Empty, or the status and the problem it was refused with."""
    request = urllib.request.Request(  # noqa: S310 - the platform under test
        os.environ["CONTRACT_URL"] + path,
        data=json.dumps(body).encode(),
        headers={
            "Authorization": f"Bearer {os.environ['CONTRACT_TOKEN']}",
            "Content-Type": "application/json",
        },
    )
    try:
        urllib.request.urlopen(request).close()  # noqa: S310 - the platform under test
    except urllib.error.HTTPError as refused:
        return f"{refused.code} {refused.read().decode()}"
    return ""
