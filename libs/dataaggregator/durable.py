"""Files that are whole, and in their place, after a power cut."""

import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Make renames in the folder survive a crash."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def write_private(path: Path, text: str) -> None:
    """Put a file that only its owner reads in its place, in one step."""
    draft = path.with_suffix(".draft")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
    sync_folder(path.parent)
