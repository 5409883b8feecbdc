"""Resealing: what an earlier SECRET_KEY has sealed is sealed with the present one, a batch at a time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dataaggregator.bus.audit import audit
from dataaggregator.contracts.envelope import PLATFORM_WORKSPACE
from dataaggregator.db import Connection, Database
from dataaggregator.definition import OPERATOR, Audited
from dataaggregator.errors import Permanent
from dataaggregator.secrets import KeyRing

BATCH = 100


@dataclass(frozen=True)
class Sealed:
    """A table of secrets: the columns that find a row, and from a row what its secret is bound to (aad, purpose)."""

    table: str
    key: tuple[str, ...]
    bound: Callable[[Mapping[str, Any]], tuple[str, str]]
    column: str = "sealed"


@dataclass(frozen=True)
class Resealed:
    """How many secrets of a table were sealed anew, and the rows whose secret no key of the ring opens."""

    table: str
    resealed: int
    unreadable: tuple[str, ...]


async def reseal(database: Database, keys: KeyRing, schema: str, sealed: Sealed) -> Resealed:
    """Each batch is a transaction with its line in the audit: whoever is stopped goes on where they were."""
    done, unreadable, after = 0, list[str](), ()
    while True:
        async with database.platform() as tx:
            rows = await _outdated(tx, sealed, keys, after)
            anew = {}
            for row in rows:
                try:
                    anew[_found_by(sealed, row)] = _anew(keys, sealed, row)
                except Permanent:
                    unreadable.append(", ".join(_named(row[name]) for name in sealed.key))
            await _save(tx, sealed, anew)
            if anew:
                line = Audited("secrets.resealed", "table", sealed.table, {"rows": len(anew)})
                await audit(tx, schema, PLATFORM_WORKSPACE, OPERATOR, line)
        done += len(anew)
        if len(rows) < BATCH:
            return Resealed(sealed.table, done, tuple(unreadable))
        after = _found_by(sealed, rows[-1])


async def _outdated(tx: Connection, sealed: Sealed, keys: KeyRing, after: Sequence[Any]) -> list[dict[str, Any]]:
    """The next rows in the order of their key, locked: nobody saves another secret in between."""
    columns = ", ".join(sealed.key)
    places = ", ".join(f"${number}" for number in range(2, 2 + len(after)))
    beyond = f"AND ({columns}) > ({places})" if after else ""
    rows = await tx.fetch(
        f"""SELECT * FROM {sealed.table} WHERE substring({sealed.column} FROM 2 FOR 8) <> $1 {beyond}
            ORDER BY {columns} LIMIT {BATCH} FOR UPDATE""",
        keys.present_id,
        *after,
    )
    return [dict(row) for row in rows]


def _anew(keys: KeyRing, sealed: Sealed, row: Mapping[str, Any]) -> bytes:
    aad, purpose = sealed.bound(row)
    return keys.seal(keys.open(row[sealed.column], aad=aad, purpose=purpose), aad=aad, purpose=purpose)


async def _save(tx: Connection, sealed: Sealed, anew: Mapping[tuple[Any, ...], bytes]) -> None:
    where = " AND ".join(f"{name} = ${number}" for number, name in enumerate(sealed.key, start=2))
    update = f"UPDATE {sealed.table} SET {sealed.column} = $1 WHERE {where}"
    await tx.executemany(update, [(secret, *found_by) for found_by, secret in anew.items()])


def _found_by(sealed: Sealed, row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in sealed.key)


def _named(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
