"""What names say: a stream's place, a file's format and compression, partitions, and which files are ours."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import quote, unquote

from dataaggregator.connector.destination import LoadRequest
from dataaggregator.errors import Invalid
from dataaggregator_connectors.files.config import PACKED, SUFFIXES, TEXTS, Compression, FilesConfig, Format

LONGEST_NAME_BYTES = 255  # NAME_MAX of Linux' file systems
OWN_FOLDER = "_dataaggregator"
WHOLE_FOLDER = "part"
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
# Files of ours carry the run and the chunk in their names; only those in a manifest are there for readers.
OURS = re.compile(r"\.(?P<run>[0-9a-f]{32})\.\d+(-\d+-\d+)?\.(csv|tsv|ndjson|jsonl|parquet|arrow)[.a-z0-9]*$")
PARTITION = re.compile(r"([^=/]+)=([^/]*)")
SHEET = re.compile(r"(?P<book>.+?\.xls[xm])#(?P<sheet>.+)", re.IGNORECASE | re.DOTALL)
# What a folder's name cannot hold, or would be taken for more than a name: partitions, patterns, sheets.
NOT_OF_FOLDERS = re.compile(r"[\x00-\x1f/\\%=*?\[\]#]")
WILD = re.compile(r"[*?\[]")


def checked(name: str) -> str:
    """The name, if it can lie below a root."""
    parts = PurePosixPath(name)
    if not name or "\0" in name or parts.is_absolute() or ".." in parts.parts:
        raise Invalid("stream-invalid", f"{name!r} should be a path below the connector's root.")
    if any(len(part.encode(errors="replace")) > LONGEST_NAME_BYTES for part in parts.parts):
        raise Invalid("stream-invalid", f"A name in {name[:40]!r}… is longer than {LONGEST_NAME_BYTES} bytes.")
    return parts.as_posix()


def sheet_of(stream: str) -> tuple[str, str | None]:
    """`book.xlsx#Sheet` is a sheet of a workbook."""
    found = SHEET.fullmatch(stream)
    return (found["book"], found["sheet"]) if found else (stream, None)


@dataclass(frozen=True)
class Shape:
    """What a name's endings say."""

    stem: str
    form: Format | None
    packed: Compression | None


def shape_of(name: str) -> Shape:
    """`a.csv.gz` is csv in gzip."""
    path = PurePosixPath(name)
    packed = PACKED.get(path.suffix.lower())
    inner = PurePosixPath(path.stem) if packed else path
    form = SUFFIXES.get(inner.suffix.lower())
    if form is None:
        return Shape(path.name, None, packed)
    return Shape(inner.stem, form, packed)


def known(name: str) -> bool:
    """Whether the name is one of a format that can be read."""
    return shape_of(name).form is not None


def format_of(config: FilesConfig, name: str, default: Format | None = None) -> Format:
    form = config.format if config.format != "auto" else shape_of(name).form or default
    if form is None:
        raise Invalid("files-format-unknown", f"The format of {name!r} does not show in its name.")
    return form


def compression_of(config: FilesConfig, name: str, form: Format) -> Compression | None:
    """Of texts only: the other formats compress what is in them."""
    packed = shape_of(name).packed
    if config.compression != "auto":
        packed = None if config.compression == "none" else config.compression
    if packed is not None and form not in TEXTS:
        raise Invalid("files-format-unknown", f"{name!r}: {form} is compressed inside and not as a whole.")
    return packed


@dataclass(frozen=True)
class StreamPlace:
    """Where a stream is kept: a name with a suffix is a file, or files beside it; one without is a folder of files."""

    folder: str
    label: str

    @property
    def is_folder(self) -> bool:
        return self.label == WHOLE_FOLDER

    @property
    def own_folder(self) -> str:
        """Where its manifest is kept: beside the data, so that every root that holds the data sees it."""
        name = re.sub(r"[^A-Za-z0-9.-]", "_", self.label)[:60]
        digest = hashlib.sha256(self.label.encode()).hexdigest()[:12]
        return joined(self.folder, OWN_FOLDER, f"{name}-{digest}")


def place_of(stream: str) -> StreamPlace:
    path = PurePosixPath(checked(stream))
    if known(path.name):
        return StreamPlace(folder_of(path.as_posix()), path.name)
    return StreamPlace("" if path.as_posix() == "." else path.as_posix(), WHOLE_FOLDER)


