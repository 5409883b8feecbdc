"""What a workbook's text says and its values do not: errors, formulas never calculated, merged cells, its extent."""

import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any
from xml.etree import ElementTree

from dataaggregator.errors import Invalid
from dataaggregator_connectors.files.tree import File

MOST_BYTES = 2 * 1024**3
# A sheet is held in memory as the rectangle around its cells, of which one far away makes a large one.
MOST_CELLS = 30_000_000
MOST_PART_BYTES = 16 * 1024 * 1024
CHUNK_BYTES = 4 * 1024 * 1024
ERROR = re.compile(rb"""<(?:\w+:)?c\s(?=[^>]*\bt=["']e["'])(?:[^>]*?\br=["']([A-Z]+)(\d+)["'])?""")
# A cell with a formula and nothing behind it.
BARE = re.compile(
    rb"""<(?:\w+:)?c\s[^>]*?\br=["']([A-Z]+\d+)["'][^>]*>\s*"""
    rb"""<(?:\w+:)?f\b(?:[^>]*/>|[^>]*>[^<]*</(?:\w+:)?f>)\s*</(?:\w+:)?c>"""
)
CELL = re.compile(rb"""<(?:\w+:)?c\s[^>]*?\br=["']([A-Z]+)(\d+)["'][^>]*(?<!/)>""")
MERGED = re.compile(rb"""<(?:\w+:)?mergeCell\s[^>]*\bref=["']([A-Z]+)(\d+):([A-Z]+)(\d+)["']""")
# What reading a damaged, locked or strange archive ends with.
BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    OSError,
    EOFError,
    KeyError,
    RuntimeError,
    StopIteration,
    ElementTree.ParseError,
)
ROW = re.compile(rb"<(?:\w+:)?row[\s>]")


@dataclass(frozen=True)
class Merge:
    """Rows and columns from nought, both ends within."""

    top: int
    left: int
    bottom: int
    right: int


@dataclass
class Cells:
    """What was found in one sheet; row numbers as the sheet shows them."""

    errors: dict[int, list[str]] = field(default_factory=dict)
    bare: list[str] = field(default_factory=list)
    merges: list[Merge] = field(default_factory=list)
    top: int = 2**31
    left: int = 2**31
    bottom: int = -1
    right: int = -1

    def check(self, name: str) -> None:
        """Invalid where the values that can be read are not those of the sheet, or too many to hold."""
        if self.bare:
            raise Invalid(
                "file-malformed",
                f"{name}: the formulas in {', '.join(self.bare[:10])} were never calculated; open and save it once.",
            )
        size = max(0, self.bottom - self.top + 1) * max(0, self.right - self.left + 1)
        if size > MOST_CELLS:
            raise Invalid(
                "file-expands",
                f"{name}: its cells span {size}, more than the {MOST_CELLS} a sheet may have to be read.",
            )

    def spread(self, row: int, values: list[Any], held: dict[Merge, Any], left: int) -> list[Any]:
        """The row, whose first cell stands in column `left`, with each value that is merged over rows of one column."""
        for merge in self.merges:
            place = merge.left - left
            if merge.left != merge.right or not merge.top <= row <= merge.bottom or not 0 <= place < len(values):
                continue
            if row == merge.top:
                held[merge] = values[place]
            values[place] = held.get(merge)
        return values

    def across(self, row: int) -> str | None:
        """Cells of this row that are merged over several columns: nobody can say whose value it is."""
        for merge in self.merges:
            if merge.left != merge.right and merge.top <= row <= merge.bottom:
                return f"{letters(merge.left)}{merge.top + 1}:{letters(merge.right)}{merge.bottom + 1}"
        return None


def letters(column: int) -> str:
    """A, B, … AA for columns from nought."""
    text, column = "", column + 1
    while column:
        column, rest = divmod(column - 1, 26)
        text = chr(ord("A") + rest) + text
    return text


