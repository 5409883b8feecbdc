"""Rows of a source file, and the oracle: the same rows brought into the destination's database by other means."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit

import asyncpg

from tests.integration.executor.place import Place

WriteMode = Literal["append", "replace", "merge", "swap", "deletes"]
"""How a destination is written: `swap` is a replace by another table, `deletes` a merge in which GONE marks rows."""
MODES: tuple[WriteMode, ...] = ("append", "replace", "merge", "swap", "deletes")
KEYED = ("merge", "deletes")
GONE = "id % 3 = 0"
TABLE = "public.rows"
HEADER = "id,name,amount,day\n"


Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


class Files:
    """Two versions of one source file, `rows.csv` in `folder`: the one shown first, and the one after it."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.folder = folder
        self._chance = chance
        self._shown = folder / "rows.csv"

    def write(self, name: str, ids: range) -> Path:
        """A row for each id, in no particular order; the values differ from one writing to the next."""
        path = self.folder / f"{name}.csv"
        shuffled = list(ids)
        self._chance.shuffle(shuffled)
        with path.open("w") as file:
            file.write(HEADER)
            file.writelines(_lines(shuffled, self._chance.randrange(10**6)))
        return path

    def show(self, path: Path) -> None:
        """Make the source file be this one from now on."""
        self._shown.unlink(missing_ok=True)
        self._shown.symlink_to(path)


def _lines(ids: list[int], salt: int) -> Iterator[str]:
    for number in ids:
        day = 1 + (number * 7 + salt) % 28
        yield f'{number},"name, {number} of {salt}",{(number * 37 + salt) % 100_000}.25,2026-03-{day:02}\n'


@dataclass(frozen=True)
class Warehouse:
    url: str
    connection: Connection

    @property
    def password(self) -> str:
        """What nobody may ever see."""
        return urlsplit(self.url).password or ""

    async def fill(self, table: str, write: WriteMode, file: Path) -> None:
        """A table as somebody left it before the first run."""
        key = " PRIMARY KEY" if write in KEYED else ""
        columns = f"id bigint{key}, name text, amount double precision, day date"
        await self.connection.execute(f"CREATE TABLE {table} ({columns})")
        schema, _, name = table.rpartition(".")
        await self.connection.copy_to_table(name, schema_name=schema, source=file, format="csv", header=True)

    async def make_oracle(self, table: str, write: WriteMode, *files: Path) -> str:
        """A table like the destination with exactly what the files, loaded one after the other, must leave in it.

        The first is what was there before the first run: no row of it was deleted.
        """
        connection, oracle = self.connection, f"oracle_{table.rpartition('.')[2]}"
        await connection.execute(f"CREATE TABLE {oracle} (LIKE {table})")
        for file in files:
            if write in ("replace", "swap"):
                await connection.execute(f"DELETE FROM {oracle}")
            await connection.execute(f"CREATE TEMP TABLE loaded (LIKE {table})")
            columns = HEADER.strip().split(",")
            await connection.copy_to_table("loaded", source=file, columns=columns, format="csv", header=True)
            if write in KEYED:
                await connection.execute(f"DELETE FROM {oracle} o USING loaded l WHERE o.id = l.id")
            if write == "deletes" and file is not files[0]:
                await connection.execute(f"DELETE FROM loaded WHERE {GONE}")
            await connection.execute(f"INSERT INTO {oracle} TABLE loaded")
            await connection.execute("DROP TABLE loaded")
        return oracle


def definition(place: Place, folder: Path, warehouse: str, write: WriteMode) -> dict[str, Any]:
    source = {**place.connect("files", root=f"file://{folder}", format="csv"), "stream": "rows.csv"}
    destination = {
        **place.connect("postgres", url=warehouse),
        "stream": TABLE,
        "input": "marked" if write == "deletes" else "rows",
        "write": {"swap": "replace", "deletes": "merge"}.get(write, write),
        "key": ["id"] if write in KEYED else [],
        "replace_strategy": "swap" if write == "swap" else "delete_insert",
        "delete_when": "gone" if write == "deletes" else None,
    }
    marked = {"name": "marked", "inputs": ["rows"], "steps": [{"derive": {"gone": GONE}}]}
    steps = {"transformations": [marked]} if write == "deletes" else {}
    return {"name": "rows", "sources": {"rows": source}, **steps, "destinations": [destination]}
