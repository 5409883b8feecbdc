"""What Schemathesis is told before it calls: the names of things that are there, and what it must leave alone."""

import json
import os
import urllib.error
import urllib.request
from typing import Any

import schemathesis

THERE: dict[str, str] = json.loads(os.environ["CONTRACT_THERE"])
"""Path parameter → the name of something that is there: calls must get past 404."""

MADE: dict[str, Any] = json.loads(os.environ["CONTRACT_MADE"])
"""Path → the body that makes it, for what a generated call may have deleted or renamed."""

ADMINISTRATOR: list[str] = json.loads(os.environ["CONTRACT_ADMINISTRATOR"])
"""Whose token all calls carry, by id and e-mail: Schemathesis takes both from answers and puts them into paths."""


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
    if case.method.upper() in ("GET", "HEAD") or not case.path_parameters:
        return
    if str(case.path_parameters.get("user", "")).strip().lower() in ADMINISTRATOR:
        case.path_parameters["user"] = THERE["user"]
    for path, body in MADE.items():
        if case.path.startswith(path):
            _post(path, body)


def _post(path: str, body: object) -> None:
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
        refused.close()
        if refused.code != 409:  # 409: it is there
            raise
