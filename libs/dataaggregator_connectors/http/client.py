"""Requests to one API: through the egress, logged in, at a polite pace, with answers bounded in size."""

import asyncio
import base64
import datetime
import email.utils
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp

from dataaggregator.connector.context import Context
from dataaggregator.connector.documents import DoubledKeyError, loads
from dataaggregator.dataplane.redaction import Redaction
from dataaggregator.errors import Denied, Invalid, NotFound, PlatformError, RateLimited, Transient
from dataaggregator_connectors.http.config import (
    ApiKeyAuth,
    BasicAuth,
    BearerAuth,
    ClientCredentialsAuth,
    HttpConfig,
)

LARGEST_ANSWER_BYTES = 64 * 1024 * 1024
POLITE_TRIES = 5
POLITE_SECONDS = 60.0
DAY_SECONDS = 86_400.0
TOKEN_MARGIN_SECONDS = 30.0
TOKEN_SECONDS = 300.0
"""How long a token lives of which nobody says it."""
SHOWN_CHARS = 300


@dataclass(frozen=True)
class Ask:
    """One request; `where` names the page or batch in every error."""

    method: str
    url: str
    where: str
    params: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """A good answer: its document, and where its Link header says the next page is."""

    document: Any
    body: bytes
    next_url: str | None
    doubled: bool = False
    """Whether an object in the document has a key twice."""


class Refusal(Invalid):
    """The API does not take what was sent; `said` is its status and its words, without what we log in by."""

    def __init__(self, code: str, where: str, status: int, words: str) -> None:
        self.status = status
        self.said = f"{status}: {words}" if words else str(status)
        super().__init__(code, f"{where}: the API answered {self.said}")


class Client:
    """Opened at the first request; 429 and 503 are waited out within bounds, all else is left to the runner."""

    def __init__(self, config: HttpConfig, context: Context) -> None:
        self._config, self._context = config, context
        self._session: aiohttp.ClientSession | None = None
        self._token: tuple[str, float] | None = None
        self._next_at = 0.0

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def url(self, path: str) -> str:
        """The address of a path; a link to another origin would carry our login there, and is refused."""
        base = self._config.base_url + "/"
        url = urljoin(base, path.lstrip("/")) if "://" not in path else path
        if urlsplit(url)[:2] != urlsplit(base)[:2]:
            raise Invalid("egress-denied", f"{url} lies outside of {self._config.base_url}.")
        return url

    async def ask(self, ask: Ask) -> Answer:
        """The JSON answer, after waiting politely where the API asks for it."""
        where = ask.where
        for tried in range(1, POLITE_TRIES + 1):
            await self._pace()
            try:
                answer, wait = await self._once(ask)
            except (aiohttp.ClientError, TimeoutError) as error:
                said = str(error) or type(error).__name__
                raise Transient("connector-unreachable", f"{where}: the answer broke off: {said}") from error
            if answer is not None:
                return answer
            pause = min(2.0 ** (tried - 1), POLITE_SECONDS) if wait is None else wait
            if tried == POLITE_TRIES or pause > POLITE_SECONDS:
                raise RateLimited("rate-limited", f"{where}: the API asks to wait {pause:.0f} s.", retry_after=pause)
            await asyncio.sleep(pause)
        raise AssertionError("the last try returns or raises")

    async def _once(self, ask: Ask) -> tuple[Answer | None, float | None]:
        """The answer, or None and how long to wait if the API says when; no error repeats what we log in by."""
        login_headers, login_params = await self._login()
        sent = {**{name: value.get_secret_value() for name, value in self._config.headers.items()}, **login_headers}
        redaction = Redaction(value.split(" ")[-1] for value in (*sent.values(), *login_params.values()))
        if ask.body is not None:
            sent["Content-Type"] = "application/json"
        async with self._open().request(
            ask.method,
            ask.url,
            params={**ask.params, **login_params},
            data=ask.body,
            headers={**sent, **ask.headers},
            allow_redirects=False,
        ) as response:
            if response.status in (429, 503) or (response.status == 409 and "Retry-After" in response.headers):
                return None, _retry_after(response.headers.get("Retry-After"))
            content = await _bounded(response, ask.where)
            if response.status >= 300:
                words = redaction.text(_shown(content))
                raise _meaning(response.status, words, ask.where, response.headers.get("Location"))
            link = response.links.get("next")
            next_url = str(link["url"]) if link is not None else None
            document, doubled = _document(content, ask.where)
            return Answer(document, content, next_url, doubled), None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=self._config.timeout_seconds)
            self._session = self._context.egress.session(timeout=timeout)
        return self._session

    async def _pace(self) -> None:
        if self._config.rate_limit is None:
            return
        now = asyncio.get_running_loop().time()
        start = max(now, self._next_at)
        self._next_at = start + 1.0 / self._config.rate_limit
        await asyncio.sleep(start - now)

    async def _login(self) -> tuple[dict[str, str], dict[str, str]]:
        match self._config.auth:
            case BearerAuth(token=token):
                return {"Authorization": f"Bearer {token.get_secret_value()}"}, {}
            case BasicAuth(username=username, password=password):
                pair = base64.b64encode(f"{username}:{password.get_secret_value()}".encode()).decode()
                return {"Authorization": f"Basic {pair}"}, {}
            case ApiKeyAuth(name=name, value=value, place="query"):
                return {}, {name: value.get_secret_value()}
            case ApiKeyAuth(name=name, value=value):
                return {name: value.get_secret_value()}, {}
            case ClientCredentialsAuth() as auth:
                return {"Authorization": f"Bearer {await self._client_token(auth)}"}, {}
            case _:
                return {}, {}

    async def _client_token(self, auth: ClientCredentialsAuth) -> str:
        now = asyncio.get_running_loop().time()
        if self._token is not None and now < self._token[1]:
            return self._token[0]
        form = {"grant_type": "client_credentials"} | ({"scope": auth.scope} if auth.scope else {})
        login = aiohttp.encode_basic_auth(auth.client_id, auth.client_secret.get_secret_value())
        async with self._open().post(
            auth.token_url, data=form, headers={"Authorization": login}, allow_redirects=False
        ) as response:
            content = await _bounded(response, "token")
            if response.status != 200:
                words = Redaction([auth.client_secret.get_secret_value()]).text(_shown(content))
                raise _no_token(response.status, f"The token was refused ({response.status}): {words}")
            document, _ = _document(content, "token")
        if not isinstance(document, dict) or not isinstance(document.get("access_token"), str):
            raise Denied("connector-login-failed", "The token endpoint's answer has no access_token.")
        life = _life(document.get("expires_in"))
        self._token = (document["access_token"], now + max(0.0, life - TOKEN_MARGIN_SECONDS))
        return self._token[0]


