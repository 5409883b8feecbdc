"""The demo told from beginning to end; it fails when a single row is not where it should be."""

import csv
from collections import defaultdict
from typing import Any

import asyncpg
import click
import pyarrow.parquet as pq

from dataaggregator.cli.demo.setting import Setting
from dataaggregator.cli.demo.world import count_again, countries
from dataaggregator.cli.output import console, table
from dataaggregator.cli.runs import follow_run
from dataaggregator.client import Client

Json = dict[str, Any]
Expected = dict[str, tuple[int, int]]
SHOWN = ("countrycode", "country", "cities", "urban_population", "largest_city", "urban_percent")


async def tell(client: Client, setting: Setting) -> None:
    """Run the main job, show its ledger and result, run the incremental one twice; raises what went wrong."""
    warehouse = await asyncpg.connect(setting.warehouse_url)
    try:
        await _main_job(client, setting, warehouse)
        await _incremental_job(client, warehouse)
    finally:
        await warehouse.close()


async def _main_job(client: Client, setting: Setting, warehouse: "asyncpg.Connection[asyncpg.Record]") -> None:
    say = click.echo
    say("\n1. urban-population: a CSV file, a paginated REST API and a PostgreSQL table become one answer\n")
    run = await client.start_run("urban-population")
    await follow_run(client, run["id"], as_json=False)

    rejected = [row async for row in client.pages(f"/api/runs/{run['id']}/rejected")]
    say(f"\nIn the quarantine: {len(rejected)} rows, each with its reason. The first three:")
    lines = [(row["stage"], row["rule"], row["reason"], row["row"]["name"]) for row in rejected[:3]]
    console().print(table(("stage", "rule", "reason", "name"), lines))

    columns = ", ".join(SHOWN)
    rows = await warehouse.fetch(f"SELECT {columns} FROM marts.urban_population ORDER BY urban_population DESC LIMIT 5")
    say("\nmarts.urban_population, read back from PostgreSQL:")
    console().print(table(SHOWN, (tuple(row) for row in rows)))

    expected = await _expected(setting, warehouse)
    in_table = await warehouse.fetch("SELECT countrycode, cities, urban_population FROM marts.urban_population")
    delivered = {row["countrycode"]: (row["cities"], row["urban_population"]) for row in in_table}
    in_file = pq.read_table(setting.folder / "urban_population.parquet").to_pylist()
    _insist(delivered == expected, "PostgreSQL holds other totals than a computation without the platform")
    _insist(
        {row["countrycode"]: (row["cities"], row["urban_population"]) for row in in_file} == expected,
        "the Parquet file holds other totals than a computation without the platform",
    )
    say(f"\nBoth destinations equal a computation done without the platform: {len(expected)} countries.")


async def _incremental_job(client: Client, warehouse: "asyncpg.Connection[asyncpg.Record]") -> None:
    say = click.echo
    say("\n2. census-history: incremental, merged by key; the census changes between two runs\n")
    first = await client.finished_run((await client.start_run("census-history"))["id"])
    _insist(first["status"] == "succeeded", f"the run ended as {first['status']}: {first['error']}")
    before = await warehouse.fetchval("SELECT count(*) FROM marts.census")
    changed = await count_again(warehouse)
    second = await client.finished_run((await client.start_run("census-history"))["id"])
    _insist(second["status"] == "succeeded", f"the run ended as {second['status']}: {second['error']}")
    after = await warehouse.fetchval("SELECT count(*) FROM marts.census")
    differing = await warehouse.fetchval(
        "SELECT count(*) FROM (SELECT geonameid, population, counted_at FROM geo.census WHERE population >= 20000"
        " EXCEPT SELECT geonameid, population, counted_at FROM marts.census) AS missing"
    )
    columns = ("run", "rows read", "filtered", "written", "rows in marts.census")
    lines = [
        (name, run["rows_read"], run["rows_filtered"], run["rows_written"], held)
        for name, run, held in (("first", first, before), ("second", second, after))
    ]
    console().print(table(columns, lines))
    _insist(second["rows_read"] == changed, f"{changed} rows changed, and {second['rows_read']} were read")
    _insist(before == after and differing == 0, "the destination does not equal the source after the second run")
    say(f"\nThe second run read the {changed} rows that had changed, and nothing is doubled.")


async def _expected(setting: Setting, warehouse: "asyncpg.Connection[asyncpg.Record]") -> Expected:
    """Cities and urban population by country, computed from the three sources in plain Python."""
    settled = {country["iso"] for country in countries() if country["areakm2"] > 0 and country["population"] > 0}
    counted = await warehouse.fetch("SELECT geonameid, population FROM geo.census WHERE population >= 20000")
    census: dict[int, int] = {row["geonameid"]: row["population"] for row in counted}
    totals: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    with (setting.folder / "cities.csv").open(encoding="utf-8", newline="") as file:
        for city in csv.DictReader(file):
            people = census.get(int(city["geonameid"]))
            if people is not None and city["admin1code"] and city["countrycode"] in settled:
                totals[city["countrycode"]][0] += 1
                totals[city["countrycode"]][1] += people
    return {code: (found[0], found[1]) for code, found in totals.items()}


def _insist(holds: bool, otherwise: str) -> None:
    if not holds:
        raise click.ClickException(f"The demo failed: {otherwise}.")
