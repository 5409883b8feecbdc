"""JSON files: an array read element by element, or one document a line."""

import json
from collections.abc import Iterator
from io import TextIOWrapper
from itertools import islice
from typing import Any

from dataaggregator.connector.documents import DECODER, loads
from dataaggregator.connector.records import SAMPLE_ROWS, Shaper
from dataaggregator.dataplane.batch import Batch, RejectedRow
from dataaggregator.errors import Invalid
from dataaggregator_connectors.files.opening import Opening

CHUNK_CHARS = 1024 * 1024


class Broken:
    """A line that is not JSON."""

    def __init__(self, text: str, reason: str) -> None:
        self.text, self.reason = text, reason


class JsonFile:
    """One file of records, `lines` for one document a line."""

    def __init__(self, opening: Opening, name: str, *, lines: bool) -> None:
        self._opening, self._name, self._lines = opening, name, lines

    def sample(self) -> Iterator[dict[str, Any]]:
        for _, record in islice(self._records(), SAMPLE_ROWS):
            if isinstance(record, dict):
                yield record

    def read(self, shaper: Shaper, most_rows: int) -> Iterator[Batch]:
        records = self._records()
        while part := list(islice(records, most_rows)):
            rows = [(place, record) for place, record in part if not isinstance(record, Broken)]
            broken = [
                RejectedRow(self._at(place), record.reason, "row-malformed", record.text)
                for place, record in part
                if isinstance(record, Broken)
            ]
            yield shaper.batch([row for _, row in rows], [self._at(place) for place, _ in rows], rejected=broken)

    def _at(self, place: int) -> str:
        return f"{self._name}:{place}"

    def _records(self) -> Iterator[tuple[int, Any]]:
        """Each record with its position: the line in a file of lines, the element's number in an array."""
        return self._of_lines() if self._lines else self._of_array()

    def _of_lines(self) -> Iterator[tuple[int, Any]]:
        with self._opening() as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    yield number, loads(line)
                except ValueError as error:
                    yield number, Broken(line.decode(errors="replace").rstrip("\r\n"), f"not JSON: {error}")

    def _of_array(self) -> Iterator[tuple[int, Any]]:
        number = 0
        try:
            with self._opening() as raw, TextIOWrapper(raw, encoding="utf-8-sig") as file:
                for number, record in enumerate(elements(file), start=1):
                    yield number, record
        except ValueError as error:
            raise Invalid("file-malformed", f"{self._name}, after element {number}: {error}") from error


def elements(file: Any) -> Iterator[Any]:
    """The elements of one JSON array, in bounded memory; ValueError where it breaks off or is something else."""
    text, ended = _more(file, "")
    text = text.lstrip()
    if not text.startswith("["):
        raise ValueError("the document is not an array")
    text, first = text[1:], True
    while True:
        text, ended = _filled(file, text, ended)
        if text.startswith("]"):
            _nothing_after(file, text[1:])
            return
        if not first:
            if not text.startswith(","):
                raise ValueError("the array breaks off" if not text else "a comma is missing")
            text, ended = _filled(file, text[1:], ended)
        value, text, ended = _element(file, text, ended)
        yield value
        first = False


def _element(file: Any, text: str, ended: bool) -> tuple[Any, str, bool]:
    while True:
        try:
            value, end = DECODER.raw_decode(text)
        except json.JSONDecodeError:
            if ended:
                raise
        else:
            # A number at the very end of what is read could go on.
            if end < len(text) or ended:
                return value, text[end:], ended
        text, ended = _more(file, text)


def _filled(file: Any, text: str, ended: bool) -> tuple[str, bool]:
    text = text.lstrip()
    while not text and not ended:
        text, ended = _more(file, text)
        text = text.lstrip()
    return text, ended


def _more(file: Any, text: str) -> tuple[str, bool]:
    chunk = file.read(max(CHUNK_CHARS, len(text)))
    return text + chunk, not chunk


def _nothing_after(file: Any, text: str) -> None:
    if text.strip() or file.read().strip():
        raise ValueError("something stands behind the array")
