"""HTTP through the one way out: every connection of a client is judged, and made to the address that was."""

import socket
from collections.abc import Sequence
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from dataaggregator.connector.egress import Address, Egress


def guarded_session(egress: Egress, **options: Any) -> aiohttp.ClientSession:
    connector = _GuardedConnector(egress)
    return aiohttp.ClientSession(connector=connector, trust_env=False, cookie_jar=aiohttp.DummyCookieJar(), **options)


class _GuardedConnector(aiohttp.TCPConnector):
    """Judges literal addresses too, which aiohttp does not show to a resolver."""

    def __init__(self, egress: Egress) -> None:
        super().__init__(resolver=_GuardedResolver(egress), use_dns_cache=False, ttl_dns_cache=None)
        self._egress = egress

    async def _resolve_host(self, host: str, port: int, traces: Sequence[Any] | None = None) -> list[ResolveResult]:
        del traces
        return _as_results(await self._egress.resolve_all(host, port))


class _GuardedResolver(AbstractResolver):
    def __init__(self, egress: Egress) -> None:
        self._egress = egress

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        del family
        return _as_results(await self._egress.resolve_all(host, port))

    async def close(self) -> None:
        return None


def _as_results(addresses: Sequence[Address]) -> list[ResolveResult]:
    return [
        ResolveResult(
            hostname=address.host,
            host=address.ip,
            port=address.port,
            family=socket.AF_INET6 if ":" in address.ip else socket.AF_INET,
            proto=socket.IPPROTO_TCP,
            flags=socket.AI_NUMERICHOST,
        )
        for address in addresses
    ]
