"""What a sandbox sends is not trusted: whatever cannot be read ends it, and is no error of ours."""

from typing import Any

import pyarrow as pa
import pytest

from dataaggregator.dataplane.sandbox.answers import decode_output
from dataaggregator.dataplane.sandbox.wire import Frame
from dataaggregator.errors import Permanent


def no_batch() -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, pa.schema([("a", pa.int64())])):
        pass
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("header", "body"),
    [
        ({"kind": "rows", "node": "a"}, b"no stream"),
        ({"kind": "rows", "node": "a"}, no_batch()),
        ({"kind": "rows"}, b""),
        ({"kind": "counts", "counts": {"inputs": []}}, b""),
        ({"kind": "counts", "counts": None}, b""),
        ({"kind": "never"}, b""),
    ],
)
def test_what_cannot_be_read_ends_the_sandbox(header: dict[str, Any], body: bytes) -> None:
    with pytest.raises(Permanent) as ended:
        decode_output(Frame(header, memoryview(body)))
    assert ended.value.code == "sandbox-killed"
