"""The receipts of a manifest: those of a load in chunks are all there, or none is."""

from uuid import UUID, uuid4

import pyarrow as pa
import pytest

from dataaggregator.connector.destination import LoadRequest, WriteKind
from dataaggregator_connectors.files import manifest as manifests
from dataaggregator_connectors.files.manifest import Held, Loaded, Manifest

KEPT = 10


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "RECEIPTS_KEPT", KEPT)


def load(run: UUID, chunk: int = 0, *, pipeline: UUID | None = None) -> LoadRequest:
    return LoadRequest(run, pipeline or UUID(int=1), "orders", WriteKind.APPEND, epoch=1, chunk=chunk)


def add(manifest: Manifest, request: LoadRequest) -> None:
    name = f"{request.run_id}-{request.chunk}.csv"
    manifest.fence(request)
    manifest.add(request, Loaded({name: Held(2, "sha256:0")}, 2, "sha256:0", pa.schema([("id", pa.int64())])), {})


def chunks(manifest: Manifest, run: UUID) -> int:
    return sum(name.startswith(str(run)) for name in manifest.receipts)


def test_a_load_of_more_chunks_than_are_kept_has_all_its_receipts() -> None:
    manifest, run = Manifest("orders"), uuid4()
    for chunk in range(3 * KEPT):
        add(manifest, load(run, chunk))
    manifest = Manifest.of(manifest.bytes())
    assert all(manifest.receipt(load(run, chunk)) is not None for chunk in range(3 * KEPT))
    assert manifest.rows(load(run)) == 2 * 3 * KEPT
    written = manifest.written(load(run))
    assert written is not None
    assert len(written) == 3 * KEPT


def test_a_load_that_is_forgotten_is_forgotten_as_a_whole_and_the_newest_are_kept() -> None:
    manifest, runs = Manifest("orders"), [uuid4() for _ in range(12)]
    for run in runs:
        for chunk in range(3):
            add(manifest, load(run, chunk))
    assert [chunks(manifest, run) for run in runs] == [0] * 8 + [3] * 4


def test_the_chunks_of_a_load_under_way_are_kept_whatever_other_pipelines_load_meanwhile() -> None:
    manifest, long = Manifest("orders"), uuid4()
    add(manifest, load(long, 0))
    for _ in range(3 * KEPT):
        add(manifest, load(uuid4(), pipeline=UUID(int=2)))
    add(manifest, load(long, 1))
    assert chunks(manifest, long) == 2
