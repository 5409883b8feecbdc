"""The Python client: what a program of yours says to the gateway, with logins renewed and errors raised.

async with Client("http://localhost:8001") as client:
    await client.login("you@example.org", password)
    run = await client.start_run("delay-by-airline")
    async for event in client.run_events(run["id"]):
        print(event["type"])
"""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import aiohttp
import orjson

from dataaggregator.ids import new_id

Json = dict[str, Any]
TERMINAL = frozenset({"succeeded", "failed", "cancelled", "timed_out", "skipped"})
REQUEST_TIMEOUT_SECONDS = 60.0
SILENCE_LIMIT_SECONDS = 45.0  # three heartbeats of the event stream
RECONNECT_SECONDS = 0.5
AWAY = frozenset({502, 503, 504})
RECONNECT_TRIES = 60
MIRROR_SECONDS = 0.02  # the feed may tell of an end a moment before the run itself says so
MIRROR_TRIES = 500
LINE_LIMIT_BYTES = 8 * 1024 * 1024  # one event: run.queued carries a whole definition


class ApiError(Exception):
    """The platform said no: ``problem`` is its answer by RFC 9457, whose ``code`` is stable."""

    def __init__(self, problem: Mapping[str, Any]) -> None:
        self.problem = dict(problem)
        self.code = str(problem.get("code", "unknown"))
        self.status = int(problem.get("status", 0))
        lines = [str(problem.get("detail") or problem.get("title") or self.code)]
        lines += [f"  {error['field']}: {error['message']}" for error in problem.get("errors", [])]
        super().__init__("\n".join(lines))


class UnreachableError(Exception):
    """Nothing answers at this address: the platform is not up, went away, or the address is wrong."""


@dataclass(frozen=True)
class ServerSentEvent:
    """One event of a stream; ``id`` is the position to resume after (None for what is not stored)."""

    id: str | None
    kind: str
    data: Json


