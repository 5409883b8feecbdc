"""The bus, RabbitMQ: a connection, made when it is first needed and made anew after it was lost."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.connection import make_url
from aio_pika.exceptions import AMQPError, ChannelPreconditionFailed
from aiormq.exceptions import ChannelAccessRefused, ChannelInvalidStateError, ProbableAuthenticationError

from dataaggregator.errors import PlatformError, Transient
from dataaggregator.telemetry import logs

log = logs.get("bus")

T = TypeVar("T")

CONNECT_SECONDS = 10.0
PREPARE_SECONDS = 20.0
CLOSE_SECONDS = 5.0
HEARTBEAT_SECONDS = 5
"""The driver gives a silent connection up after three and a bit of them, 18 to 20 s; the broker after two."""


class Link:
    """One connection to the broker, with a name for those who look at the broker's list."""

    def __init__(self, url: str, name: str) -> None:
        self._url = url
        self._name = name
        self._connection: AbstractConnection | None = None
        self._making = asyncio.Lock()
        self._dropped: set[asyncio.Task[None]] = set()

    async def connection(self) -> AbstractConnection:
        """An open connection; raises Transient when the broker does not answer."""
        async with self._making:
            if self._connection is None or self._connection.is_closed:
                with translated():
                    self._connection = await self._connect()
            return self._connection

    async def _connect(self) -> AbstractConnection:
        connection = aio_pika.Connection(
            make_url(self._url, heartbeat=HEARTBEAT_SECONDS),
            client_properties={"connection_name": self._name},
            heartbeat=HEARTBEAT_SECONDS,
        )
        try:
            await connection.connect(timeout=CONNECT_SECONDS)
        except BaseException:
            # The driver would begin to close it where it is collected, in whatever thread that is.
            await connection.close()
            raise
        return connection

    @asynccontextmanager
    async def channel(self, prepare: Callable[[AbstractChannel], Awaitable[T]]) -> AsyncIterator[T]:
        """A channel, and what `prepare` made of it, for as long as they are needed; errors are translated."""
        with translated():
            channel, prepared = await self.open_channel(prepare)
            try:
                yield prepared
            finally:
                await self.close_channel(channel)

    async def open_channel(
        self, prepare: Callable[[AbstractChannel], Awaitable[T]], *, confirms: bool = False
    ) -> tuple[AbstractChannel, T]:
        """For channels without an end to wait for; the caller closes it with `close_channel`."""
        with translated():
            opening = asyncio.create_task(self._open(prepare, confirms))
            try:
                return await asyncio.shield(opening)
            except asyncio.CancelledError:
                if not opening.done():
                    await asyncio.wait([opening])
                # Nobody is left to take from it what it already gets.
                if not opening.cancelled() and opening.exception() is None:
                    await self.close_channel(opening.result()[0])
                raise

    async def close_channel(self, channel: AbstractChannel) -> None:
        """What is not acknowledged goes back to the queue."""
        if not channel.is_closed:
            await _unbroken(self._close(channel))

    async def close(self) -> None:
        """Close the connection politely, or leave it to the broker to notice."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await _unbroken(_close_connection(connection))
        await asyncio.gather(*self._dropped)

    async def _open(
        self, prepare: Callable[[AbstractChannel], Awaitable[T]], confirms: bool
    ) -> tuple[AbstractChannel, T]:
        connection = await self.connection()
        channel = await self._initialize(connection, confirms)
        try:
            async with asyncio.timeout(PREPARE_SECONDS):
                return channel, await prepare(channel)
        except TimeoutError:
            self._drop(connection)
            raise
        except BaseException:
            await self._close(channel)
            raise

    async def _initialize(self, connection: AbstractConnection, confirms: bool) -> AbstractChannel:
        try:
            # Without on_return_raises an event that nobody can get comes back as a result and looks sent.
            channel = connection.channel(publisher_confirms=confirms, on_return_raises=confirms)
            async with asyncio.timeout(PREPARE_SECONDS):
                await channel.initialize()
        except BaseException:  # the driver may not know yet that the connection is lost
            self._drop(connection)
            raise
        return channel

    async def _close(self, channel: AbstractChannel) -> None:
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await channel.close()
        except TimeoutError:
            if self._connection is not None:
                self._drop(self._connection)
        except (OSError, AMQPError, ChannelInvalidStateError) as error:
            log.debug("channel_not_closed", reason=type(error).__name__)

    def _drop(self, connection: AbstractConnection) -> None:
        """A connection on which an exchange was broken off may have lost its thread: the next use makes another."""
        if connection is self._connection:
            self._connection = None
        task = asyncio.create_task(_close_connection(connection))
        self._dropped.add(task)
        task.add_done_callback(self._dropped.discard)


async def _close_connection(connection: AbstractConnection) -> None:
    if connection.is_closed:
        return
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await connection.close()
    except (TimeoutError, OSError, AMQPError, ChannelInvalidStateError) as error:
        log.debug("connection_not_closed", reason=type(error).__name__)
    finally:
        # What was broken off takes itself for open, without anything left to close: its collector would begin to.
        await connection.close()


async def _unbroken(exchange: Coroutine[Any, Any, None]) -> None:
    """Let an exchange with the broker, bounded by itself, end also when we are cancelled in the middle of it.

    The driver does not survive one that is broken off: the connection then reads no more.
    """
    task = asyncio.create_task(exchange)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        if task.cancelled() and not _is_cancelled():
            return  # by the driver: there is nothing left to exchange with
        await asyncio.wait([task])
        raise


def _is_cancelled() -> bool:
    """Whether somebody wants our own task to end; the driver cancels what waits for an answer of a lost connection."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


@contextmanager
def translated() -> Iterator[None]:
    """Around every use of the broker: the driver's errors become the platform's, without host, user or password."""
    try:
        yield
    except PlatformError:
        raise
    except asyncio.CancelledError as error:
        if _is_cancelled():
            raise
        raise Transient("bus-unavailable", "The connection to RabbitMQ was lost.", retry_after=1.0) from error
    except (ProbableAuthenticationError, ChannelAccessRefused) as error:
        raise Transient(
            "bus-refused", "RabbitMQ refuses our user, or does not let it configure, write and read.", retry_after=5.0
        ) from error
    except ChannelPreconditionFailed as error:
        raise Transient(
            "bus-topology-differs", f"RabbitMQ has a queue or exchange of ours with other properties: {error}."
        ) from error
    except TimeoutError as error:
        raise Transient("bus-unavailable", "RabbitMQ does not answer in time.", retry_after=2.0) from error
    except (AMQPError, OSError, ChannelInvalidStateError) as error:
        raise Transient(
            "bus-unavailable", f"RabbitMQ does not answer: {type(error).__name__}.", retry_after=2.0
        ) from error
    except Exception as error:
        if type(error) not in (Exception, RuntimeError):  # all that the driver says of what was lost a moment ago
            raise
        raise Transient("bus-unavailable", "The connection to RabbitMQ was lost.", retry_after=1.0) from error