def cells_of(file: File, sheet: str) -> Cells:
    with _archive(file) as archive:
        found = Cells()
        for piece in _rows(archive, _part_of(archive, file.name, sheet)):
            _look(piece, found)
        return found


@contextmanager
def _archive(file: File) -> Iterator[zipfile.ZipFile]:
    """The parts of the workbook, if what they become together can be read."""
    try:
        with file.opening() as raw, zipfile.ZipFile(raw) as archive:
            size = sum(part.file_size for part in archive.infolist())
            if size > MOST_BYTES:
                raise Invalid("file-expands", f"{file.name} becomes {size} bytes; a workbook may become {MOST_BYTES}.")
            yield archive
    except BROKEN as error:
        raise Invalid("file-malformed", f"{file.name}: {error}") from error


def check_parts(file: File) -> None:
    """Unpack all of it once: a part that is larger than the archive says would be found by nobody in time."""
    with _archive(file) as archive:
        if (broken := archive.testzip()) is not None:
            raise Invalid("file-malformed", f"{file.name}: {broken} is damaged.")


def _part_of(archive: zipfile.ZipFile, name: str, sheet: str) -> str:
    """The part that holds a sheet, by the workbook's own table."""
    book, table = _xml(archive, "xl/workbook.xml"), _xml(archive, "xl/_rels/workbook.xml.rels")
    targets = {each.get("Id"): each.get("Target", "") for each in table}
    for each in book.iter():
        if each.tag.rpartition("}")[2] == "sheet" and each.get("name") == sheet:
            wanted = next(value for key, value in each.attrib.items() if key.rpartition("}")[2] == "id")
            target = targets[wanted]
            return target.lstrip("/") if target.startswith("/") else f"xl/{target}"
    raise Invalid("file-malformed", f"{name}: the workbook does not say where sheet {sheet!r} is.")


def _xml(archive: zipfile.ZipFile, part: str) -> ElementTree.Element:
    with archive.open(part) as raw:
        text = raw.read(MOST_PART_BYTES + 1)
    if len(text) > MOST_PART_BYTES or b"<!" in text.replace(b"<!--", b""):
        raise Invalid("file-malformed", f"{part} is not what a workbook says of itself.")
    return ElementTree.fromstring(text)  # noqa: S314  (no declarations: nothing to expand)


def _rows(archive: zipfile.ZipFile, part: str) -> Iterator[bytes]:
    """The sheet's text cut where a row begins, so that no cell is cut."""
    with archive.open(part) as raw:
        yield from _cut(raw)


def _cut(raw: IO[bytes]) -> Iterator[bytes]:
    left = b""
    while chunk := raw.read(CHUNK_BYTES):
        left += chunk
        begins = [match.start() for match in ROW.finditer(left)]
        if begins and begins[-1]:
            yield left[: begins[-1]]
            left = left[begins[-1] :]
        elif len(left) > MOST_PART_BYTES * 4:
            raise zipfile.BadZipFile("a row of the sheet is larger than 64 MiB")
    yield left


def _look(text: bytes, found: Cells) -> None:
    for match in ERROR.finditer(text):
        if match[1] is None:
            raise zipfile.BadZipFile("a cell with an error does not say where it stands")
        found.errors.setdefault(int(match[2]), []).append((match[1] + match[2]).decode())
    found.bare += [match[1].decode() for match in BARE.finditer(text)]
    for match in CELL.finditer(text):
        row, column = int(match[2]) - 1, _column(match[1])
        found.top, found.bottom = min(found.top, row), max(found.bottom, row)
        found.left, found.right = min(found.left, column), max(found.right, column)
    for match in MERGED.finditer(text):
        top, left, bottom, right = int(match[2]) - 1, _column(match[1]), int(match[4]) - 1, _column(match[3])
        if (top, left) != (bottom, right):
            found.merges.append(Merge(top, left, bottom, right))


def _column(name: bytes) -> int:
    number = 0
    for letter in name:
        number = number * 26 + letter - ord("A") + 1
    return number - 1
