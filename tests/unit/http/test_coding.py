"""Which content coding an answer gets, and that it is the same answer in each."""

import gzip

import brotli
import pytest

from dataaggregator.http.coding import FROM_BYTES, chosen, encoded

LARGE = bytes(range(256)) * 20
UNPACK = {"br": brotli.decompress, "gzip": gzip.decompress, None: bytes}


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        (None, None),
        ("", None),
        ("identity", None),
        ("gzip", "gzip"),
        ("br", "br"),
        ("gzip, deflate, br", "br"),
        ("gzip, deflate, br, zstd", "br"),
        ("GZIP", "gzip"),
        ("x-gzip", "gzip"),
        ("br;q=0.5, gzip", "gzip"),
        ("br;q=0.5, gzip;q=0.8", "gzip"),
        ("br;q=0.801,gzip;q=0.8", "br"),
        ("br; q=0.8 , gzip ;Q=0.8", "br"),
        ("br;q=0", None),
        ("br;q=0, gzip;q=0", None),
        ("gzip;q=0.000", None),
        ("*", "br"),
        ("*;q=0", None),
        ("*, br;q=0", "gzip"),
        ("gzip, *;q=0", "gzip"),
        ("gzip;q=0.5, *", "br"),
        ("identity, gzip;q=0.5", None),
        ("identity;q=0.5, gzip", "gzip"),
        ("identity;q=0", None),
        ("deflate, zstd", None),
        ("gzip;q=high", None),
        ("gzip;q=2", None),
        ("gzip;level=9", None),
        (";;,,=,br", "br"),
        ("abrupt, gzipped", None),
    ],
)
def test_the_coding_is_the_one_that_the_caller_likes_best(accepted: str | None, coding: str | None) -> None:
    assert chosen(accepted) == coding


@pytest.mark.parametrize("accepted", ["br", "gzip", None])
@pytest.mark.parametrize("times", [1, 100])
async def test_the_answer_is_the_same_in_every_coding(accepted: str | None, times: int) -> None:
    headers: dict[str, str] = {}
    sent = await encoded(accepted, headers, LARGE * times)
    assert headers.get("Content-Encoding") == accepted
    assert headers["Vary"] == "Accept-Encoding"
    assert UNPACK[accepted](sent) == LARGE * times


async def test_what_is_small_stays_as_it_is() -> None:
    headers: dict[str, str] = {}
    assert await encoded("br", headers, LARGE[: FROM_BYTES - 1]) == LARGE[: FROM_BYTES - 1]
    assert headers == {}


async def test_what_is_packed_is_not_packed_again() -> None:
    headers = {"content-encoding": "gzip"}
    assert await encoded("br", headers, LARGE) == LARGE
    assert headers == {"content-encoding": "gzip"}


async def test_what_else_an_answer_depends_on_is_still_said() -> None:
    headers = {"Vary": "Origin"}
    await encoded("gzip", headers, LARGE)
    assert headers["Vary"] == "Origin, Accept-Encoding"
    headers = {"Vary": "accept-encoding"}
    await encoded("gzip", headers, LARGE)
    assert headers["Vary"] == "accept-encoding"


@pytest.mark.parametrize("name", ["Cache-Control", "cache-control"])
async def test_what_nobody_may_store_is_not_compressed(name: str) -> None:
    """It may hold a secret, whose letters would show in the length."""
    headers = {name: "private, no-store"}
    assert await encoded("br", headers, LARGE) == LARGE
    assert headers == {name: "private, no-store"}
    stored = {name: "no-cache"}
    assert await encoded("br", stored, LARGE) != LARGE
