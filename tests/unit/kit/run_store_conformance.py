"""What every adapter of the run store's port must do; an adapter's test subclasses this."""

import asyncio
import io
from abc import ABC, abstractmethod
from datetime import UTC, datetime, timedelta

import pytest

from dataaggregator.errors import Transient
from dataaggregator.run_store import RunStore

LARGE = bytes(range(256)) * 48 * 1024
"""More than is sent in one go."""


class RunStoreConformance(ABC):
    """``make`` gives an empty store, ``make_away`` one that cannot be used."""

    @abstractmethod
    def make(self) -> RunStore: ...

    @abstractmethod
    def make_away(self) -> RunStore: ...

    @pytest.fixture
    def store(self) -> RunStore:
        return self.make()

    async def put(self, store: RunStore, name: str, content: bytes) -> None:
        await store.put(name, io.BytesIO(content))

    async def read(self, store: RunStore, name: str) -> bytes:
        def whole() -> bytes:
            with store.read(name) as file:
                return file.read()

        return await asyncio.to_thread(whole)

    async def test_what_was_put_is_read_as_it_was(self, store: RunStore) -> None:
        for name, content in (("a/b/1.parquet", b"rows"), ("a/empty", b""), ("a/large", LARGE)):
            await self.put(store, name, content)
            assert await self.read(store, name) == content

    async def test_a_part_is_read_without_the_rest(self, store: RunStore) -> None:
        await self.put(store, "a/large", LARGE)

        def part() -> tuple[bytes, bytes, int]:
            with store.read("a/large") as file:
                end = file.seek(-4, io.SEEK_END)
                last = file.read()
                file.seek(1000)
                return last, file.read(10), end

        assert await asyncio.to_thread(part) == (LARGE[-4:], LARGE[1000:1010], len(LARGE) - 4)

    async def test_the_same_name_again_takes_the_place_of_what_was_there(self, store: RunStore) -> None:
        await self.put(store, "a/1", b"longer than the next")
        await self.put(store, "a/1", b"next")
        assert await self.read(store, "a/1") == b"next"

    async def test_what_is_not_there_is_not_found(self, store: RunStore) -> None:
        await self.put(store, "a/1", b"rows")
        for name in ("a/2", "b/1"):
            with pytest.raises(FileNotFoundError):
                await self.read(store, name)

    async def test_folders_are_listed_and_removed_whole(self, store: RunStore) -> None:
        assert list(await store.folders()) == []
        for name in ("a/b/c/1", "a/2", "ab/1", "c/1"):
            await self.put(store, name, b"rows")
        assert sorted(await store.folders()) == ["a", "ab", "c"]
        await store.remove("a")
        await store.remove("never-there")
        assert sorted(await store.folders()) == ["ab", "c"]
        assert await self.read(store, "ab/1") == b"rows"

    async def test_a_folder_says_what_is_in_it_and_since_when(self, store: RunStore) -> None:
        assert await store.files("a") == {}
        for name in ("a/b/1", "a/2", "ab/1"):
            await self.put(store, name, b"rows")
        files = await store.files("a")
        assert sorted(files) == ["a/2", "a/b/1"]
        assert all(abs(datetime.now(UTC) - written) < timedelta(minutes=1) for written in files.values())

    async def test_one_that_is_there_answers_ping(self, store: RunStore) -> None:
        await store.ping()

    async def test_one_that_cannot_be_used_says_so_and_nothing_is_missing_in_it(self) -> None:
        away = self.make_away()
        for ask in (lambda: self.put(away, "a/1", b"rows"), lambda: self.read(away, "a/1"), away.folders, away.ping):
            with pytest.raises(Transient) as caught:
                await ask()
            assert caught.value.code == "run-store-unavailable"
