"""What files' names say: globs, formats, partitions, and which are of which stream."""

import pytest

from dataaggregator.connector.destination import LoadRequest, WriteKind
from dataaggregator.errors import Invalid
from dataaggregator.ids import new_id
from dataaggregator_connectors.files.names import (
    OURS,
    fixed_part,
    folder_within,
    glob_of,
    is_part_of,
    part_name,
    partition_folder,
    partitions_of,
    place_of,
    shape_of,
    sheet_of,
    stream_parts,
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


@pytest.mark.parametrize(
    ("stream", "parts"),
    [
        ("orders.csv", ("", "orders")),
        ("in/2026/orders.csv.gz", ("in/2026", "orders")),
        ("lake/orders", ("lake", "orders")),
        ("in/book.xlsx#January", ("in", "book_January")),
    ],
)
def test_a_stream_has_a_folder_and_a_name_without_endings(stream: str, parts: tuple[str, str]) -> None:
    assert stream_parts(stream) == parts


def test_all_below_the_root_has_no_name() -> None:
    with pytest.raises(Invalid, match="has no name"):
        stream_parts(".")


@pytest.mark.parametrize(
    ("name", "stream"),
    [
        ("orders", "raw/orders"),
        ("Größe in cm", "raw/Größe in cm"),
        ("v1.2", "raw/v1.2"),
        ("a/b", "raw/a%2Fb"),
        ("year=2026", "raw/year%3D2026"),
        ("100%", "raw/100%25"),
        ("b.xlsx#c", "raw/b.xlsx%23c"),
        ("orders.csv", "raw/orders%2Ecsv"),
        ("..", "raw/%2E%2E"),
        ("_dataaggregator", "raw/%5Fdataaggregator"),
    ],
)
def test_a_table_of_any_name_has_a_folder_of_its_own(name: str, stream: str) -> None:
    made = folder_within("raw", name)
    assert made == stream
    assert place_of(made).is_folder
    assert not partitions_of(f"{made}/x")
