"""The one way out: a host is resolved once, judged, and then connected to at that very address."""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

from dataaggregator.connector.addresses import IPAddress, Reach, reach
from dataaggregator.errors import Invalid, Transient

if TYPE_CHECKING:
    import aiohttp

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

EVERYTHING = "*"


@dataclass(frozen=True)
class HostList:
    """Hosts (`db.internal`, `*.internal`) and networks (`10.0.0.0/8`) an operator has named; `*` is all the others."""

    hosts: frozenset[str] = frozenset()
    networks: tuple[IPNetwork, ...] = ()

    @classmethod
    def parse(cls, text: str | Iterable[str]) -> "HostList":
        entries = text.split(",") if isinstance(text, str) else text
        hosts: set[str] = set()
        networks: list[IPNetwork] = []
        for entry in (part.strip().lower() for part in entries):
            try:
                networks.append(ipaddress.ip_network(entry.strip("[]"), strict=False))
            except ValueError:
                if entry:
                    hosts.add(entry.rstrip("."))
        return cls(frozenset(hosts), tuple(networks))

    def names(self, host: str, addresses: Sequence[IPAddress]) -> bool:
        name = host.lower().rstrip(".")
        if name in self.hosts or any(h.startswith("*.") and name.endswith(h[1:]) for h in self.hosts):
            return True
        return any(address in network for address in addresses for network in self.networks)

    @property
    def others(self) -> bool:
        """Does it mean also what nobody has named?"""
        return EVERYTHING in self.hosts


def entries_for(entries: Iterable[str], workspace: UUID | None) -> tuple[str, ...]:
    """Those that count for a workspace: for all (`db.internal`), and for it alone (`db.internal@<id>`)."""
    parted = [entry.partition("@") for entry in entries]
    return tuple(host for host, at, named in parted if not at or (workspace is not None and UUID(named) == workspace))


def workspaces_in(entries: Iterable[str]) -> frozenset[UUID]:
    """The workspaces that have entries of their own."""
    return frozenset(UUID(named) for _, at, named in (entry.partition("@") for entry in entries) if at)


@dataclass(frozen=True)
class EgressPolicy:
    """Who may be reached: public addresses, private ones by `private` or by name, metadata addresses never.

    What `deny` names is closed whatever `allow` says; its `*` closes all that `allow` does not name.
    """

    allow: HostList = field(default_factory=HostList)
    deny: HostList = field(default_factory=HostList)
    private: bool = False

    @classmethod
    def of(cls, allow: Iterable[str], deny: Iterable[str], workspace: UUID | None) -> "EgressPolicy":
        """As settings write it, for one workspace, or for what belongs to none."""
        return cls(
            allow=HostList.parse(entries_for(allow, workspace)), deny=HostList.parse(entries_for(deny, workspace))
        )


@dataclass(frozen=True)
class Address:
    """Where to connect (`ip`, `port`) and under which name TLS verifies (`host`)."""

    ip: str
    port: int
    host: str


class Egress:
    """Judges every destination of every connector type by one policy."""

    def __init__(self, policy: EgressPolicy) -> None:
        self._policy = policy

    async def resolve(self, host: str, port: int) -> Address:
        """The address to connect to; Invalid "egress-denied" if any of the host's addresses may not be reached."""
        return (await self.resolve_all(host, port))[0]

    async def resolve_all(self, host: str, port: int) -> list[Address]:
        name = host.strip("[]")
        if not name or "/" in name or "\0" in name or "%" in name:
            raise Invalid("egress-denied", f"{host!r} is not a host name or an address.")
        try:
            found = await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise Transient("connector-unreachable", f"The host {name!r} cannot be resolved.") from error
        addresses = [Address(ip=str(info[4][0]), port=port, host=name) for info in found]
        for address in addresses:
            self._judge(address)
        return addresses

    async def knock(self, address: Address, timeout_seconds: float) -> None:
        """Only see that something listens at a resolved address; raises Transient "connector-unreachable"."""
        try:
            async with asyncio.timeout(timeout_seconds):
                _, writer = await asyncio.open_connection(address.ip, address.port)
        except (OSError, TimeoutError) as error:
            told = str(error) or f"no answer within {timeout_seconds:g} s"
            raise Transient("connector-unreachable", f"{address.host}:{address.port}: {told}") from error
        writer.close()

    def _judge(self, address: Address) -> None:
        """Every address of a host must pass: one that does not shows a name that is not to be trusted."""
        kind, addresses = reach(address.ip)
        if kind is Reach.NEVER:
            raise Invalid("egress-denied", f"{address.host!r} leads to {address.ip}, which is never reached.")
        if self._policy.deny.names(address.host, addresses):
            raise Invalid("egress-denied", f"{address.host!r} ({address.ip}) is denied by EGRESS_DENY.")
        if self._policy.allow.names(address.host, addresses):
            return
        if self._policy.deny.others:
            raise Invalid(
                "egress-denied",
                f"{address.host!r} ({address.ip}) is not among what may be reached; an operator may name it in "
                "EGRESS_ALLOW.",
            )
        if kind is Reach.PRIVATE and not self._policy.private:
            raise Invalid(
                "egress-denied",
                f"{address.host!r} leads to the private address {address.ip}; an operator may name it in EGRESS_ALLOW.",
            )

    def session(self, **options: Any) -> "aiohttp.ClientSession":
        """An HTTP session whose every connection, redirects included, goes through this guard."""
        from dataaggregator.connector.guarded import guarded_session  # noqa: PLC0415 (only for who speaks HTTP)

        return guarded_session(self, **options)


class PinnedContext(ssl.SSLContext):
    """A TLS context for connections made to an address: the server is named and verified by its host name."""

    host: str = ""

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        del server_hostname
        return super().wrap_bio(incoming, outgoing, server_side=server_side, server_hostname=self.host, session=session)


def ssl_for(address: Address, *, verify: bool = True, check_host: bool = True, ca: str | None = None) -> PinnedContext:
    """A client context that keeps `address.host` for SNI and verification; `ca` is a PEM text of trusted roots."""
    context = PinnedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.host = address.host
    context.check_hostname = verify and check_host
    context.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
    if ca is not None:
        context.load_verify_locations(cadata=ca)
    elif verify:
        context.load_default_certs()
    return context
