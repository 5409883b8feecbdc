"""What an address leads to, once every way of wrapping one address in another is undone."""

import ipaddress
from collections.abc import Iterator
from enum import Enum

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
NAT64_LOCAL = ipaddress.IPv6Network("64:ff9b:1::/48")
V4_COMPATIBLE = ipaddress.IPv6Network("::/96")
V4_TRANSLATED = ipaddress.IPv6Network("::ffff:0:0:0/96")
ISATAP = (0x00005EFE, 0x02005EFE)

# Cloud metadata and host-agent addresses: they hand out credentials to whoever asks.
METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254",
        "169.254.170.2",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",
        "fd00:42::42",
    )
)


class Reach(Enum):
    """PUBLIC may be reached, PRIVATE when an operator says so, NEVER under no setting."""

    PUBLIC = "public"
    PRIVATE = "private"
    NEVER = "never"


def reach(text: str) -> tuple[Reach, tuple[IPAddress, ...]]:
    """The strictest judgement over the address and all addresses wrapped in it, with those addresses."""
    addresses = tuple(_unwrapped(ipaddress.ip_address(text)))
    kinds = {_judge(address) for address in addresses}
    if Reach.NEVER in kinds:
        return Reach.NEVER, addresses
    return (Reach.PRIVATE if Reach.PRIVATE in kinds else Reach.PUBLIC), addresses


def _unwrapped(address: IPAddress) -> Iterator[IPAddress]:
    if isinstance(address, ipaddress.IPv4Address):
        yield address
        return
    inner = list(_inside(address))
    # A plain v4-mapped address is its v4 address; every other wrapping is judged with what it wraps.
    if address.ipv4_mapped is None:
        yield address
    for below in inner:
        yield from _unwrapped(below)


def _inside(address: ipaddress.IPv6Address) -> Iterator[ipaddress.IPv4Address]:
    low = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    if address in NAT64 or address in V4_TRANSLATED or (address in V4_COMPATIBLE and int(address) > 1):
        yield low
    if address in NAT64_LOCAL:
        yield low
        # RFC 6052, 2.2: a /48 prefix spreads the address around the reserved octet 8.
        packed = address.packed
        yield ipaddress.IPv4Address(packed[6:8] + packed[9:11])
    if (int(address) >> 32) & 0xFFFFFFFF in ISATAP:
        yield low


def _judge(address: IPAddress) -> Reach:
    if address in METADATA or address.is_link_local or address.is_multicast or address.is_unspecified:
        return Reach.NEVER
    if isinstance(address, ipaddress.IPv4Address) and (int(address) >> 24) in (0, *range(240, 256)):
        return Reach.NEVER
    if address.is_global and not getattr(address, "is_site_local", False):
        return Reach.PUBLIC
    # NAT64 and v4-translated prefixes are only roads: what they wrap is judged by itself.
    if isinstance(address, ipaddress.IPv6Address) and (address in NAT64 or address in V4_TRANSLATED):
        return Reach.PUBLIC
    return Reach.PRIVATE