async def _bounded(response: aiohttp.ClientResponse, where: str) -> bytes:
    parts, size = [], 0
    async for chunk in response.content.iter_chunked(1024 * 1024):
        size += len(chunk)
        if size > LARGEST_ANSWER_BYTES:
            raise Invalid("http-page-too-large", f"{where}: the answer is larger than {LARGEST_ANSWER_BYTES} bytes.")
        parts.append(chunk)
    return b"".join(parts)


def _document(content: bytes, where: str) -> tuple[Any, bool]:
    """The document, and whether an object in it has a key twice."""
    if not content.strip():
        return None, False
    try:
        return loads(content), False
    except DoubledKeyError as error:
        return error.document, True
    except ValueError as error:
        raise Invalid("http-malformed", f"{where}: the answer is not JSON: {error}") from error


def _retry_after(text: str | None) -> float | None:
    if text is None:
        return None
    if text.strip().isdecimal():
        return min(float(text), DAY_SECONDS)
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:  # "-0000": the time is UTC, and the place unknown
        moment = moment.replace(tzinfo=datetime.UTC)
    return max(0.0, (moment - datetime.datetime.now(datetime.UTC)).total_seconds())


def _life(told: Any) -> float:
    try:
        return float(told or TOKEN_SECONDS)
    except (TypeError, ValueError, OverflowError):
        return TOKEN_SECONDS


def _no_token(status: int, said: str) -> PlatformError:
    """What passes by itself is tried again, as at any other address of the API."""
    if status >= 500 or status in (408, 429):
        return Transient("connector-unreachable", said)
    return Denied("connector-login-failed", said)


def _meaning(status: int, words: str, where: str, location: str | None) -> Exception:
    said = f"{where}: the API answered {status}: {words}"
    if status < 400:
        return Invalid(
            "http-status", f"{where}: the API redirects to {location}; write that address as base_url or path."
        )
    if status in (401, 403):
        return Denied("connector-login-failed", said)
    if status == 404:
        return NotFound("stream-missing", said)
    if status >= 500 or status == 408:
        return Transient("connector-unreachable", said)
    return Refusal("http-batch-too-large" if status == 413 else "http-status", where, status, words)


def _shown(content: bytes) -> str:
    """On one line, without what no index can hold."""
    text = content[: 8 * SHOWN_CHARS].decode(errors="replace")
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())[:SHOWN_CHARS]
