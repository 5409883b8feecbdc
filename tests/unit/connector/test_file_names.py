"""What files' names say: globs, formats, partitions, and which are of which stream."""

import pytest

from dataaggregator.connector.destination import LoadRequest, WriteKind
from dataaggregator.errors import Invalid
from dataaggregator.ids import new_id
from dataaggregator_connectors.files.names import (
    OURS,
    fixed_part,
    glob_of,
    is_part_of,
    part_name,
    partition_folder,
    partitions_of,
    place_of,
    shape_of,
    sheet_of,
)


@pytest.mark.parametrize(
    ("pattern", "fits", "others"),
    [
        ("*.csv", ["a.csv", ".csv"], ["a/b.csv", "a.csv.gz", "a_csv"]),
        ("a/*/c.csv", ["a/b/c.csv"], ["a/c.csv", "a/b/b/c.csv"]),
        ("a/**/c.csv", ["a/c.csv", "a/b/c.csv", "a/b/b/c.csv"], ["b/c.csv", "a/bc.csv"]),
        ("**/*.csv", ["a.csv", "a/b.csv"], ["a.json"]),
        ("a/**", ["a/b", "a/b/c"], ["b/a"]),
        ("a?.csv", ["ab.csv"], ["a.csv", "a/.csv", "abc.csv"]),
        ("[a-c].csv", ["b.csv"], ["d.csv", "-.csv"]),
        ("[!a-c].csv", ["d.csv"], ["b.csv"]),
        ("[^].csv", ["^.csv"], ["a.csv"]),
        ("a[.csv", ["a[.csv"], ["ab.csv"]),
        ("year=*/a+b(1).csv", ["year=2026/a+b(1).csv"], ["year=2026/aab1.csv"]),
    ],
)
def test_a_glob_fits_as_in_a_shell(pattern: str, fits: list[str], others: list[str]) -> None:
    made = glob_of(pattern)
    assert [name for name in (*fits, *others) if made.fullmatch(name)] == fits


@pytest.mark.parametrize(
    ("pattern", "fixed"), [("a/b/*.csv", "a/b"), ("*/a", ""), ("a/b.csv", "a/b.csv"), ("a/**", "a")]
)
def test_the_part_of_a_glob_that_is_looked_in_is_the_one_without_wild_cards(pattern: str, fixed: str) -> None:
    assert fixed_part(pattern) == fixed


@pytest.mark.parametrize(
    ("name", "stem", "form", "packed"),
    [
        ("a.csv", "a", "csv", None),
        ("a.b.CSV.GZ", "a.b", "csv", "gzip"),
        ("a.jsonl.zst", "a", "ndjson", "zstd"),
        ("a.gz", "a.gz", None, "gzip"),
        ("csv", "csv", None, None),
    ],
)
def test_format_and_compression_show_in_the_endings(name: str, stem: str, form: str | None, packed: str | None) -> None:
    shape = shape_of(name)
    assert (shape.stem, shape.form, shape.packed) == (stem, form, packed)


def test_a_sheet_is_named_behind_its_workbook_only() -> None:
    assert sheet_of("a/book.xlsx#One#2") == ("a/book.xlsx", "One#2")
    assert sheet_of("a/book.xlsx#One") == ("a/book.xlsx", "One")
    assert sheet_of("a#b.csv") == ("a#b.csv", None)


@pytest.mark.parametrize("value", ["CH", "a/b=c", "%41", "ü ?*", "..", "."])
def test_a_value_comes_back_from_its_folder(value: str) -> None:
    folder = partition_folder("the land", value)
    assert "/" not in folder
    assert partitions_of(f"{folder}/a.csv") == {"the land": value}
    assert partitions_of(f"{partition_folder('land', None)}/a.csv") == {"land": None}


def test_a_load_knows_its_files_and_no_others() -> None:
    load = LoadRequest(new_id(), new_id(), "", WriteKind.APPEND, 7)
    orders, sales = place_of("out/orders.csv"), place_of("out/sales")
    one = f"out/{part_name(orders, load, '', 0, '.csv')}"
    two = f"out/sales/{part_name(sales, load, 'year=2026', 3, '.parquet')}"
    assert OURS.search(one)
    assert OURS.search(two)
    assert is_part_of(orders, one)
    assert is_part_of(sales, two)
    assert not is_part_of(sales, one)
    assert not is_part_of(orders, two)
    assert not is_part_of(place_of("out/orders.parquet"), one)
    assert not is_part_of(place_of("out/order.csv"), one)
    assert not is_part_of(place_of("out"), two)
    assert not is_part_of(orders, "out/orders.csv")


@pytest.mark.parametrize("name", ["", "/etc/passwd", "a/../b", "a\0b", "x" * 256])
def test_a_name_that_leads_elsewhere_is_no_stream(name: str) -> None:
    with pytest.raises(Invalid):
        place_of(name)
