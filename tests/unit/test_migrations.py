"""Migrations: each follows the one before it by number, which is how a service knows that its schema is behind."""

import runpy
from itertools import pairwise
from pathlib import Path

import pytest

FOLDERS = sorted((Path(__file__).parent.parent.parent / "services").glob("*/migrations"))


@pytest.mark.parametrize("folder", FOLDERS, ids=[folder.parent.name for folder in FOLDERS])
def test_each_follows_the_one_before_it(folder: Path) -> None:
    files = sorted(folder.glob("[0-9][0-9][0-9][0-9]_*.py"))
    written = [runpy.run_path(str(file)) for file in files]
    assert [one["revision"] for one in written] == [file.stem[:4] for file in files]
    assert [one["down_revision"] for one in written[1:]] == [before["revision"] for before, _ in pairwise(written)]
