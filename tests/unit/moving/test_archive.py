"""The archive: what was written comes out in its order, and whatever was changed, cut or sealed for others does not."""

import io
from collections.abc import Sequence
from typing import Any

import pytest

from dataaggregator.errors import Invalid
from dataaggregator.moving.archive import FRAME_BYTES, MAGIC, ArchiveReader, ArchiveWriter
from dataaggregator.secrets import KeyRing

KEYS = KeyRing("k" * 40)
PARTS: list[tuple[dict[str, Any], bytes]] = [
    ({"part": "a"}, b""),
    ({"part": "b", "é": 1}, b"x" * (2 * FRAME_BYTES + 3)),
    ({"part": "c"}, b"\x00\xff"),
]


def written(parts: Sequence[tuple[dict[str, Any], bytes]] = PARTS, *, ended: bool = True) -> bytes:
    file = io.BytesIO()
    writer = ArchiveWriter(file, KEYS)
    for head, content in parts:
        writer.head(head)
        for start in range(0, len(content), 70_000):
            writer.data(content[start : start + 70_000])
    if ended:
        writer.end()
    return file.getvalue()


def read(archive: bytes, keys: KeyRing = KEYS) -> list[tuple[dict[str, Any], bytes]]:
    return [(dict(head), b"".join(chunks)) for head, chunks in ArchiveReader(io.BytesIO(archive), keys).parts()]


def blocks(archive: bytes) -> list[bytes]:
    """The magic line, then each block with its length."""
    found, at = [archive[: len(MAGIC)]], len(MAGIC)
    while at < len(archive):
        size = 4 + int.from_bytes(archive[at : at + 4], "big")
        found.append(archive[at : at + size])
        at += size
    return found


def refused(archive: bytes, keys: KeyRing = KEYS) -> str:
    with pytest.raises(Invalid) as caught:
        read(archive, keys)
    return caught.value.code


def test_what_was_written_comes_out_in_its_order() -> None:
    assert read(written()) == PARTS


def test_nothing_of_it_can_be_read_without_the_key() -> None:
    archive = written([({"part": "secret-name"}, b"secret-row")])
    assert b"secret" not in archive
    assert refused(archive, KeyRing("other" * 10)) == "archive-other-key"


def test_an_earlier_key_of_the_ring_opens_it_and_is_told() -> None:
    reader = ArchiveReader(io.BytesIO(written()), KeyRing("new" * 20, ["k" * 40]))
    assert reader.outdated
    assert not ArchiveReader(io.BytesIO(written()), KEYS).outdated


def test_an_archive_that_is_cut_anywhere_is_refused() -> None:
    whole = blocks(written())
    for kept in range(len(whole)):
        assert refused(b"".join(whole[:kept])) == "archive-damaged"
        assert refused(b"".join(whole[: kept + 1])[:-1]) == "archive-damaged"
    assert refused(written(ended=False)) == "archive-damaged"


def test_frames_that_are_left_out_repeated_moved_or_added_are_refused() -> None:
    whole = blocks(written())
    for at in range(2, len(whole)):
        assert refused(b"".join([*whole[:at], *whole[at + 1 :]])) == "archive-damaged"
        assert refused(b"".join([*whole[:at], whole[at], *whole[at:]])) == "archive-damaged"
    assert refused(b"".join([*whole[:2], whole[3], whole[2], *whole[4:]])) == "archive-damaged"
    assert refused(b"".join([*whole, b"more"])) == "archive-damaged"


def test_data_that_no_head_announces_is_refused() -> None:
    file = io.BytesIO()
    writer = ArchiveWriter(file, KEYS)
    writer.data(b"{}" * FRAME_BYTES)
    writer.end()
    assert refused(file.getvalue()) == "archive-damaged"


def test_a_part_that_was_not_read_is_not_passed_over() -> None:
    with pytest.raises(Invalid, match="not whole"):
        list(ArchiveReader(io.BytesIO(written()), KEYS).parts())


def test_a_byte_that_was_changed_anywhere_is_refused() -> None:
    archive = written([({"part": "a"}, b"content")])
    for at in range(len(archive)):
        changed = bytearray(archive)
        changed[at] ^= 1
        assert refused(bytes(changed)) in ("archive-damaged", "archive-other-key"), at
