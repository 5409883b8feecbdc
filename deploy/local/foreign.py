"""Programs of another release than the machine's: each starts with the loader and the libraries that came with it.

The machine's own loader would bring another C library, and `LD_LIBRARY_PATH` would give theirs to the machine's own
programs, such as the shell: neither works.
"""

import os
import stat
from pathlib import Path

LOADERS = "usr/lib/*-linux-gnu*/ld-linux*.so.*"
PROGRAM = ".program"
START = """\
#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
libraries=$here/{libraries}
exec "$libraries/{loader}" --library-path "$libraries" --argv0 "$0" "$here/{name}" "$@"
"""


def loader(root: Path) -> Path | None:
    """The loader that came with an unpacked package; None where the machine's own is right."""
    return next(root.glob(LOADERS), None)


def bring_along(root: Path) -> None:
    """Put in the place of every program below `root` a script that starts it so; the folder may be moved."""
    found = loader(root)
    if found is None:
        raise RuntimeError(f"no loader came to {root}")
    for path in sorted((root / "usr").rglob("*")):
        if path.is_symlink() or not path.is_file() or path == found or not _is_program(path):
            continue
        program = path.rename(path.with_name(path.name + PROGRAM))
        libraries = os.path.relpath(found.parent, path.parent)
        path.write_text(START.format(libraries=libraries, loader=found.name, name=program.name))
        path.chmod(0o755)


def _is_program(path: Path) -> bool:
    if ".so" in path.name or not path.stat().st_mode & stat.S_IXUSR:
        return False
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"
