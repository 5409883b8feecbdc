"""A web server as a root: one file by its name, fetched whole, since nothing else says that it is of one state."""

import asyncio
import tempfile
from collections.abc import Iterator, Sequence
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


class WebTree(StoreThreads):
    """Files are copied into the scratch folder through the guard, once, and read there."""

    def __init__(self, config: FilesConfig, context: Context) -> None:
        self.shown = config.root
        self._context = context
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
                return await self._copied(answer)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Transient("connector-unreachable", f"{address}: {str(error) or type(error).__name__}") from error

    async def _copied(self, answer: aiohttp.ClientResponse) -> Path:
        self._context.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self._context.folder, suffix=".fetched", delete=False) as file:
            path = Path(file.name)
            try:
                async for block in answer.content.iter_chunked(BLOCK_BYTES):
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
