"""Record batches as bytes and back: one Arrow IPC stream a frame, read without copying."""

import base64
from typing import Any

import pyarrow as pa


def encode(batch: pa.RecordBatch) -> pa.Buffer:
    """The batch with its schema and dictionaries, as one IPC stream, in a buffer that had its size from the start."""
    counted = pa.MockOutputStream()
    _write(counted, batch)
    room = pa.allocate_buffer(counted.size())
    _write(pa.FixedSizeBufferWriter(room), batch)
    return room


def _write(sink: pa.NativeFile, batch: pa.RecordBatch) -> None:
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)


def decode(body: Any) -> pa.RecordBatch:
    """The one batch of an IPC stream; its buffers are views into `body`."""
    with pa.ipc.open_stream(pa.py_buffer(body)) as reader:
        return reader.read_next_batch()


def decode_untrusted(body: Any) -> pa.RecordBatch:
    """As `decode`, for bytes a sandbox sent: offsets and text are checked before anybody follows them."""
    batch = decode(body)
    batch.validate(full=True)
    return batch


def encode_schema(schema: pa.Schema) -> str:
    """A schema alone, for a frame's header."""
    return base64.b64encode(schema.serialize()).decode()


def decode_schema(text: str) -> pa.Schema:
    """A schema alone, from `encode_schema`."""
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))
