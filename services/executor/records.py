"""records: what an attempt leaves for one on another machine: rejected rows, and what it counted before its commits."""

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from uuid import UUID

from dataaggregator.dataplane.quarantine import FOLDER as QUARANTINE
from services.executor.folders import BROUGHT


def stored_name(run_id: UUID, file: str) -> str:
    """What a file of rejected rows is called in the run store; the epoch of its attempt is in its name already."""
    return f"{run_id}/{file}"


def left_behind(run_id: UUID, epoch: int, folder: Path) -> dict[str, Path]:
    """All that is to outlive this machine, by its name in the run store. Blocking.

    An attempt has the records of those before it in its folder, so that those of the newest epoch are all there are.
    """
    found = {}
    for path in folder.rglob("*"):
        file = path.relative_to(folder)
        if file.parts[0] == BROUGHT:
            continue
        if QUARANTINE in file.parts and path.suffix == ".parquet":
            found[stored_name(run_id, file.as_posix())] = path
        elif path.suffix == ".json":
            found[f"{_records_of(run_id)}{epoch:020}/{file.as_posix()}"] = path
    return found


def newest_records(run_id: UUID, names: Iterable[str]) -> dict[str, PurePosixPath]:
    """Of the files of a run in the run store, the records of the newest epoch, each with its place in a run folder."""
    records = [PurePosixPath(name) for name in names if name.startswith(_records_of(run_id))]
    epoch = max((record.parts[2] for record in records), default="")
    return {str(one): PurePosixPath(*one.parts[3:]) for one in records if one.parts[2] == epoch}


def _records_of(run_id: UUID) -> str:
    return f"{run_id}/records/"
