"""The folders of a home that arrive: whole, and in their places for good before the rows are committed."""

import os
from pathlib import Path

import pytest

from dataaggregator.moving.folders import Arriving


def test_what_has_settled_is_in_its_place_after_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each folder with a name that is new is told to the disk: those on the way before they are moved."""
    told: list[str] = []
    fsync = os.fsync

    def noted(file: int) -> None:
        told.append(Path(f"/proc/self/fd/{file}").readlink().relative_to(tmp_path).as_posix())
        fsync(file)

    arriving = Arriving(tmp_path)
    arriving.put({"path": "runs/one/rejected/1.parquet", "changed_at_ns": 1}, iter([b"rows"]))
    monkeypatch.setattr(os, "fsync", noted)
    arriving.settle()
    assert sorted(told[:-2]) == ["importing/runs/one", "importing/runs/one/rejected"]
    assert told[-2:] == ["runs", "."]
    assert (tmp_path / "runs/one/rejected/1.parquet").read_bytes() == b"rows"
    assert {entry.name for entry in tmp_path.iterdir()} == {"runs"}
