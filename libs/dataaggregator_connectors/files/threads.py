"""Work that waits for a store, in threads of its own."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from dataaggregator_connectors.files.tree import T


class StoreThreads:
    """The guard's look-ups take the event loop's threads, and would wait there for those that wait for them."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(thread_name_prefix="files-store")

    async def work(self, what: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, what)

    async def close(self) -> None:
        self._threads.shutdown(wait=False)
