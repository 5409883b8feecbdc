"""What the gateway costs a call: token, limit, metrics, trace and log on, beside a bare aiohttp proxy of the same call.

Both stand before one service that answers at once, in the same rounds. A second table has other calls of the gateway
while twenty people log in at once.
"""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp

from dataaggregator.client import Client
from deploy.local.process import free_ports
from tests.bench import hop
from tests.bench.costs import spent_seconds
from tests.bench.room import LIMITS, POOL
from tests.bench.table import percentiles, show, spread
from tests.e2e.full import FullPlatform
from tests.private import PrivateServers

ROUNDS = 5
CALLERS = 32
SECONDS = 2.0
LOGINS = 20
# As an installation has it: every call is a line in the log, one in ten that is not traced already is traced.
ON = {**LIMITS, **POOL, "RATE_LIMIT_LOGIN": "1000000/60", "LOG_LEVEL": "info", "LOG_FORMAT": "json"}
OPEN_TO_ALL = "/api/auth/jwks.json"
BARE, KNOWN, WITH_TOKEN, WITHOUT = (
    "bare aiohttp proxy",
    "gateway, everything on",
    "gateway, an open address, with a token",
    "gateway, an open address, without",
)


@dataclass(frozen=True)
class Way:
    """A kind of call: where to, and as whom; `pid` is who hands it on."""

    port: int
    path: str
    token: str | None
    pid: int


@dataclass
class Measured:
    rates: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)


class _Gateway(FullPlatform):
    """Auth and the gateway; the scheduler's address is the one of the service that answers at once."""

    def port(self, service: str) -> int:
        return self._ports[0][service]


@asynccontextmanager
async def gateway() -> AsyncIterator[_Gateway]:
    with TemporaryDirectory(prefix="bench-") as made:
        folder = Path(made)
        folder.chmod(0o755)  # PostgreSQL's user has to reach its folder
        servers = PrivateServers(folder)
        try:
            platform = _Gateway(folder, servers.start(), ON, groups=("auth", "gateway"))
            platform.start()
            try:
                yield platform
            finally:
                platform.stop()
        finally:
            servers.stop()


async def main() -> None:
    """Measure and print."""
    async with gateway() as platform:
        port, token = platform.port("gateway"), await _token(platform)
        service, [bare] = platform.port("scheduler"), free_ports(1)
        pid = platform.processes["gateway", 0].pid
        async with (
            hop.process("service", str(service)),
            hop.process("proxy", str(bare), f"http://127.0.0.1:{service}") as proxy,
        ):
            ways = {
                BARE: Way(bare, "/api/pipelines", token, proxy),
                KNOWN: Way(port, "/api/pipelines", token, pid),
                WITH_TOKEN: Way(port, OPEN_TO_ALL, token, pid),
                WITHOUT: Way(port, OPEN_TO_ALL, None, pid),
            }
            measured = await _rounds(ways)
            quiet, busy = await _beside_logins(platform, ways[KNOWN])
    _show(measured)
    rows = [["while nobody logs in", *_tail(quiet)], [f"while {LOGINS} log in", *_tail(busy)]]
    show("other calls of the gateway, one after the other", ("", "p50 ms", "p95 ms", "p99 ms"), rows)


async def _rounds(ways: dict[str, Way]) -> dict[str, Measured]:
    """All ways in turn, again and again; a first round warms up."""
    measured = {name: Measured() for name in ways}
    for number in range(ROUNDS + 1):
        for name, way in ways.items():
            before = spent_seconds(way.pid)
            load = await hop.call_for(way.port, way.path, way.token, CALLERS, SECONDS)
            if number:
                measured[name].rates.append(load.calls / load.seconds)
                measured[name].cpu_us.append((spent_seconds(way.pid) - before) / load.calls * 1e6)
    return measured


async def _beside_logins(platform: _Gateway, way: Way) -> tuple[list[float], list[float]]:
    """Seconds of single calls while nothing else happens, and while many log in at the same time."""
    credentials = platform.home.credentials()
    assert credentials is not None
    body = {"email": credentials[0], "password": credentials[1]}
    url, headers = f"http://127.0.0.1:{way.port}", {"Authorization": f"Bearer {way.token}"}
    async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0)) as session:

        async def call() -> float:
            began = time.perf_counter()
            async with session.get(way.path, headers=headers) as answer:
                assert answer.status == 200, await answer.text()
                await answer.read()
            return time.perf_counter() - began

        async def login() -> None:
            async with session.post("/api/auth/login", json=body) as answer:
                assert answer.status == 200, await answer.text()

        quiet = [await call() for _ in range(500)]
        busy: list[float] = []
        for _ in range(ROUNDS):
            logins = asyncio.gather(*(login() for _ in range(LOGINS)))
            while not logins.done():
                busy.append(await call())
            await logins
    return quiet, busy


async def _token(platform: _Gateway) -> str:
    credentials = platform.home.credentials()
    assert credentials is not None
    async with Client(platform.gateway(0)) as client:
        body = {"email": credentials[0], "password": credentials[1]}
        return str((await client.post("/api/auth/login", body))["access_token"])


def _tail(times: list[float]) -> tuple[str, str, str]:
    return *percentiles(times), f"{statistics.quantiles(times, n=100)[-1] * 1000:.1f}"


def _show(measured: dict[str, Measured]) -> None:
    rows = []
    for name, beside in ((BARE, BARE), (KNOWN, BARE), (WITHOUT, WITHOUT), (WITH_TOKEN, WITHOUT)):
        own, other = measured[name], measured[beside]
        rate, cpu = statistics.median(own.rates), statistics.median(own.cpu_us)
        ratios = [mine / theirs for mine, theirs in zip(own.rates, other.rates, strict=True)]
        costs = [theirs / mine for mine, theirs in zip(own.cpu_us, other.cpu_us, strict=True)]
        rows.append(
            [
                name,
                f"{rate:.0f}",
                f"{statistics.median(ratios):.2f}",
                spread(ratios, 2),
                f"{cpu:.0f}",
                f"{statistics.median(costs):.2f}",
            ]
        )
    columns = ("", "calls/s", "of the other", "rounds", "CPU us a call", "of the other by CPU")
    show(f"a call handed on, {CALLERS} callers, {ROUNDS} rounds of {SECONDS:g} s", columns, rows)


if __name__ == "__main__":
    asyncio.run(main())
