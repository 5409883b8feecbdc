"""Steps at work in this process, on a small engine of their own."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dataaggregator.dataplane.steps import gathered
from dataaggregator.dataplane.steps.engine import Engine
from tests.graphs import Around, Outcome, through

MASK_KEY = b"the key of one workspace"
Transform = Callable[..., Outcome]


@contextmanager
def portions_of(size_bytes: int | None) -> Iterator[None]:
    """Inside, set-wise steps work on so little at a time; None leaves it as it is."""
    with pytest.MonkeyPatch.context() as patched:
        if size_bytes is not None:
            patched.setattr(gathered, "WHOLE_BYTES", 2 * size_bytes)
            patched.setattr(gathered, "PORTION_BYTES", size_bytes)
            patched.setattr(gathered, "BATCH_BYTES", size_bytes)
        yield


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    folder: Path = tmp_path_factory.mktemp("spill")
    return Engine(1 << 30, folder, 1 << 30)


@pytest.fixture(scope="session")
def transform(engine: Engine) -> Transform:
    """`transform(steps, flow, other=table, …)`: run steps over tables in batches of at most `batch_rows`."""

    def run(
        steps: Sequence[Mapping[str, Any]],
        flow: pa.Table | Sequence[Mapping[str, Any]],
        *,
        parameters: Mapping[str, Any] | None = None,
        batch_rows: int = 1000,
        mask_key: bytes | None = MASK_KEY,
        **others: pa.Table | Sequence[Mapping[str, Any]],
    ) -> Outcome:
        given = {"flow": flow, **others}
        tables = {n: t if isinstance(t, pa.Table) else pa.Table.from_pylist(list(t)) for n, t in given.items()}
        return through(steps, tables, Around(engine, parameters or {}, mask_key), batch_rows)

    return run
