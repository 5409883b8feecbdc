"""A stream's manifest: of each load it knows the files that no later one has replaced, and no others."""

import pyarrow as pa
import pytest

from dataaggregator.connector.destination import LoadRequest, WriteKind
from dataaggregator.ids import new_id
from dataaggregator_connectors.files.manifest import Held, Loaded, Manifest

SCHEMA = pa.schema({"id": pa.int64()})


def _load(write: WriteKind) -> LoadRequest:
    return LoadRequest(new_id(), new_id(), "orders.csv", write, 1)


@pytest.mark.parametrize(
    ("write", "names", "known"),
    [
        (WriteKind.REPLACE, ["orders.csv", "orders.csv"], [set(), {"orders.csv"}]),
        (WriteKind.REPLACE, ["a.csv", "b.csv"], [set(), {"b.csv"}]),
        (WriteKind.APPEND, ["a.csv", "b.csv"], [{"a.csv"}, {"b.csv"}]),
    ],
)
def test_files_that_a_later_load_has_replaced_are_no_longer_those_of_an_earlier(
    write: WriteKind, names: list[str], known: list[set[str]]
) -> None:
    manifest = Manifest("orders.csv")
    loads = [_load(write) for _ in names]
    for load, name in zip(loads, names, strict=True):
        manifest.add(load, Loaded({name: Held(1, "sha256:0")}, 1, "sha256:0", SCHEMA), {})
    manifest = Manifest.of(manifest.bytes())
    assert [set(manifest.written(load) or ()) for load in loads] == known
