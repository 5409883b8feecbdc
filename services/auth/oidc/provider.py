"""The identity provider: its discovery document, keys and answers, over the one way out and within bounds."""

import asyncio
import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import orjson

from dataaggregator.clock import Clock
from dataaggregator.connector.egress import Egress, EgressPolicy
from dataaggregator.errors import Invalid, Permanent, PlatformError, Transient, Unauthenticated
from dataaggregator.settings import Settings
from dataaggregator.telemetry.redaction import mask_text

from .domain import Attempt, Strength, usable

SECONDS = 10.0
MOST_BYTES = 256 * 1024
WELL_KNOWN = "/.well-known/openid-configuration"
DOCUMENT_FRESH = timedelta(hours=1)
KEYS_FRESH = timedelta(minutes=5)
# A token may name a key that is new; who makes keys up does not make us ask for them all the time.
ASK_AGAIN = timedelta(seconds=5)
_NEEDED = ("authorization_endpoint", "token_endpoint", "jwks_uri")
_USERINFO = "userinfo_endpoint"
_BASIC = "client_secret_basic"


@dataclass(frozen=True)
class Endpoints:
    """Where the provider answers what, and how it wants to know us."""

    authorization: str
    token: str
    keys: str
    userinfo: str | None
    takes_basic: bool
    says_issuer: bool