class Client:
    """A session with one gateway, for one workspace (None: the caller's own).

    Without an address it takes DATAAGGREGATOR_URL, else http://localhost:8001. At one that begins with https the
    gateway's certificate has to be of an authority in the file `authority` (PEM), else in that of
    DATAAGGREGATOR_CA_FILE, else of one that this machine trusts.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        refresh_token: str | None = None,
        workspace: str | None = None,
        authority: Path | None = None,
    ) -> None:
        named = os.environ.get("DATAAGGREGATOR_CA_FILE")
        self._authority = authority or (Path(named) if named else None)
        self.url = (url or os.environ.get("DATAAGGREGATOR_URL") or "http://localhost:8001").rstrip("/")
        self._token = token
        self._refresh = refresh_token
        self._workspace = workspace
        self._http: aiohttp.ClientSession | None = None
        self._renewal = asyncio.Lock()

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_SECONDS)
        connector = None if self._authority is None else aiohttp.TCPConnector(ssl=_trusting(self._authority))
        self._http = aiohttp.ClientSession(
            connector=connector, timeout=timeout, trust_env=False, read_bufsize=LINE_LIMIT_BYTES
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._http is not None:
            await self._http.close()

    async def login(self, email: str, password: str) -> None:
        """Log in; the tokens are kept in this object only and renewed when they end."""
        answer = await self.post("/api/auth/login", {"email": email, "password": password})
        self._token, self._refresh = answer["access_token"], answer["refresh_token"]

    @property
    def tokens(self) -> tuple[str | None, str | None]:
        """Access and refresh token as they are now, for whoever keeps a login over several programs."""
        return self._token, self._refresh

    async def get(self, path: str, **parameters: object) -> Any:
        """Return what is at this path."""
        return await self._call("GET", path, parameters=parameters)

    async def post(self, path: str, body: object = None) -> Any:
        """Create or start something; the idempotency key makes a repeated request harmless."""
        return await self._call("POST", path, body, {"Idempotency-Key": str(new_id())})

    async def put(self, path: str, body: object) -> Any:
        """Replace what is at this path."""
        return await self._call("PUT", path, body)

    async def patch(self, path: str, body: object) -> Any:
        """Change the fields given (RFC 7396)."""
        return await self._call("PATCH", path, body)

    async def delete(self, path: str, **parameters: object) -> Any:
        """Remove what is at this path; the answer, where there is one."""
        return await self._call("DELETE", path, parameters=parameters)

    async def pages(self, path: str, **parameters: object) -> AsyncIterator[Json]:
        """Yield the items of a list, page after page."""
        cursor: str | None = None
        while True:
            page = await self.get(path, **parameters, cursor=cursor)
            for item in page["items"]:
                yield item
            cursor = page["next_cursor"]
            if cursor is None:
                return

    async def download(self, path: str, into: BinaryIO, **parameters: object) -> None:
        """Write what is at this path as it comes; raises UnreachableError if it breaks off before its end."""
        token = self._token
        try:
            await self._receive(path, into, parameters)
        except ApiError as error:
            if error.status != 401 or self._refresh is None:
                raise
            await self._renew(token)
            await self._receive(path, into, parameters)

    async def _receive(self, path: str, into: BinaryIO, parameters: Mapping[str, object]) -> None:
        timeout = aiohttp.ClientTimeout(total=None, sock_read=REQUEST_TIMEOUT_SECONDS)
        request = self._session().get(
            self.url + path, headers=self._headers(), params=_query(parameters), timeout=timeout
        )
        try:
            async with request as answer:
                if answer.status != 200:
                    raise ApiError(await _problem(answer))
                async for piece in answer.content.iter_any():
                    into.write(piece)
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError) as error:
            raise UnreachableError(f"The download of {path} broke off; what came of it is not all.") from error

    async def save(self, path: str, definition: Json) -> tuple[Json, bool]:
        """Create the definition, or replace the one of the same name; True when it is new."""
        try:
            return await self.put(f"{path}/{definition['name']}", definition), False
        except ApiError as error:
            if error.status != 404:
                raise
        return await self.post(path, definition), True

    async def start_run(
        self,
        pipeline: str,
        parameters: Mapping[str, object] | None = None,
        *,
        full_refresh: bool = False,
        priority: str | None = None,
    ) -> Json:
        """Start a run of the pipeline (name or id) and return it; `priority` is the pipeline's unless given."""
        body: Json = {"full_refresh": full_refresh}
        if priority:
            body["priority"] = priority
        if parameters:
            body["parameters"] = dict(parameters)
        run: Json = await self.post(f"/api/pipelines/{pipeline}/runs", body)
        return run

    async def run_events(self, run_id: str) -> AsyncIterator[Json]:
        """Yield the run's CloudEvents, live, up to and with its last one."""
        async for event in self.events(f"/api/runs/{run_id}/events"):
            if event.kind == "reset":
                continue
            yield event.data
            words = str(event.data.get("type", "")).split(".")
            if len(words) > 1 and words[0] == "run" and words[1] in TERMINAL:
                return

    async def finished_run(self, run_id: str) -> Json:
        """Wait for the run's end and return the run as it then is."""
        run: Json = await self.get(f"/api/runs/{run_id}")
        if run["status"] not in TERMINAL:
            async for _ in self.run_events(run_id):
                pass
        for _ in range(MIRROR_TRIES):
            run = await self.get(f"/api/runs/{run_id}")
            if run["status"] in TERMINAL:
                break
            await asyncio.sleep(MIRROR_SECONDS)
        return run

    async def events(self, path: str = "/api/events", **parameters: object) -> AsyncIterator[ServerSentEvent]:
        """Yield server-sent events, resuming after the last one seen when the connection breaks."""
        last_id: str | None = None
        failures = 0
        broken: Exception | None = None  # None also where a stopping gateway closed the stream properly
        while True:
            try:
                async for event in self._stream(path, parameters, last_id):
                    last_id = event.id or last_id
                    failures = 0
                    yield event
            except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError) as error:
                broken = error
            except ApiError as error:
                if not await self._may_ask_again(error):
                    raise
                broken = error
            failures += 1
            if failures > RECONNECT_TRIES:
                raise UnreachableError(
                    f"The event stream of {self.url} broke off {failures} times in a row."
                ) from broken
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _may_ask_again(self, refused: ApiError) -> bool:
        """What a stream comes from may be starting anew, and a stream outlives the token that began it."""
        if refused.status == 401 and self._refresh is not None:
            await self._renew(self._token)
            return True
        return refused.status in AWAY

    async def _stream(
        self, path: str, parameters: Mapping[str, object], last_id: str | None
    ) -> AsyncIterator[ServerSentEvent]:
        headers = {**self._headers(), "Accept": "text/event-stream"}
        if last_id is not None:
            headers["Last-Event-ID"] = last_id
        timeout = aiohttp.ClientTimeout(total=None, sock_read=SILENCE_LIMIT_SECONDS)
        request = self._session().get(self.url + path, headers=headers, params=_query(parameters), timeout=timeout)
        async with request as answer:
            if answer.status != 200:
                raise ApiError(await _problem(answer))
            fields: dict[str, str] = {}
            async for raw in answer.content:
                line = raw.decode().rstrip("\r\n")
                if line:
                    name, _, value = line.partition(":")
                    value = value.removeprefix(" ")
                    fields[name] = f"{fields[name]}\n{value}" if name == "data" and name in fields else value
                elif "data" in fields:
                    data = orjson.loads(fields["data"])
                    yield ServerSentEvent(fields.get("id"), fields.get("event", "message"), data)
                    fields = {}

    async def _call(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        parameters: Mapping[str, object] | None = None,
    ) -> Any:
        token = self._token
        status, answer = await self._send(method, path, body, headers, parameters)
        if status == 401 and self._refresh is not None and not path.startswith("/api/auth/"):
            await self._renew(token)
            status, answer = await self._send(method, path, body, headers, parameters)
        if status >= 400:
            raise ApiError(answer)
        return answer

    async def _send(
        self,
        method: str,
        path: str,
        body: object,
        headers: Mapping[str, str] | None,
        parameters: Mapping[str, object] | None,
    ) -> tuple[int, Any]:
        data = None if body is None else orjson.dumps(body)
        sent = {**self._headers(), "Content-Type": "application/json", **(headers or {})}
        try:
            async with self._session().request(
                method, self.url + path, data=data, headers=sent, params=_query(parameters or {})
            ) as answer:
                if answer.status >= 400:
                    return answer.status, await _problem(answer)
                raw = await answer.read()
                return answer.status, orjson.loads(raw) if raw else None
        except (aiohttp.ClientSSLError, ssl.SSLError) as error:
            raise UnreachableError(
                f"What answers at {self.url} cannot prove over TLS that it is what is asked for: {_reason(error)}. "
                "Name the address that its certificate is for, and with --ca-file or DATAAGGREGATOR_CA_FILE its "
                "authority, where that is one of your own."
            ) from error
        except aiohttp.ClientConnectorError as error:
            raise UnreachableError(
                f"Nothing answers at {self.url}: start the platform with `dataaggregator up`, "
                "or name its address with --url or DATAAGGREGATOR_URL."
            ) from error
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError) as error:
            raise UnreachableError(
                f"{self.url} went away before it had answered {method} {path}: "
                "whether that was carried out is not known."
            ) from error

    async def _renew(self, spent: str | None) -> None:
        """Change the refresh token for a new pair, once for all requests that were refused together."""
        async with self._renewal:
            if self._token != spent:
                return
            status, answer = await self._send("POST", "/api/auth/refresh", {"refresh_token": self._refresh}, None, None)
            if status >= 400:
                raise ApiError(answer)
            self._token, self._refresh = answer["access_token"], answer["refresh_token"]

    def _headers(self) -> dict[str, str]:
        headers = {}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        if self._workspace:
            headers["X-Workspace"] = self._workspace
        return headers

    def _session(self) -> aiohttp.ClientSession:
        if self._http is None:
            raise RuntimeError("use the client as a context manager: async with Client(...) as client")
        return self._http


