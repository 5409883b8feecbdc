"""What lies inside a network, for tests of the way out: addresses, the ways to spell them, and who listens there."""

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass

INSIDE = (
    "127.0.0.1", "127.8.9.10", "10.1.2.3", "172.16.5.4", "192.168.1.1", "100.64.0.1", "169.254.169.254",
    "100.100.100.200", "0.0.0.0",  # noqa: S104  (nothing is bound)
)  # fmt: skip
OPEN_HOST = "127.0.0.2"
"""Of this machine, and open to who is let there."""
LOOPBACK = ("127.0.0.1", "127.8.9.10", OPEN_HOST)
DOTS = ("\u3002", "\uff0e", "\uff61")
ZEROS = {"fullwidth": 0xFF10, "Arabic-Indic": 0x0660, "mathematical": 0x1D7CE}


def spelled(address: str) -> Iterator[str]:
    """The ways in which some reader or other takes a text for this IPv4 address."""
    number = int(ipaddress.IPv4Address(address))
    a, b, c, d = ipaddress.IPv4Address(address).packed
    yield from (
        address,
        f"{number}",
        f"{number:#x}",
        f"{number:#X}",
        f"0{number:o}",
        f"00{number:#o}".replace("0o", ""),
    )
    yield from (f"{a}.{number & 0xFFFFFF}", f"{a}.{b}.{number & 0xFFFF}", f"{a:#x}.{b:#x}.{c:#x}.{d:#x}")
    yield from (f"0{a:o}.0{b:o}.0{c:o}.0{d:o}", f"{a:#x}.0{b:o}.{c}.{d}", f"{a:03}.{b:03}.{c:03}.{d:03}")
    yield from (f"{address}.", f"{a + 256}.{b}.{c}.{d}", f" {address}", f"{address} ", f"{address}%00", f"{address}%lo")
    for zero in ZEROS.values():
        yield "".join(chr(zero + int(letter)) if letter.isdigit() else letter for letter in address)
    yield from (address.replace(".", dot) for dot in DOTS)
    high, low = f"{number >> 16:x}", f"{number & 0xFFFF:x}"
    for prefix in ("::ffff:", "::FFFF:", "0:0:0:0:0:ffff:", "::ffff:0:", "::", "64:ff9b::", "64:ff9b:1::"):
        yield from (f"{prefix}{address}", f"[{prefix}{high}:{low}]")
    yield from (
        f"2002:{high}:{low}::",
        f"2002:{high}:{low}:1:2:3:4:5",
        f"::ffff:{address}%lo",
        f"[::ffff:{address}%25lo]",
    )
    # By a prefix of one's own, in its two places, with an address outside in the other one.
    yield from (f"64:ff9b:1:808:8:800:{high}:{low}", f"64:ff9b:1:{high}:{c:x}:{d << 8:x}:808:808")
    yield f"2001:0:4136:e378:8000:63bf:{(number >> 16) ^ 0xFFFF:x}:{(number & 0xFFFF) ^ 0xFFFF:x}"
    yield from (f"2606:4700::5efe:{high}:{low}", f"2606:4700::200:5efe:{high}:{low}", f"fe80::5efe:{address}")


@dataclass
class Canary:
    """Knows how often somebody came to where nobody may."""

    port: int = 0
    calls: int = 0


@asynccontextmanager
async def listening() -> AsyncIterator[Canary]:
    """On this machine alone: at one port of several addresses of its loopback."""
    canary = Canary()

    async def hear(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        canary.calls += 1
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    with ExitStack() as opened:
        sockets = at_one_port(opened)
        canary.port = sockets[0].getsockname()[1]
        async with AsyncExitStack() as servers:
            for one in sockets:
                await servers.enter_async_context(await asyncio.start_server(hear, sock=one))
            yield canary


def at_one_port(opened: ExitStack) -> list[socket.socket]:
    """Bound sockets; a port that is free at the first address is so at the others, but for a rare chance."""
    sockets = [opened.enter_context(socket.socket()) for _ in LOOPBACK]
    sockets[0].bind((LOOPBACK[0], 0))
    for host, one in zip(LOOPBACK[1:], sockets[1:], strict=True):
        one.bind((host, sockets[0].getsockname()[1]))
    return sockets
