"""The database: one door for transactions, two roles, migrations a schema at a time."""

from dataaggregator.db.commits import after_commit, is_watched
from dataaggregator.db.connection import Connection, PooledConnection, json_texts
from dataaggregator.db.database import SOON, Database
from dataaggregator.db.identifiers import quote
from dataaggregator.db.roles import PLATFORM_ROLE, WORKSPACE_ROLE, Role

__all__ = [
    "PLATFORM_ROLE",
    "SOON",
    "WORKSPACE_ROLE",
    "Connection",
    "Database",
    "PooledConnection",
    "Role",
    "after_commit",
    "is_watched",
    "json_texts",
    "quote",
]
