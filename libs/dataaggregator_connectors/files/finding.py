"""Which files a stream is: one, all of a folder, all a glob fits, or those its manifest names."""

from collections.abc import Iterable, Mapping, Sequence

from dataaggregator.errors import Denied, NotFound
from dataaggregator_connectors.files.manifest import Manifest
from dataaggregator_connectors.files.names import (
    OURS,
    WHOLE_FOLDER,
    checked,
    fixed_part,
    folder_of,
    folders_above,
    glob_of,
    is_partition,
    joined,
    known,
    partitions_of,
    place_of,
)
from dataaggregator_connectors.files.tree import File, Tree


def find(tree: Tree, stream: str) -> Sequence[File]:
    """The files of a stream in order of name; raises NotFound where there is none."""
    found = there(tree, stream)
    if not found:
        raise NotFound("stream-missing", f"No file fits {stream!r} below the connector's root.")
    return found


def there(tree: Tree, stream: str) -> Sequence[File]:
    """The same, none too; without those that a load has put in place but not committed."""
    name = checked(stream)
    names = {file.name} if (file := tree.file(name)) is not None else set(_looked_for(tree, name))
    listed = committed(tree, names)
    written = Manifest.of(tree.manifest(place_of(name).own_folder))
    names = {n for n in names if not OURS.search(n) or n in listed}
    names |= {joined(place_of(name).folder, n) for n in written.files}
    found = [file for n in sorted(names) if (file := tree.file(n)) is not None]
    if lost := set(written.files) - {file.name[len(place_of(name).folder) :].lstrip("/") for file in found}:
        raise NotFound("stream-missing", f"{', '.join(sorted(lost))} of {stream!r} was committed and is gone.")
    return found


def _looked_for(tree: Tree, name: str) -> Iterable[str]:
    if tree.is_folder(name):
        folder = "" if name == "." else name
        return (found for found in tree.below(folder) if known(found) and _directly(folder, found))
    pattern, fixed = glob_of(name), fixed_part(name)
    if fixed == name:
        return ()
    depth = None if "**" in name else name.count("/") - (fixed.count("/") + 1 if fixed else 0)
    return (found for found in tree.below(fixed, depth) if pattern.fullmatch(found))


def _directly(folder: str, name: str) -> bool:
    """Whether between the folder and the file there are partitions at most."""
    inner = folder_of(name)[len(folder) :].strip("/")
    return all(is_partition(part) for part in inner.split("/") if part)


def committed(tree: Tree, names: Iterable[str]) -> Mapping[str, str]:
    """The files that manifests name, with the stream each belongs to, as far as these names need them."""
    folders = {folder for name in names if OURS.search(name) for folder in folders_above(name)}
    found: dict[str, str] = {}
    for folder in folders:
        for data in tree.manifests(folder):
            manifest = Manifest.of(data)
            stream = folder or "." if manifest.label == WHOLE_FOLDER else joined(folder, manifest.label)
            found |= {joined(folder, name): stream for name in manifest.files}
    return found


def streams(tree: Tree, *, hive: bool) -> Sequence[str]:
    """The streams below the root: what was loaded by its name, partitioned folders, and every other file."""
    names = [name for name in tree.below("") if known(name) and _within(tree, name)]
    listed = committed(tree, names)
    return sorted({_stream(name, listed, hive=hive) for name in names if not OURS.search(name) or name in listed})


def _within(tree: Tree, name: str) -> bool:
    """Links that lead out of the root are no streams of it."""
    try:
        return tree.file(name) is not None
    except Denied:
        return False


def _stream(name: str, listed: Mapping[str, str], *, hive: bool) -> str:
    if name in listed:
        return listed[name]
    if hive and partitions_of(name):
        parts = name.split("/")
        first = next(place for place, part in enumerate(parts) if is_partition(part))
        return "/".join(parts[:first]) or "."
    return name
