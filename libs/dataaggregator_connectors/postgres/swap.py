"""Replacing a table by one built beside it, in the load's transaction: readers see the old rows until its commit.

What belongs to the table is carried over under its own name; what would be left on the old one is refused by name.
"""

import asyncio

import asyncpg

from dataaggregator.connector.destination import LoadRequest
from dataaggregator.errors import Invalid, Transient
from dataaggregator_connectors.postgres.connection import Connection
from dataaggregator_connectors.postgres.sql import Table

LOCK_SECONDS = 300.0
# So long new readers wait behind us while one before us is still reading.
PATIENCE = "1s"

OWN_SEQUENCES = """
SELECT s.oid, d.deptype, a.attname FROM pg_depend d
JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = {table}
"""
LEFT_BEHIND = f"""
WITH c AS (SELECT * FROM pg_class WHERE oid = to_regclass($1)),
own AS ({OWN_SEQUENCES.format(table="to_regclass($1)")})
SELECT pg_describe_object(d.classid, d.objid, d.objsubid) AS what
FROM c JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid
    OR d.refclassid = 'pg_type'::regclass AND d.refobjid IN (
        c.reltype, (SELECT typarray FROM pg_type WHERE oid = c.reltype))
WHERE NOT (d.classid = 'pg_class'::regclass AND (
        d.objid = c.reltoastrelid OR d.objid IN (SELECT indexrelid FROM pg_index WHERE indrelid = c.oid)
        OR d.objid IN (SELECT oid FROM own)))
    AND NOT (d.classid = 'pg_attrdef'::regclass AND d.objid IN (SELECT oid FROM pg_attrdef WHERE adrelid = c.oid))
    AND NOT (d.classid = 'pg_type'::regclass AND d.objid IN (
        c.reltype, (SELECT typarray FROM pg_type WHERE oid = c.reltype)))
    AND NOT (d.classid = 'pg_constraint'::regclass AND d.objid IN (
        SELECT oid FROM pg_constraint WHERE conrelid = c.oid AND confrelid <> c.oid))
UNION SELECT 'its inheritance or partitioning' FROM c
    WHERE relkind <> 'r' OR relispartition OR relhassubclass OR EXISTS (SELECT FROM pg_inherits WHERE inhrelid = c.oid)
UNION SELECT 'its row security' FROM c WHERE relrowsecurity OR relforcerowsecurity
UNION SELECT 'its replica identity' FROM c WHERE relreplident <> 'd'
UNION SELECT 'its type ' || reloftype::regtype FROM c WHERE reloftype <> 0
UNION SELECT 'its access method' FROM c WHERE relam <> (SELECT oid FROM pg_am WHERE amname = 'heap')
UNION SELECT 'its owner ' || relowner::regrole || ', which this user may not act for' FROM c
    WHERE NOT pg_has_role(relowner, 'USAGE')
ORDER BY what
"""
CREATE = """
SELECT format('CREATE %s TABLE %s (LIKE %s INCLUDING ALL) %s',
    CASE relpersistence WHEN 'u' THEN 'UNLOGGED' END, $2::text, $1::text,
    'TABLESPACE ' || quote_ident((SELECT spcname FROM pg_tablespace t WHERE t.oid = reltablespace)))
FROM pg_class WHERE oid = to_regclass($1)
"""
INDEXES_OF = """
SELECT i.indexrelid, c.relname, behind, row_number() OVER (PARTITION BY behind ORDER BY i.indexrelid) AS place
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
    JOIN pg_namespace s ON s.oid = t.relnamespace,
    format('CREATE %sINDEX %I ON %I.%I', CASE WHEN indisunique THEN 'UNIQUE ' END, c.relname, s.nspname, t.relname)
        AS named,
    substr(pg_get_indexdef(i.indexrelid), length(named) + 1) AS behind
WHERE i.indrelid = {table}
"""
# Of each generated index its old name: they are the same behind the names of index and table, and in the same order.
INDEXES = f"""
SELECT n.indexrelid::regclass::text AS made, o.relname AS name
FROM ({INDEXES_OF.format(table="to_regclass($2)")}) n FULL JOIN ({INDEXES_OF.format(table="to_regclass($1)")}) o
    USING (behind, place)
"""
IDENTITIES = f"""
SELECT o.oid::regclass::text AS old, (SELECT relname FROM pg_class WHERE oid = o.oid) AS name,
    n.oid::regclass::text AS made
FROM ({OWN_SEQUENCES.format(table="to_regclass($1)")}) o JOIN ({OWN_SEQUENCES.format(table="to_regclass($2)")}) n
    USING (attname) WHERE o.deptype = 'i'
"""
CARRIED = f"""
WITH o AS (SELECT * FROM pg_class WHERE oid = to_regclass($1)),
n AS (SELECT * FROM pg_class WHERE oid = to_regclass($2)),
options AS (
    SELECT format('%I = %L', option_name, option_value) AS word FROM o, pg_options_to_table(reloptions)
    UNION ALL SELECT format('toast.%I = %L', option_name, option_value)
        FROM o JOIN pg_class t ON t.oid = o.reltoastrelid, pg_options_to_table(t.reloptions)),
rights AS (
    SELECT 'old' AS side, '' AS field, r.* FROM o, aclexplode(coalesce(relacl, acldefault('r', relowner))) r
    UNION ALL SELECT 'new', '', r.* FROM n, o, aclexplode(coalesce(n.relacl, acldefault('r', o.relowner))) r
    UNION ALL SELECT 'old', format(' (%I)', a.attname), r.* FROM o JOIN pg_attribute a ON a.attrelid = o.oid
        AND a.attnum > 0 AND NOT a.attisdropped, aclexplode(a.attacl) r),
worded AS (
    SELECT side, field, privilege_type || field AS word, bool_or(is_grantable) AS grantable,
        CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END AS whom
    FROM rights GROUP BY side, field, privilege_type, grantee)
SELECT 1 AS place, format('ALTER TABLE %s SET (%s)', $2::text, string_agg(word, ', ')) AS statement
    FROM options HAVING count(*) > 0
UNION ALL SELECT 2, format('ALTER TABLE %s ADD CONSTRAINT %I %s', $2::text, conname, pg_get_constraintdef(oid))
    FROM pg_constraint WHERE conrelid = to_regclass($1) AND contype = 'f'
UNION ALL SELECT 3, format(
        'COMMENT ON CONSTRAINT %I ON %s IS %L', conname, $2::text, obj_description(oid, 'pg_constraint'))
    FROM pg_constraint WHERE conrelid = to_regclass($1) AND contype = 'f'
UNION ALL SELECT 3, format('COMMENT ON TABLE %s IS %L', $2::text, obj_description(oid, 'pg_class')) FROM o
UNION ALL SELECT 4, format('ALTER TABLE %s OWNER TO %s', $2::text, relowner::regrole) FROM o
UNION ALL SELECT 5, format('REVOKE %s ON %s FROM %s', word, $2::text, whom) FROM worded WHERE side = 'new'
UNION ALL SELECT 6, format(
        'GRANT %s ON %s TO %s%s', word, $2::text, whom, CASE WHEN grantable THEN ' WITH GRANT OPTION' END)
    FROM worded WHERE side = 'old'
UNION ALL SELECT 7, format('ALTER SEQUENCE %s OWNED BY %s.%I', oid::regclass, $2::text, attname)
    FROM ({OWN_SEQUENCES.format(table="to_regclass($1)")}) s WHERE deptype = 'a'
ORDER BY place
"""


