"""The wire to the user's Python: a moment is a moment, however slowly bytes come or are taken."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pyarrow as pa
import pytest

from dataaggregator.dataplane.sandbox import wire
from dataaggregator.dataplane.sandbox.python.door import Door
from dataaggregator.dataplane.steps.engine import Place
from dataaggregator.errors import Permanent

SECONDS, DRIP_SECONDS, DRIPS = 1, 0.05, 100
"""So many drips take five times as long as there is; then the rest comes, or is taken, at once."""
PLACE = Place("t[0].python", "python")
ROWS = pa.record_batch({"text": ["x" * (4 * wire.BUFFER_BYTES)]})


@contextmanager
def opposite(play: Callable[[socket.socket], None]) -> Iterator[Door]:
    """A door, and somebody at the other end of its wire."""
    ours, theirs = wire.pair()
    playing = threading.Thread(target=play, args=(theirs,))
    playing.start()
    try:
        yield Door(ours, SECONDS, 1 << 30, lambda _, __: None)
    finally:
        ours.close()
        playing.join()
        theirs.close()


def sip_a_question(end: socket.socket) -> None:
    for _ in range(DRIPS):
        if not end.recv(1):
            return
        time.sleep(DRIP_SECONDS)
    while end.recv(1 << 20):
        pass


def ask(door: Door) -> None:
    door.load("def transform(rows): return rows", ROWS.schema, PLACE)


def drip_at_once(end: socket.socket) -> None:
    """The first thing that is waited for is what it says unasked."""
    answer = b'{"kind":"ready"' + b" " * DRIPS + b"}"
    frame = wire.PREFIX.pack(len(answer), 0) + answer
    try:
        for at in range(DRIPS):
            end.send(frame[at : at + 1])
            time.sleep(DRIP_SECONDS)
        end.sendall(frame[DRIPS:])
        wire.send(end, {"kind": "loaded"})
    except OSError:
        return  # nobody waits any more


@pytest.mark.parametrize(
    ("play", "act"),
    [(drip_at_once, ask), (sip_a_question, lambda door: door.take(1, ROWS, PLACE))],
    ids=["an answer in drips", "a question taken in sips"],
)
def test_a_wire_that_moves_byte_by_byte_is_waited_for_no_longer_than_a_still_one(
    play: Callable[[socket.socket], None], act: Callable[[Door], None]
) -> None:
    began = time.monotonic()
    with opposite(play) as door:
        with pytest.raises(Permanent) as late:
            act(door)
        assert time.monotonic() - began < DRIP_SECONDS * DRIPS
    assert late.value.code == "sandbox-timeout"
