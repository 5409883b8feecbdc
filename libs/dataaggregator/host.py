"""Runs one or several services in this process: ordered start, ports, loops, signals, drain, stop in reverse order."""

import asyncio
import gc
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import uvloop

from dataaggregator.directory import Directory
from dataaggregator.http import server
from dataaggregator.http.app import make_app
from dataaggregator.http.tls import ServerTls
from dataaggregator.ports import Ports
from dataaggregator.resource import Resource
from dataaggregator.service import Loop, Service
from dataaggregator.telemetry import logs, traces

# Containers made and not gone again, before the collector looks for circles among them; Python begins with 700.
COLLECT_AFTER_OBJECTS = 10_000
_SIGNALS = (signal.SIGTERM, signal.SIGINT)

log = logs.get(__name__)


class LoopEndedError(Exception):
    """A loop that should go on for ever ended, so the whole process stops."""

    def __init__(self, name: str) -> None:
        super().__init__(f"The loop {name} ended; the platform stops, because half of it would be no platform.")
        self.name = name


class Host:
    """``async with Host(services, ports) as host: await host.stopped()``.

    Start: every port is bound and written into the directory; what the composition holds and the services' resources
    are opened in the order given; the services listen; the loops begin. Stop: the same backwards, calls in work first
    being let finish for STOP_SECONDS. If a step of the start fails, those before it are undone.
    """

    def __init__(
        self,
        services: Sequence[Service],
        ports: Ports,
        *,
        addresses: Mapping[str, tuple[str, int]] | None = None,
        handle_signals: bool = True,
    ) -> None:
        self._services = list(services)
        self._ports = ports
        self._addresses = addresses or {}
        self._handle_signals = handle_signals
        self._held = AsyncExitStack()
        self._ending = asyncio.Event()
        self._failure: BaseException | None = None
        self._tls: ServerTls | None = None
        self.addresses: dict[str, str] = {}
        """Where each service answers callers, which over TLS is not where this process reaches it."""

    @property
    def directory(self) -> Directory:
        """Where each service listens."""
        return self._ports.directory

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Return when every service takes calls; raises the PlatformError of the first step that cannot be done,
        SettingsError for a certificate that cannot be used."""
        try:
            traces.configure(self._ports.settings)
            self._held.callback(traces.shutdown)
            self._tls = ServerTls.of(self._ports.settings, self._ports.clock)
            self._listen_to_signals()
            listeners = [self._bind(service) for service in self._services]
            for resource in self._resources():
                await self._open(resource)
            for service, listener in zip(self._services, listeners, strict=True):
                self._held.push_async_callback(self._closed, f"{service.name} http", listener.close)
                await listener.open()
                log.info("service_listens", service=service.name, url=listener.url)
            for loop in self._loops():
                self._begin(loop)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Undo the start, last step first."""
        self._ending.set()
        await self._held.aclose()

    async def stopped(self) -> None:
        """Return when a signal asked for the end; raises LoopEndedError when a loop ended."""
        await self._ending.wait()
        if self._failure is not None:
            raise self._failure

    def _listen_to_signals(self) -> None:
        if not self._handle_signals or threading.current_thread() is not threading.main_thread():
            return
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._signalled, number)
            self._held.callback(loop.remove_signal_handler, number)

    def _signalled(self, number: signal.Signals) -> None:
        log.info("stopping", because=signal.Signals(number).name)
        self._ending.set()

    def _bind(self, service: Service) -> server.Listener:
        """The port given for it; without one the gateway's is the settings', another one free and for this machine."""
        settings = self._ports.settings
        near = (settings.gateway_host, settings.gateway_port) if service.name == "gateway" else ("127.0.0.1", 0)
        at = self._addresses.get(service.name, near)
        sock = server.bind(*at)
        self._held.callback(sock.close)
        tls = self._tls.context if self._tls is not None and self._over_tls(service) else None
        listener = server.Listener(make_app(service, self._ports), sock, settings.stop_seconds, tls)
        self._held.callback(listener.release)
        self.directory.put(service.name, listener.inside_url)
        self.addresses[service.name] = listener.url
        return listener

    def _over_tls(self, service: Service) -> bool:
        """The gateway, which is for callers; another one where others are told to reach it so."""
        told = getattr(self._ports.settings, f"{service.name}_url", "")
        return service.name == "gateway" or (service.name in self._addresses and told.startswith("https:"))

    def _resources(self) -> list[Resource]:
        """Each once, in the order of first mention: what is shared, then what each service has of its own."""
        ports = self._ports
        shared: list[Resource] = [ports.database, ports.bus, ports.limits, ports.revocations]
        for service in self._services:
            if service.handlers:
                ports.bus.subscribe(_schema_of(service), service.handlers)
        own = [resource for service in self._services for resource in service.resources]
        return list({id(resource): resource for resource in [*shared, *own]}.values())

    async def _open(self, resource: Resource) -> None:
        self._held.push_async_callback(self._closed, resource.name, resource.close)
        await resource.open()

    async def _closed(self, name: str, close: Callable[[], Awaitable[None]]) -> None:
        """Close one part; one that cannot be closed does not keep the others open."""
        begun = time.perf_counter()
        try:
            async with asyncio.timeout(self._ports.settings.stop_seconds + 5):
                await close()
        except Exception as bug:
            log.bug("close_failed", bug, part=name)
        log.debug("closed", part=name, duration_ms=round((time.perf_counter() - begun) * 1000))

    def _loops(self) -> list[Loop]:
        loops = [] if self._tls is None else [Loop("tls", self._tls.watch)]
        for service in self._services:
            if service.schema is not None:
                bodies = self._ports.bus.loops(service.schema)
                loops += [Loop(f"{service.name}.{name}", body) for name, body in bodies.items()]
            loops += [Loop(f"{service.name}.{loop.name}", loop.run) for loop in service.loops]
        return loops

    def _begin(self, loop: Loop) -> None:
        task = asyncio.create_task(self._watched(loop), name=loop.name)
        self._held.push_async_callback(_cancelled, task)

    async def _watched(self, loop: Loop) -> None:
        """A loop that ends, with or without an error, ends everything."""
        error: Exception | None = None
        try:
            await loop.run()
        except Exception as bug:
            error = bug
        if self._ending.is_set():
            return
        ended = LoopEndedError(loop.name)
        ended.__cause__ = error
        log.bug("loop_ended", ended, loop=loop.name)
        self._failure = ended
        self._ending.set()


def run(main: Callable[[], Coroutine[None, None, int]]) -> int:
    """Run ``main`` on uvloop; its result is the exit code."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


def settle() -> None:
    """For a process that is the platform's alone, once it is up: what its start has made is there for good.

    The collector looked at all of it again and again, and nobody was answered meanwhile; from now on it looks at what
    has come since, and not after every few calls: what a call makes goes with it, and is no garbage for the collector.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER_OBJECTS)
    log.info("settled", objects=gc.get_freeze_count())


def _schema_of(service: Service) -> str:
    if service.schema is None:
        raise ValueError(f"the service {service.name} has handlers, so it needs a schema for its inbox")
    return service.schema


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
