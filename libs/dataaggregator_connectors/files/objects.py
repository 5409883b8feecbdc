"""A bucket: names by listing, bytes by ranges of the very object that was found, and errors in our words."""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from typing import Any, Protocol, TypeAlias

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import AzureStore, GCSStore, S3Store

from dataaggregator.connector.egress_proxy import EgressProxy
from dataaggregator.errors import Invalid, PlatformError, Transient
from dataaggregator_connectors.files.local import MANIFEST
from dataaggregator_connectors.files.names import OWN_FOLDER, checked, joined, shown
from dataaggregator_connectors.files.threads import StoreThreads
from dataaggregator_connectors.files.tree import File

Bucket: TypeAlias = S3Store | AzureStore | GCSStore
# What a listing of no bucket ends with; the library has no error of its own for it.
NOT_THERE = "404 Not Found"
BLOCK_BYTES = 8 * 1024 * 1024
# Signatures travel in addresses, and addresses in error texts.
QUERY = re.compile(r"\?\S*")


class ChangedError(Exception):
    """What was to be written over is no longer what it was."""


class ObjectTree(StoreThreads):
    """Names below a prefix; there are no links, and nothing leads out of it."""

    def __init__(self, store: Bucket, shown_as: str, proxy: EgressProxy) -> None:
        self.store, self.shown, self._proxy = store, shown_as, proxy
        self._listed: dict[str, Any] = {}
        super().__init__()

    def file(self, name: str) -> File | None:
        found = self._listed.pop(name, None)
        if found is None and checked(name) != ".":
            with self.told():
                found = self._head(name)
        if found is None:
            return None
        tag, size = found["e_tag"], found["size"]
        stamp = (tag, found["version"])
        return File(name, size, stamp, lambda: io.BufferedReader(ObjectBytes(self, name, size, tag), BLOCK_BYTES))

    def _head(self, name: str) -> Any:
        try:
            return obstore.head(self.store, name)
        except FileNotFoundError:
            return None

    def is_folder(self, name: str) -> bool:
        if name in ("", "."):
            return True
        with self.told():
            return any(chunk for chunk in obstore.list(self.store, prefix=name, chunk_size=1))

    def below(self, folder: str, depth: int | None = None) -> Iterator[str]:
        """What was listed is remembered until the next listing: it says all that a look at each would."""
        self._listed.clear()
        with self.told():
            for found in list(self._objects(folder, depth)):
                name = str(found["path"])
                if shown(name):
                    self._listed[name] = found
                    yield name

    def _objects(self, folder: str, depth: int | None) -> Iterator[Any]:
        if depth is None:
            for chunk in obstore.list(self.store, prefix=folder or None):
                yield from chunk
            return
        here = obstore.list_with_delimiter(self.store, prefix=folder or None)
        yield from here["objects"]
        for inner in here["common_prefixes"] if depth > 0 else ():
            if shown(inner):
                yield from self._objects(inner, depth - 1)

    def ages(self, folder: str) -> dict[str, datetime]:
        """When each object below a folder was written, by the store's own clock."""
        with self.told():
            return {str(found["path"]): found["last_modified"] for found in self._objects(folder, None)}

    def manifests(self, folder: str) -> Iterator[bytes]:
        with self.told():
            names = [str(found["path"]) for found in self._objects(joined(folder, OWN_FOLDER), None)]
        for name in names:
            if name.endswith(f"/{MANIFEST}") and (held := self.get(name)) is not None:
                yield held[0]

    def manifest(self, own_folder: str) -> bytes | None:
        held = self.get(joined(own_folder, MANIFEST))
        return None if held is None else held[0]

    def get(self, name: str) -> tuple[bytes, Any] | None:
        """A small object and its version."""
        with self.told():
            try:
                got = obstore.get(self.store, name)
                return bytes(got.bytes()), _version(got.meta)
            except FileNotFoundError:
                return None

    def put(self, name: str, data: bytes, version: Any) -> None:
        """Over that version only, None: where nothing was; ChangedError otherwise."""
        with self.told():
            try:
                obstore.put(self.store, name, data, mode="create" if version is None else version, use_multipart=False)
            except (AlreadyExistsError, PreconditionError) as error:
                raise ChangedError from error

    def changed(self, files: Sequence[File]) -> Sequence[str]:
        """Reading has shown it: every range is asked of the object that was found."""
        del files
        return ()

    async def close(self) -> None:
        await super().close()
        await self._proxy.close()

    @contextmanager
    def told(self) -> Iterator[None]:
        """The library's errors as ours; why the guard let a connection not through comes first."""
        self._proxy.refused = None
        try:
            yield
        except (PermissionDeniedError, UnauthenticatedError) as error:
            raise self._refusal() or Invalid("store-denied", f"{self.shown}: {first_line(error)}") from error
        except FileNotFoundError as error:
            raise Invalid("stream-missing", f"{self.shown}: {first_line(error)}") from error
        except BaseError as error:
            if NOT_THERE in str(error):
                raise Invalid("stream-missing", f"{self.shown}: {first_line(error)}") from error
            raise self._refusal() or Transient("connector-unreachable", f"{self.shown}: {first_line(error)}") from error

    def _refusal(self) -> PlatformError | None:
        return self._proxy.refused


class Holder(Protocol):
    """Who has the bucket and tells its errors in our words."""

    store: Bucket

    def told(self) -> AbstractContextManager[None]: ...


class ObjectBytes(io.RawIOBase):
    """One object in one state, range by range; when it is replaced the next range is an error."""

    def __init__(self, holder: Holder, name: str, size: int, tag: str | None) -> None:
        self._holder, self._name, self._size, self._tag = holder, name, size, tag
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readall(self) -> bytes:
        """In one go: by itself it would ask for some thousand bytes at a time."""
        return self.read(max(0, self._size - self._at)) or b""

    def readinto(self, buffer: Any) -> int:
        end = min(self._at + len(buffer), self._size)
        if end <= self._at:
            return 0
        with self._holder.told():
            try:
                got = obstore.get(
                    self._holder.store, self._name, options={"range": (self._at, end), "if_match": self._tag}
                )
                data = memoryview(got.bytes())
            except (PreconditionError, FileNotFoundError) as error:
                raise Transient("file-malformed", f"{self._name} changed while it was read.") from error
        if len(data) != end - self._at:
            raise Transient("file-malformed", f"{self._name}: the store sent {len(data)} of {end - self._at} bytes.")
        buffer[: len(data)] = data
        self._at = end
        return len(data)


def _version(meta: Any) -> Any:
    return {key: value for key, value in (("e_tag", meta["e_tag"]), ("version", meta["version"])) if value is not None}


def first_line(error: Exception) -> str:
    """What the library says, without what could be a signature."""
    return QUERY.sub("?…", str(error).strip().splitlines()[0])[:500]
