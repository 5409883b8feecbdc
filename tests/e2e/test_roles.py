"""Every operation of the served document as every kind of caller: who lacks its permission is refused, nobody else."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from dataaggregator.ids import new_id
from tests.e2e.api import NEVER_MADE, Api, Json
from tests.security import tried

pytestmark = pytest.mark.security

VIEWER = frozenset({"self", "definitions:read", "runs:read"})
OPERATOR = VIEWER | {"runs:operate"}
EDITOR = OPERATOR | {"definitions:write", "data:read", "source:query"}
ADMIN = EDITOR | {"identity:admin", "platform:admin"}
SCOPE = "runs:read"
# As docs/guarantees/isolation.md has it: what each may do in the workspace `default`.
MAY: dict[str, frozenset[str]] = {
    "nobody": frozenset(),
    "member of another workspace": frozenset(),
    "key for runs:read": frozenset({"self", SCOPE}),
    "viewer": VIEWER,
    "operator": OPERATOR,
    "editor": EDITOR,
    "admin": ADMIN,
}
# Whose members and whose password it is decides as well, and there a key needs more than to be somebody's.
NOT_BY_KEY = frozenset(
    {
        "POST /api/auth/password",
        "GET /api/workspaces/{workspace}/members",
        "DELETE /api/workspaces/{workspace}/members/{user}",
    }
)
REFUSED = {401: ("token-missing",), 403: ("permission-denied", "workspace-denied")}
ONLY_BY_ID = ("run", "event", "delivery", "backfill")


@pytest.fixture(scope="module")
async def callers(api: Api, viewer: Api, operator: Api, stranger: Api) -> dict[str, Api]:
    key = await api.post("/api/api-keys", {"name": new_id().hex, "scopes": [SCOPE]})
    return {
        "nobody": api.anonymous(),
        "member of another workspace": stranger.entering("default"),
        "key for runs:read": replace(api, token=key["key"]),
        "viewer": viewer,
        "operator": operator,
        "editor": await api.newcomer("editor"),
        "admin": api,
    }


def operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    for template, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), template, operation


def permission_of(operation: Json) -> str | None:
    found: str | None = operation.get("x-permission")
    return found


def test_every_operation_declares_a_permission_that_some_role_has_or_that_it_is_open(api: Api) -> None:
    for method, template, operation in operations(api.document):
        needed = permission_of(operation)
        assert (needed is not None) == ("security" in operation), (method, template)
        assert needed is None or needed in ADMIN, (method, template, needed)


@pytest.mark.parametrize("caller", list(MAY))
async def test_who_lacks_the_permission_of_an_operation_is_refused_and_nobody_else(
    api: Api, callers: dict[str, Api], caller: str
) -> None:
    found = {f"{method} {template}": operation for method, template, operation in operations(api.document)}
    names = tried(found, kind=lambda name: permission_of(found[name]) or "open")
    wrong = []
    for name in names:
        needed = permission_of(found[name])
        status, code = await _asked(callers[caller], name, has_body="requestBody" in found[name])
        is_refused = status in REFUSED and code in REFUSED[status]
        may = needed is None or (needed in MAY[caller] and not (caller.startswith("key") and name in NOT_BY_KEY))
        if is_refused == may:
            wrong.append((name, needed, status, code))
    assert len(names) >= 20
    assert wrong == []


async def _asked(caller: Api, name: str, *, has_body: bool) -> tuple[int, str | None]:
    """How a call about what is not there, with a field that nothing has, is answered: it can change nothing."""
    method, _, template = name.partition(" ")
    path = template
    for parameter in [part[1:-1] for part in template.split("/") if part.startswith("{")]:
        path = path.replace(f"{{{parameter}}}", str(new_id()) if parameter in ONLY_BY_ID else NEVER_MADE)
    body = {"no_such_field": 1} if has_body else None
    headers = {} if caller.token is None else {"Authorization": f"Bearer {caller.token}"}
    headers |= {} if caller.workspace is None else {"X-Workspace": caller.workspace}
    async with caller.http.request(method, caller.url + path, headers=headers, json=body) as answer:
        # Streams have no end; refusals have.
        return answer.status, (await answer.json(content_type=None))["code"] if answer.status >= 400 else None