async def check_swap(connection: Connection, table: Table) -> None:
    """Raises Invalid (`swap-impossible`) with all that would be left on the old table."""
    left = [row["what"] for row in await connection.fetch(LEFT_BEHIND, table.sql)]
    if left:
        raise Invalid(
            "swap-impossible",
            f"{table} cannot be swapped for another table without losing {'; '.join(left)}. "
            "Write with replace_strategy: delete_insert, which leaves the table where it is.",
        )


async def build_beside(connection: Connection, load: LoadRequest, table: Table) -> Table:
    """An empty table like it. From here on nobody else writes to the old one: it would be lost with it."""
    await connection.execute(f"LOCK TABLE {table.sql} IN SHARE ROW EXCLUSIVE MODE")
    await check_swap(connection, table)
    beside = Table(table.schema, f"_dataaggregator_{load.run_id.hex}")
    await connection.execute(await connection.fetchval(CREATE, table.sql, beside.sql))
    for row in await connection.fetch(IDENTITIES, table.sql, beside.sql):
        await connection.execute(
            f"SELECT setval($1::text::regclass, last_value, is_called) FROM {row['old']}", row["made"]
        )
    return beside


async def take_place(connection: Connection, table: Table, beside: Table) -> int:
    """The new table takes the old one's name, and all its parts theirs; answers how many rows the old one had."""
    names = [table.sql, beside.sql]
    indexes = await connection.fetch(INDEXES, *names)
    if any(row["made"] is None or row["name"] is None for row in indexes):
        raise Transient("destination-altered", f"The indexes of {table} were altered while it was loaded.")
    identities = await connection.fetch(IDENTITIES, *names)
    for row in await connection.fetch(CARRIED, *names):
        await connection.execute(row["statement"])
    deleted = await connection.fetchval(f"SELECT count(*) FROM {table.sql}")
    await _lock_out_readers(connection, table)
    await connection.execute(f"DROP TABLE {table.sql}")
    renames = [("TABLE", beside.sql, table.name)]
    renames += [("INDEX", row["made"], row["name"]) for row in indexes]
    renames += [("SEQUENCE", row["made"], row["name"]) for row in identities]
    for kind, made, name in renames:
        await connection.execute(
            await connection.fetchval(
                "SELECT format('ALTER %s %s RENAME TO %I', $1::text, $2::text, $3::text)", kind, made, name
            )
        )
    return int(deleted)


async def _lock_out_readers(connection: Connection, table: Table) -> None:
    """A reader is waited for, but others do not queue up behind us for longer than a moment."""
    deadline = asyncio.get_running_loop().time() + LOCK_SECONDS
    while True:
        await connection.execute(f"SAVEPOINT swap; SET LOCAL lock_timeout = '{PATIENCE}'")
        try:
            await connection.execute(f"LOCK TABLE {table.sql} IN ACCESS EXCLUSIVE MODE")
        except asyncpg.LockNotAvailableError as error:
            await connection.execute("ROLLBACK TO SAVEPOINT swap")
            if asyncio.get_running_loop().time() > deadline:
                detail = f"{table} was read without a pause for {LOCK_SECONDS:g} s, so that it could not be swapped."
                raise Transient("destination-locked", detail) from error
            await asyncio.sleep(0.5)
        else:
            return
