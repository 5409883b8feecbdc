"""A web server as a root: one file by its name, fetched whole, since nothing else says that it is of one state."""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import aiohttp

from dataaggregator.connector.context import Context
from dataaggregator.errors import Invalid, Transient
from dataaggregator_connectors.files.config import FilesConfig
from dataaggregator_connectors.files.names import WILD, checked
from dataaggregator_connectors.files.threads import StoreThreads
from dataaggregator_connectors.files.tree import File

BLOCK_BYTES = 1024 * 1024
STALL_SECONDS = 60.0
# Of the disk's free room: other runs keep their rows on it too.
LEFT_FREE = 0.1


@dataclass(frozen=True)
class Bound:
    """What one file may take: `most` bytes by its connector, `room` bytes by the disk."""

    address: str
    most: int
    room: int

    def hold(self, size: int, said: str) -> None:
        """Invalid where it is too large anywhere; Transient where room may be made, or another executor has it."""
        if size > self.most:
            raise Invalid(
                "file-too-large",
                f"{self.address} {said}; fetched_bytes of the connector allows {self.most}. Raise it, or have the "
                "file split.",
            )
        if size > self.room:
            raise Transient(
                "disk-full",
                f"{self.address} {said}; the disk of this run has room for {self.room}, and a tenth of what is free "
                "beside. Make room below DATAAGGREGATOR_HOME, or have the file split.",
            )


class WebTree(StoreThreads):
    """Files are copied into the scratch folder through the guard, once, and read there."""

    def __init__(self, config: FilesConfig, context: Context) -> None:
        self.shown = config.root
        self._context, self._most = context, config.fetched_bytes
        self._loop = asyncio.get_running_loop()
        self._copies: dict[str, Path] = {}
        super().__init__()

    def file(self, name: str) -> File | None:
        if WILD.search(name):
            raise Invalid("stream-invalid", f"{self.shown} cannot be listed: name one file instead of {name!r}.")
        if name not in self._copies:
            copy = asyncio.run_coroutine_threadsafe(self._fetched(checked(name)), self._loop).result()
            if copy is None:
                return None
            self._copies[name] = copy
        path = self._copies[name]
        return File(name, path.stat().st_size, None, lambda: path.open("rb"), path)

    async def _fetched(self, name: str) -> Path | None:
        address = f"{self.shown.rstrip('/')}/{quote(name)}"
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=STALL_SECONDS)
        try:
            async with self._context.egress.session(timeout=timeout) as session, session.get(address) as answer:
                if answer.status in (404, 410):
                    return None
                if answer.status != 200:
                    raise Invalid("http-status", f"{address} answered {answer.status} {answer.reason}.")
                return await self._copied(answer, address)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Transient("connector-unreachable", f"{address}: {str(error) or type(error).__name__}") from error

    async def _copied(self, answer: aiohttp.ClientResponse, address: str) -> Path:
        """A declared size is believed only where it is too large; bytes count as they are unpacked."""
        folder = self._context.folder
        folder.mkdir(parents=True, exist_ok=True)
        bound = Bound(address, self._most, int(shutil.disk_usage(folder).free * (1 - LEFT_FREE)))
        bound.hold(answer.content_length or 0, f"has {answer.content_length} bytes")
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".fetched", delete=False) as file:
            path, taken = Path(file.name), 0
            try:
                async for block in answer.content.iter_chunked(BLOCK_BYTES):
                    taken += len(block)
                    bound.hold(taken, f"goes on after {taken - len(block)} bytes")
                    await asyncio.to_thread(file.write, block)
            except BaseException:
                await asyncio.to_thread(path.unlink)
                raise
        return path

    def is_folder(self, name: str) -> bool:
        del name
        return False

    def below(self, folder: str, depth: int | None = None) -> Iterator[str]:
        """A web server has no listing that all of them share."""
        del folder, depth
        return iter(())

    def manifests(self, folder: str) -> Iterator[bytes]:
        del folder
        return iter(())

    def manifest(self, own_folder: str) -> bytes | None:
        del own_folder
        return None

    def changed(self, files: Sequence[File]) -> Sequence[str]:
        """The copies stay as they are."""
        del files
        return ()

    async def close(self) -> None:
        await super().close()
        for path in self._copies.values():
            path.unlink(missing_ok=True)
        self._copies.clear()
