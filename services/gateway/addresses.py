"""Addresses: who is really calling, when proxies stand between. Pure."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

# An address of IPv6 with a zone; what is longer is none, and is not worth remembering.
LONGEST = 64


def networks(written: Sequence[str]) -> tuple[Network, ...]:
    return tuple(ip_network(network, strict=False) for network in written)


def within(address: str, trusted: Sequence[Network]) -> bool:
    if not trusted:
        return False
    parsed = _parsed(address)
    return parsed is not None and any(parsed in network for network in trusted)


def caller_of(peer: str, forwarded: str | None, proxies: Sequence[Network]) -> str:
    """The address of the caller: the peer, or behind trusted proxies the last address they did not make up.

    X-Forwarded-For is read from its end: everything before the first untrusted address could be invented.
    """
    caller = peer
    for claimed in reversed((forwarded or "").split(",")):
        if not within(caller, proxies):
            break
        if _parsed(claimed.strip()) is None:
            break
        caller = claimed.strip()
    return _written(caller) if len(caller) <= LONGEST else caller


def scheme_of(peer: str, own: str, forwarded: str | None, proxies: Sequence[Network]) -> str:
    """How the caller came: as this connection did, or as the trusted proxy in front of it says that it did."""
    told = (forwarded or "").rpartition(",")[2].strip().lower()
    return told if told in ("http", "https") and within(peer, proxies) else own


def _parsed(address: str) -> Address | None:
    return _read(address) if len(address) <= LONGEST else None


@lru_cache(maxsize=4096)
def _read(address: str) -> Address | None:
    try:
        parsed = ip_address(address)
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return mapped or parsed


@lru_cache(maxsize=4096)
def _written(address: str) -> str:
    """The one way in which an address is written."""
    parsed = _read(address)
    return address if parsed is None else str(parsed)


def bucket_of(address: str) -> str:
    """What a limit is counted by: an IPv6 caller owns a whole /64 and could take a new address for each call."""
    parsed = _parsed(address)
    if isinstance(parsed, IPv6Address):
        return str(ip_network((parsed, 64), strict=False))
    return address