def stream_parts(stream: str) -> tuple[str, str]:
    """The folder that a stream lies in, and its name there without endings; of a sheet, its book's with it."""
    book, sheet = sheet_of(checked(stream))
    stem = shape_of(book).stem
    name = stem if sheet is None else f"{stem}_{sheet}"
    if name in ("", "."):
        raise Invalid("stream-invalid", f"{stream!r} has no name of its own: it is all that lies below the root.")
    return folder_of(book), name


def folder_within(folder: str, name: str) -> str:
    """The stream of a table of this name in a folder: a folder of files, whatever the name is made of."""
    made = NOT_OF_FOLDERS.sub(lambda found: quote(found[0], safe=""), name)
    if known(made) or made in (".", "..", OWN_FOLDER):
        made = made.replace(".", "%2E").replace("_", "%5F", made == OWN_FOLDER)
    return checked(joined(folder, made))


def part_name(place: StreamPlace, load: LoadRequest, partition: str, number: int, ending: str) -> str:
    """The name below the stream's folder of a file of ours; no two attempts share one."""
    stem = WHOLE_FOLDER if place.is_folder else shape_of(place.label).stem
    return joined(partition, f"{stem}.{load.run_id.hex}.{load.chunk}-{load.epoch}-{number}{ending}")


def is_part_of(place: StreamPlace, name: str) -> bool:
    """Whether a name below the root is one that a load of this stream gives."""
    inner = name[len(place.folder) :].lstrip("/") if name.startswith(place.folder) else ""
    own = shape_of(place.label)
    stem = WHOLE_FOLDER if place.is_folder else own.stem
    base = inner.rpartition("/")[2]
    return (
        OURS.fullmatch(base, len(stem)) is not None
        and base.startswith(stem)
        and own.form in (None, shape_of(base).form)
        and all(is_partition(part) for part in folder_of(inner).split("/") if part)
    )


def joined(*parts: str) -> str:
    return "/".join(part for part in parts if part)


def folder_of(name: str) -> str:
    return name.rpartition("/")[0]


def folders_above(name: str) -> Iterator[str]:
    """Every folder the name lies in, up to the root, which is empty."""
    while name:
        name = folder_of(name)
        yield name


def shown(name: str) -> bool:
    return OWN_FOLDER not in name.split("/")


def partitions_of(name: str) -> dict[str, str | None]:
    """What the folders of a name say: `year=2026/land=CH/a.csv`; values as text, None where there is none."""
    found: dict[str, str | None] = {}
    for part in name.split("/")[:-1]:
        if match := PARTITION.fullmatch(part):
            value = unquote(match[2])
            found[unquote(match[1])] = None if value in (NO_VALUE, "") else value
    return found


def is_partition(folder: str) -> bool:
    return PARTITION.fullmatch(folder.rpartition("/")[2]) is not None


def partition_folder(column: str, text: str | None) -> str:
    """The folder of a value. An empty text has none: every reader would take it for no value."""
    if text in ("", NO_VALUE):
        raise Invalid(
            "partition-invalid", f"{column}: the text {text!r} cannot be told from no value in a folder's name."
        )
    return f"{quote(column, safe=' ')}={NO_VALUE if text is None else quote(text, safe=' +:,')}"


def glob_of(pattern: str) -> re.Pattern[str]:
    """`*`, `?` and `[…]` within a folder, `**/` through any number of them."""
    made = ""
    for piece in re.findall(r"\*\*/|\*+|\?|\[!?[^\]]+\]|.", pattern, re.DOTALL):
        if piece == "**/":
            made += "(?:[^/]+/)*"
        elif piece.startswith("*"):
            made += ".*" if piece == "**" and made.endswith("/") else "[^/]*"
        elif piece == "?":
            made += "[^/]"
        elif piece.startswith("[") and len(piece) > 1:
            made += (
                f"[{'^' if piece[1] == '!' else ''}{re.escape(piece[1:-1].lstrip('!')).replace(chr(92) + '-', '-')}]"
            )
        else:
            made += re.escape(piece)
    return re.compile(made, re.DOTALL)


def fixed_part(pattern: str) -> str:
    """The folder above the first wild one."""
    parts = pattern.split("/")
    wild = next((place for place, part in enumerate(parts) if WILD.search(part)), len(parts))
    return "/".join(parts[:wild])
