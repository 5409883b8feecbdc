"""The folders of the tests' servers in memory: what a killed run left goes, what a live one holds stays."""

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
    assert list(tmp_path.iterdir()) == []