class Provider:
    """The provider of OIDC_ISSUER; nothing is asked of it before somebody logs in."""

    name = "identity-provider"

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.issuer = settings.oidc_issuer or ""
        self.client_id = settings.oidc_client_id or ""
        self.algorithm = settings.oidc_algorithm
        self._secret = settings.oidc_client_secret
        self._redirect_url = settings.oidc_redirect_url or ""
        self._scope = " ".join(settings.oidc_scopes)
        self.strengths = tuple(Strength.read(one) for one in settings.oidc_strength)
        self._levels = " ".join(one.value for one in self.strengths if one.claim == "acr")
        self._clock = clock
        self._egress = Egress(EgressPolicy.of(settings.egress_allow, settings.egress_deny, workspace=None))
        self._session: aiohttp.ClientSession | None = None
        self._endpoints: tuple[Endpoints, datetime] | None = None
        self._keys: dict[str, Any] = {}
        self._keys_at: datetime | None = None
        self._asking: asyncio.Task[None] | None = None

    async def open(self) -> None:
        # What comes back is never unpacked: a kilobyte of it could become a gigabyte.
        self._session = self._egress.session(auto_decompress=False)

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def ping(self) -> None:
        """Without it passwords, keys and sessions go on."""

    async def endpoints(self) -> Endpoints:
        """By its discovery document; raises Transient or Permanent."""
        now = self._clock.now()
        if self._endpoints is None or now - self._endpoints[1] >= DOCUMENT_FRESH:
            document = await self._get(self.issuer.rstrip("/") + WELL_KNOWN)
            self._endpoints = self._read(document), now
        return self._endpoints[0]

    async def login_url(self, attempt: Attempt) -> str:
        """Where a browser goes to log in."""
        where = (await self.endpoints()).authorization
        asked = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": self._redirect_url,
            "scope": self._scope,
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": attempt.challenge,
            "code_challenge_method": "S256",
            **({"acr_values": self._levels} if self._levels else {}),
        }
        return f"{where}{'&' if '?' in where else '?'}{urlencode(asked, quote_via=quote)}"

    async def exchange(self, code: str, verifier: str) -> tuple[str, str]:
        """Id token and access token for a code; raises Unauthenticated `oidc-refused` for one that is not good."""
        endpoints = await self.endpoints()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect_url,
            "code_verifier": verifier,
        }
        headers = {}
        if self._secret is not None and endpoints.takes_basic:
            headers["Authorization"] = _basic(self.client_id, self._secret.get_secret_value())
        else:
            form["client_id"] = self.client_id
            form |= {} if self._secret is None else {"client_secret": self._secret.get_secret_value()}
        status, told = await self._ask("POST", endpoints.token, headers, data=form)
        if status != 200:
            raise self._refused(status, told)
        id_token, access_token = told.get("id_token"), told.get("access_token")
        if not isinstance(id_token, str) or not isinstance(access_token, str):
            raise self._unusable("it gave no id token for a code")
        return id_token, access_token

    async def userinfo(self, access_token: str) -> Mapping[str, Any]:
        """What it says of somebody beside the id token; nothing where it has no address for that."""
        address = (await self.endpoints()).userinfo
        if address is None:
            return {}
        return await self._get(address, {"Authorization": f"Bearer {access_token}"})

    async def key(self, key_id: str) -> Any:
        """A key it signs with, or None; an unknown one is looked for anew, at most once in a few seconds."""
        age = ASK_AGAIN if self._find(key_id) is None else KEYS_FRESH
        if self._keys_at is None or self._clock.now() - self._keys_at >= age:
            await self._keys_anew()
        return self._find(key_id)

    async def _keys_anew(self) -> None:
        """Many logins at once ask once."""
        if self._asking is None:
            self._asking = asyncio.create_task(self._fetch_keys(), name="identity-provider-keys")
            self._asking.add_done_callback(self._asked)
        await asyncio.shield(self._asking)

    def _asked(self, task: asyncio.Task[None]) -> None:
        self._asking = None
        if not task.cancelled():
            task.exception()  # told to those who wait, if anybody still does

    async def _fetch_keys(self) -> None:
        now = self._clock.now()
        keys = (await self._get((await self.endpoints()).keys)).get("keys")
        self._keys = usable(keys if isinstance(keys, list) else [], self.algorithm)
        self._keys_at = now

    def _find(self, key_id: str) -> Any:
        """A token that names no key can only mean the one there is."""
        if not key_id and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(key_id) if key_id else None

    async def _get(self, url: str, headers: Mapping[str, str] | None = None) -> Mapping[str, Any]:
        status, told = await self._ask("GET", url, headers or {})
        if status != 200:
            raise self._unusable(f"{url} answers {status}")
        return told

    async def _ask(
        self, method: str, url: str, headers: Mapping[str, str], data: Mapping[str, str] | None = None
    ) -> tuple[int, Mapping[str, Any]]:
        """Status and JSON object of an answer; raises Transient where there is none, Permanent for what is none."""
        if self._session is None:
            raise Transient("service-unavailable", "The service auth is stopping.", retry_after=5)
        own = {"Accept": "application/json", "Accept-Encoding": "identity", **headers}
        try:
            async with (
                asyncio.timeout(SECONDS),
                self._session.request(method, url, headers=own, data=data, allow_redirects=False) as answer,
            ):
                body = await _bounded(answer)
                status = answer.status
        except Invalid as denied:
            raise self._unusable(f"it may not be reached: {denied.detail}") from denied
        except (PlatformError, aiohttp.ClientError, OSError, TimeoutError, ValueError) as broken:
            told = mask_text(str(broken)) or f"no whole answer within {SECONDS:g} s"
            raise self._away(told) from broken
        if status >= 500 or status == 429:
            raise self._away(f"it answers {status}")
        if 300 <= status < 400:
            raise self._unusable(f"{url} answers {status}: redirects are not followed")
        return status, self._object(url, body)

    def _object(self, url: str, body: bytes | None) -> Mapping[str, Any]:
        if body is None:
            raise self._unusable(f"{url} answers with more than {MOST_BYTES // 1024} KiB")
        try:
            told = orjson.loads(body)
        except orjson.JSONDecodeError:
            told = None
        if not isinstance(told, dict):
            raise self._unusable(f"{url} answers with something else than a JSON object")
        return told

    def _read(self, document: Mapping[str, Any]) -> Endpoints:
        """Only a document of the very issuer counts, and only addresses that are as safe as its own."""
        said = document.get("issuer")
        if said != self.issuer:
            raise self._unusable(f"its discovery document is of the issuer {str(said)[:200]!r}")
        challenges = _listed(document, "code_challenge_methods_supported", "S256")
        algorithms = _listed(document, "id_token_signing_alg_values_supported", self.algorithm)
        if "S256" not in challenges or self.algorithm not in algorithms:
            raise self._unusable(f"it does not do PKCE by S256 and sign by {self.algorithm} (OIDC_ALGORITHM)")
        where = {name: document[name] for name in (*_NEEDED, _USERINFO) if document.get(name) is not None}
        if missing := [name for name in _NEEDED if name not in where]:
            raise self._unusable(f"its discovery document lacks {missing[0]}")
        safe = ("https://", f"{self.issuer.partition('://')[0]}://")
        for name, address in where.items():
            if not isinstance(address, str) or not address.startswith(safe):
                raise self._unusable(f"its {name} is not an https address")
        return Endpoints(
            authorization=where["authorization_endpoint"],
            token=where["token_endpoint"],
            keys=where["jwks_uri"],
            userinfo=where.get(_USERINFO),
            takes_basic=_BASIC in _listed(document, "token_endpoint_auth_methods_supported", _BASIC),
            says_issuer=document.get("authorization_response_iss_parameter_supported") is True,
        )

    def _refused(self, status: int, told: Mapping[str, Any]) -> PlatformError:
        """A code that is none is the caller's matter, everything else is between the provider and us."""
        error = mask_text(str(told.get("error", status)))[:200]
        if error == "invalid_grant":
            return Unauthenticated("oidc-refused", f"The identity provider {self.issuer} does not take this code.")
        return self._unusable(f"it refuses to exchange a code: {error}")

    def _unusable(self, why: str) -> Permanent:
        return Permanent("oidc-provider-unusable", f"The identity provider {self.issuer} cannot be used: {why}.")

    def _away(self, why: str) -> Transient:
        detail = f"The identity provider {self.issuer} does not answer: {why}."
        return Transient("oidc-provider-unavailable", detail, retry_after=5)


async def _bounded(answer: aiohttp.ClientResponse) -> bytes | None:
    """The body, or None for one that is too large."""
    body = bytearray()
    async for chunk in answer.content.iter_any():
        body += chunk
        if len(body) > MOST_BYTES:
            return None
    return bytes(body)


def _listed(document: Mapping[str, Any], name: str, otherwise: str) -> list[Any]:
    given = document.get(name)
    return given if isinstance(given, list) else [otherwise]


def _basic(client_id: str, secret: str) -> str:
    """RFC 6749, 2.3.1: both are form-encoded first."""
    pair = f"{quote(client_id, safe='')}:{quote(secret, safe='')}"
    return "Basic " + base64.b64encode(pair.encode()).decode()
