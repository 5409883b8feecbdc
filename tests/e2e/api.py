"""A caller of the gateway who holds every request and every answer against the served OpenAPI document."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import Any, TypeVar

import aiohttp
import orjson

from dataaggregator.http.agreement import validate_answer, validate_request
from dataaggregator.ids import new_id

Json = dict[str, Any]
T = TypeVar("T")
DEADLINE_SECONDS = 40.0
LOOK_SECONDS = 0.03
TERMINAL = frozenset({"succeeded", "failed", "cancelled", "timed_out", "skipped"})
NOTHING: Any = object()
PASSWORD = "correct horse battery"
NEVER_MADE = "nowhere"
"""The name by which tests ask for what is not there: one that made it would change what the others find."""


@dataclass(frozen=True)
class Answered:
    """A whole answer; `body` is JSON where it says so, else text, None where there is none."""

    status: int
    headers: Mapping[str, str]
    body: Any


@dataclass(frozen=True)
class Sent:
    """One server-sent event."""

    id: str | None
    event: str | None
    data: Json


async def until(look: Callable[[], Awaitable[T | None]], wanted: str, seconds: float = DEADLINE_SECONDS) -> T:
    """What `look` finds, as soon as it finds something."""
    deadline = time.monotonic() + seconds
    while True:
        found = await look()
        if found is not None:
            return found
        assert time.monotonic() < deadline, f"not within {seconds} s: {wanted}"
        await asyncio.sleep(LOOK_SECONDS)


@dataclass(frozen=True)
class Api:
    """Speaks to one gateway as one user; `workspace` None is the user's own."""

    http: aiohttp.ClientSession
    url: str
    document: Json
    token: str | None = None
    workspace: str | None = None
    always: dict[str, str] = field(default_factory=dict)
    """Headers of each call, of whoever speaks by it."""

    def anonymous(self) -> "Api":
        return replace(self, token=None)

    def entering(self, workspace: str) -> "Api":
        return replace(self, workspace=workspace)

    async def logged_in(self, email: str, password: str) -> "Api":
        """The same gateway, as somebody else in their own workspace."""
        pair = await self.anonymous().post("/api/auth/login", {"email": email, "password": password}, expect=200)
        return replace(self, token=pair["access_token"], workspace=None)

    async def new_user(self, role: str) -> Json:
        """A user made here with this role; all have one password."""
        body = {"email": f"{new_id().hex}@example.org", "password": PASSWORD, "role": role}
        user: Json = await self.post("/api/users", body)
        return user

    async def newcomer(self, role: str) -> "Api":
        """A new user with this role, logged in."""
        return await self.logged_in((await self.new_user(role))["email"], PASSWORD)

    async def call(
        self,
        method: str,
        path: str,
        body: object = NOTHING,
        *,
        raw: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, object] | None = None,
    ) -> Answered:
        """One call; whatever comes back must be what the document declares."""
        assert not (isinstance(body, dict) and body.get("name") == NEVER_MADE), "others take this for not there"
        content = raw if body is NOTHING else orjson.dumps(body)
        data = None if content is None else BytesIO(content)
        sent = {**self._headers(), **({} if data is None else {"Content-Type": "application/json"}), **(headers or {})}
        parameters = {name: str(value) for name, value in (query or {}).items()}
        async with self.http.request(method, self.url + path, data=data, headers=sent, params=parameters) as answer:
            read = await answer.read()
            validate_answer(self.document, method, path, answer.status, read, headers=answer.headers)
            if body is not NOTHING and answer.status < 400:
                validate_request(self.document, method, path, body)
            is_json = "json" in answer.headers.get("Content-Type", "") and read
            told = orjson.loads(read) if is_json else read.decode() or None
            return Answered(answer.status, answer.headers.copy(), told)

    async def good(self, method: str, path: str, body: object = NOTHING, *, expect: int, **more: Any) -> Any:
        """The body of an answer that has this status."""
        answer = await self.call(method, path, body, **more)
        assert answer.status == expect, f"{method} {path}: {answer.status} {answer.body}"
        return answer.body

    async def get(self, path: str, *, expect: int = 200, **query: object) -> Any:
        return await self.good("GET", path, expect=expect, query=query)

    async def file(self, path: str, **query: str) -> bytes:
        """A download, whole."""
        async with self.http.get(self.url + path, headers=self._headers(), params=query) as answer:
            read = await answer.read()
            validate_answer(self.document, "GET", path, answer.status, read, headers=answer.headers)
            assert answer.status == 200, read
            return read

    async def post(self, path: str, body: object = NOTHING, *, expect: int = 201, **more: Any) -> Any:
        return await self.good("POST", path, body, expect=expect, **more)

    async def put(self, path: str, body: object, *, expect: int = 200, **more: Any) -> Any:
        return await self.good("PUT", path, body, expect=expect, **more)

    async def patch(self, path: str, body: object, *, expect: int = 200, **more: Any) -> Any:
        return await self.good("PATCH", path, body, expect=expect, **more)

    async def delete(self, path: str, *, expect: int = 204, **more: Any) -> Any:
        return await self.good("DELETE", path, expect=expect, **more)

    async def refused(self, method: str, path: str, body: object = NOTHING, **more: Any) -> Json:
        """The problem an answer is: one that names a cure and, in `errors`, each wrong field."""
        answer = await self.call(method, path, body, **more)
        assert answer.status >= 400, f"{method} {path}: {answer.status} {answer.body}"
        assert answer.headers["Content-Type"].startswith("application/problem+json"), answer
        problem: Json = answer.body
        assert problem["status"] == answer.status
        assert problem["detail"], problem
        assert problem["help"].endswith(f"#{problem['code']}"), problem
        assert problem["type"].endswith(f"#{problem['code']}"), problem
        assert "Traceback" not in problem["detail"], problem
        return problem

    async def items(self, path: str, **query: object) -> list[Json]:
        """All items of a list, page after page."""
        found: list[Json] = []
        cursor: str | None = None
        while True:
            asked = query if cursor is None else {**query, "cursor": cursor}
            page = await self.good("GET", path, expect=200, query=asked)
            found += page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return found

    async def run(self, pipeline: str, body: object = NOTHING) -> Json:
        """Start a run and wait for its end."""
        started = await self.post(f"/api/pipelines/{pipeline}/runs", body, expect=202)
        return await self.ended(started["id"])

    async def ended(self, run: str) -> Json:
        """The run, once it has ended."""
        return await self.run_is(run, *TERMINAL)

    async def run_is(self, run: str, *statuses: str) -> Json:
        """The run, once its status is one of these."""

        async def look() -> Json | None:
            found: Json = await self.get(f"/api/runs/{run}")
            return found if found["status"] in statuses else None

        return await until(look, f"run {run} {' or '.join(statuses)}")

    async def settled(self) -> None:
        """Every event committed so far has reached every service: projections are up to date."""

        async def look() -> bool | None:
            backlog = (await self.get("/api/status"))["backlog"]
            return True if not any(line["pending"] for line in backlog) else None

        await until(look, "no event is waiting")

    @asynccontextmanager
    async def stream(
        self, path: str, *, last_id: str | None = None, **query: object
    ) -> AsyncIterator[AsyncIterator[Sent]]:
        """The events of a stream as they come; the whole must be over within the deadline."""
        headers = {**self._headers(), "Accept": "text/event-stream"}
        headers |= {} if last_id is None else {"Last-Event-ID": last_id}
        parameters = {name: str(value) for name, value in query.items()}
        async with asyncio.timeout(DEADLINE_SECONDS):
            async with self.http.get(self.url + path, headers=headers, params=parameters) as answer:
                assert answer.status == 200, await answer.text()
                assert answer.headers["Content-Type"].startswith("text/event-stream")
                yield _events(answer)

    def _headers(self) -> dict[str, str]:
        headers = {} if self.token is None else {"Authorization": f"Bearer {self.token}"}
        headers |= self.always
        return headers if self.workspace is None else {**headers, "X-Workspace": self.workspace}


async def _events(answer: aiohttp.ClientResponse) -> AsyncIterator[Sent]:
    fields: dict[str, str] = {}
    async for raw in answer.content:
        line = raw.decode().rstrip("\r\n")
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        elif "data" in fields:
            yield Sent(fields.get("id"), fields.get("event"), orjson.loads(fields["data"]))
            fields = {}
