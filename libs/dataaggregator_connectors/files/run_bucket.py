"""The run store in a bucket: an operator's own, reached as settings say and with no other credentials."""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

from dataaggregator.errors import Transient
from dataaggregator.telemetry import logs
from dataaggregator_connectors.files.buckets import bucket_of
from dataaggregator_connectors.files.config import FilesConfig
from dataaggregator_connectors.files.objects import NOT_THERE, ObjectBytes, first_line

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

_log = logs.get(__name__)

# Shorter than a connector's: whoever waits here has somewhere else to leave the rows.
CLIENT: "ClientConfig" = {"connect_timeout": timedelta(seconds=3), "timeout": timedelta(seconds=30)}
RETRY: "RetryConfig" = {"max_retries": 2, "retry_timeout": timedelta(seconds=6)}
AT_ONCE = 4
"""Parts of a large file, each of 5 MiB in memory."""
BLOCK_BYTES = 1024 * 1024
"""Pages and footers of Parquet are read one by one: a block holds several."""


class RunBucket:
    """No guard stands before it: the address is a setting, as the database's is, and no user's."""

    def __init__(self, config: FilesConfig) -> None:
        """Raises ValueError for credentials or certificates that are not of the right form."""
        try:
            self.store = bucket_of(config, CLIENT, RETRY)
        except BaseError:
            # The library's own words may hold a part of what it could not read.
            raise ValueError("not of the right form") from None

    async def put(self, name: str, content: BinaryIO) -> None:
        with self.told():
            await obstore.put_async(self.store, name, content, max_concurrency=AT_ONCE)

    def read(self, name: str) -> BinaryIO:
        with self.told():
            found = self._head(name)
        if found is None:
            raise FileNotFoundError(name)
        return cast("BinaryIO", io.BufferedReader(ObjectBytes(self, name, found["size"], found["e_tag"]), BLOCK_BYTES))

    async def folders(self) -> Sequence[str]:
        with self.told():
            found = await obstore.list_with_delimiter_async(self.store)
        return [prefix.rstrip("/") for prefix in found["common_prefixes"]]

    async def files(self, folder: str) -> Mapping[str, datetime]:
        with self.told():
            listed = obstore.list(self.store, prefix=folder, chunk_size=1000)
            return {found["path"]: found["last_modified"] async for chunk in listed for found in chunk}

    async def remove(self, folder: str) -> None:
        if names := list(await self.files(folder)):
            with self.told():
                await obstore.delete_async(self.store, names)

    async def ping(self) -> None:
        with self.told():
            await anext(aiter(obstore.list(self.store, prefix="ping")), None)

    def _head(self, name: str) -> Any:
        try:
            return obstore.head(self.store, name)
        except FileNotFoundError:
            next(iter(obstore.list(self.store, prefix=name)), None)  # raises where the bucket itself is not there
            return None

    @contextmanager
    def told(self) -> Iterator[None]:
        """The library's words, which name our addresses, are for the operator's log; others hear what is the matter."""
        try:
            yield
        except (BaseError, FileNotFoundError) as error:
            _log.warning("run_store_failed", detail=first_line(error))
            reason = "it does not answer as it should"
            if isinstance(error, PermissionDeniedError | UnauthenticatedError):
                reason = "it does not let us in"
            elif isinstance(error, FileNotFoundError) or NOT_THERE in str(error):
                reason = "its bucket is not there"
            raise Transient("run-store-unavailable", f"The run store cannot be used: {reason}.") from error
