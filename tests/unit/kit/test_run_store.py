"""The run store in a folder keeps the port's promises, and leaves nothing half written."""

import io
from pathlib import Path

import pytest

from dataaggregator.errors import Transient
from dataaggregator.run_store import RunStore
from dataaggregator.run_store.local import LocalRunStore

from .run_store_conformance import RunStoreConformance


class Broken(io.BytesIO):
    """Ends in its middle, as a disk that cannot be read on."""

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell():
            raise OSError(5, "Input/output error")
        return super().read(4)


class TestLocalRunStore(RunStoreConformance):
    @pytest.fixture(autouse=True)
    def root(self, tmp_path: Path) -> None:
        self._root = tmp_path

    def make(self) -> RunStore:
        return LocalRunStore(self._root)

    def make_away(self) -> RunStore:
        return LocalRunStore(self._root / "not-mounted")


async def test_what_breaks_off_leaves_what_was_there(tmp_path: Path) -> None:
    store = LocalRunStore(tmp_path)
    await store.put("a/1", io.BytesIO(b"whole"))
    with pytest.raises(Transient, match="Input/output error"):
        await store.put("a/1", Broken(b"not whole at all"))
    assert [path.read_bytes() for path in (tmp_path / "a").iterdir()] == [b"whole"]
