"""What an attempt leaves for one on another machine, and which of it that one takes."""

from pathlib import Path, PurePosixPath

from dataaggregator.ids import new_id
from services.executor.records import left_behind, newest_records

RUN = new_id()


def test_rejected_rows_and_records_are_left_and_nothing_else(tmp_path: Path) -> None:
    files = [
        "quarantine/7/pass-0001-01/0001.parquet",
        "streams/ab/quarantine/7/pass-0001-01/0001.parquet",
        "streams/ab/pass-0001-01/extract.json",
        "pass-0001-01/extract.json",
        "pass-0001-01/spool-00.parquet",
        "replayed/quarantine/3/0001.parquet",
    ]
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    left = left_behind(RUN, 7, tmp_path)
    assert {name.removeprefix(f"{RUN}/"): str(path.relative_to(tmp_path)) for name, path in left.items()} == {
        files[0]: files[0],
        files[1]: files[1],
        f"records/{7:020}/{files[2]}": files[2],
        f"records/{7:020}/{files[3]}": files[3],
    }


def test_the_records_of_the_newest_epoch_are_taken_by_number() -> None:
    """An attempt has those of the attempts before it, so the newest are all."""
    names = [f"{RUN}/records/{epoch:020}/{file}" for epoch, file in ((9, "old.json"), (10, "a.json"), (10, "p/b.json"))]
    rows = f"{RUN}/quarantine/11/0001.parquet"
    assert newest_records(RUN, [*names, rows]) == {
        names[1]: PurePosixPath("a.json"),
        names[2]: PurePosixPath("p/b.json"),
    }
    assert newest_records(RUN, [rows]) == {}
