"""The folders of the tests' servers in memory: what a killed run left goes, what a live one holds stays."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.memory import PREFIX, server_folder


def test_what_a_killed_run_left_goes_and_what_a_live_one_holds_stays(tmp_path: Path) -> None:
    left = tmp_path / f"{PREFIX}killed"
    (left / "postgres").mkdir(parents=True)
    left.with_suffix(".lock").touch()
    with server_folder(tmp_path) as first, server_folder(tmp_path) as second:
        there = {Path(first), Path(second)} & set(tmp_path.iterdir())
        assert len(there) == 2 or Path(first).parent != tmp_path  # a small disk gives another place
        assert not left.exists()
        assert not left.with_suffix(".lock").exists()
    assert list(tmp_path.glob(f"{PREFIX}*")) == []


def test_those_that_begin_at_once_leave_each_other_alone(tmp_path: Path) -> None:
    def hold(_: int) -> bool:
        with server_folder(tmp_path) as folder:
            (Path(folder) / "file").touch()
            barrier.wait(30)
            return (Path(folder) / "file").exists()

    barrier = threading.Barrier(8)
    with ThreadPoolExecutor(8) as threads:
        assert all(all(threads.map(hold, range(8))) for _ in range(20))