def _trusting(authority: Path) -> ssl.SSLContext:
    """Trusts these authorities and no others; raises UnreachableError if the file has none."""
    try:
        return ssl.create_default_context(cafile=authority)
    except OSError as error:
        why = "it has none" if isinstance(error, ssl.SSLError) else error.strerror
        raise UnreachableError(
            f"{authority} (DATAAGGREGATOR_CA_FILE, --ca-file) should be a file with certificates of authorities (PEM): "
            f"{why}."
        ) from None


def _reason(error: Exception) -> str:
    cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
    return str(getattr(cause, "verify_message", None) or getattr(cause, "reason", None) or cause).rstrip(".")


def _query(parameters: Mapping[str, object]) -> list[tuple[str, str]]:
    """A parameter that is a list is given once for each of its values; None is not given."""
    each = (
        (name, one)
        for name, value in parameters.items()
        for one in (value if isinstance(value, list | tuple) else (value,))
    )
    return [(name, str(one).lower() if isinstance(one, bool) else str(one)) for name, one in each if one is not None]


async def _problem(answer: aiohttp.ClientResponse) -> Json:
    raw = await answer.read()
    try:
        problem = orjson.loads(raw)
    except orjson.JSONDecodeError:
        problem = None
    if isinstance(problem, dict) and "status" in problem:
        return problem
    detail = f"{answer.url} answered {answer.status} {answer.reason}, not by this platform's rules."
    return {"status": answer.status, "code": "unexpected-answer", "detail": detail}
