"""JSON files: an array read element by element, or one document a line."""

import json
import re
from collections.abc import Iterator, Sequence
from functools import partial
from io import TextIOWrapper
from itertools import islice
from typing import Any, NamedTuple

from dataaggregator.connector.documents import (
    DECODER,
    TOO_DEEP,
    DoubledKeyError,
    loads,
    see_no_half_character,
    see_no_key_doubled,
)
from dataaggregator.connector.records import SAMPLE_ROWS, Broken, Shaper
from dataaggregator.dataplane.batch import Batch, portion
from dataaggregator.errors import Invalid
from dataaggregator_connectors.files.opening import Opening

CHUNK_CHARS = 1024 * 1024
SPACES = re.compile(r"[ \t\n\r]*")


class Placed(NamedTuple):
    """A record with its position, the line in a file of lines and the element's number in an array, and its size."""

    place: int
    size: int
    record: Any


class JsonFile:
    """One file of records, `lines` for one document a line."""

    def __init__(self, opening: Opening, name: str, *, lines: bool) -> None:
        self._opening, self._name, self._lines = opening, name, lines

    def sample(self) -> Iterator[dict[str, Any]]:
        for one in islice(self._records(), SAMPLE_ROWS):
            if isinstance(one.record, dict):
                yield one.record

    def read(self, shaper: Shaper, most_rows: int) -> Iterator[Batch]:
        records = self._records()
        while part := portion(records, most_rows, lambda one: one.size):
            yield shaper.batch([one.record for one in part], partial(self._position, part))

    def _position(self, part: Sequence[Placed], place: int) -> str:
        return f"{self._name}:{part[place].place}"

    def _records(self) -> Iterator[Placed]:
        return self._of_lines() if self._lines else self._of_array()

    def _of_lines(self) -> Iterator[Placed]:
        with self._opening() as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                yield Placed(number, len(line), _of_line(line))

    def _of_array(self) -> Iterator[Placed]:
        number = 0
        try:
            with self._opening() as raw, TextIOWrapper(raw, encoding="utf-8-sig") as file:
                for number, (size, record) in enumerate(elements(file), start=1):
                    yield Placed(number, size, record)
        except ValueError as error:
            raise Invalid("file-malformed", f"{self._name}, after element {number}: {error}") from error


def _of_line(line: bytes) -> Any:
    try:
        return loads(line)
    except ValueError as error:
        said = str(error) if isinstance(error, DoubledKeyError) else f"not JSON: {error}"
        return Broken(line.decode(errors="replace").rstrip("\r\n"), said)


def elements(file: Any) -> Iterator[tuple[int, Any]]:
    """The elements of one JSON array, each with its size, in bounded memory.

    ValueError where it breaks off or is something else.
    """
    text = _Text(file)
    if text.sign() != "[":
        raise ValueError("the document is not an array")
    text.skip()
    first = True
    while (sign := text.sign()) != "]":
        if not first:
            if sign != ",":
                raise ValueError("a comma is missing" if sign else "the array breaks off")
            text.skip()
            text.sign()
        yield text.element()
        first = False
    text.skip()
    if text.sign():
        raise ValueError("something stands behind the array")


class _Text:
    """What was read of a file, and up to where it was used."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._text, self._at, self._ended = "", 0, False

    def sign(self) -> str:
        """The next one that is no space, which stays; empty at the end."""
        while True:
            self._at = SPACES.match(self._text, self._at).end()  # type: ignore[union-attr]  # no space matches too
            if self._at < len(self._text) or self._ended:
                return self._text[self._at : self._at + 1]
            self._more()

    def skip(self) -> None:
        self._at += 1

    def element(self) -> tuple[int, Any]:
        while True:
            try:
                value, end = DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError:
                if self._ended:
                    raise
            except RecursionError as error:
                raise ValueError(TOO_DEEP) from error
            else:
                # A number at the very end of what is read could go on.
                if end < len(self._text) or self._ended:
                    text, self._at = self._text[self._at : end], end
                    return len(text), _of_element(text, value)
            self._more()

    def _more(self) -> None:
        left = self._text[self._at :]
        chunk = self._file.read(max(CHUNK_CHARS, len(left)))
        self._text, self._at, self._ended = left + chunk, 0, not chunk


def _of_element(text: str, value: Any) -> Any:
    try:
        see_no_half_character(text.encode(), value)
        see_no_key_doubled(text.encode(), value)
    except RecursionError:
        return Broken(text, TOO_DEEP)
    except ValueError as error:
        return Broken(text, str(error))
    return value
