"""The demo's setting: its file, its REST server, its tables, and the definitions saved over the public API."""

import secrets
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import asyncpg

from dataaggregator.cli.code import apply_documents
from dataaggregator.cli.demo.world import ReferenceApi, fill_census, write_cities
from dataaggregator.cli.files import Document, read_documents
from dataaggregator.client import Client
from dataaggregator.embedded.home import Home

Json = dict[str, Any]
ROLE = "demo"
DATABASE = "demo"


class Setting:
    """Everything the demo's pipelines read from and write to; ``server_url`` is the owner's door to PostgreSQL."""

    def __init__(self, home: Home, server_url: str) -> None:
        self.folder = home.path / "demo"
        self._server_url = server_url
        self._password_file = home.path / "demo.password"
        self._reference = ReferenceApi()

    @property
    def warehouse_url(self) -> str:
        """The demo's own database, as a role that may do nothing elsewhere."""
        place = urlsplit(self._server_url)
        password = quote(self._password_file.read_text(), safe="")
        return f"postgresql://{ROLE}:{password}@{place.hostname}:{place.port}/{DATABASE}"

    async def open(self) -> None:
        """Write the file, start the REST server, fill the table; what is there from an earlier time stays."""
        self.folder.mkdir(exist_ok=True, mode=0o700)
        write_cities(self.folder)
        await self._reference.start()
        await self._make_warehouse()
        connection = await asyncpg.connect(self.warehouse_url)
        try:
            await fill_census(connection)
        finally:
            await connection.close()

    async def close(self) -> None:
        """Stop the REST server."""
        await self._reference.stop()

    async def apply(self, client: Client) -> None:
        """Save connectors, transformations and pipelines under their names."""
        with as_file(files("dataaggregator.cli.demo") / "definitions.yaml") as file:
            definitions = read_documents([file])
            connectors = [Document(file, {"kind": "connector", **one}) for one in self._connectors()]
            await apply_documents(client, [*connectors, *definitions])

    def _connectors(self) -> list[Json]:
        pages = {"type": "page", "param": "page", "start": 1}
        countries = {
            "path": "/countries",
            "records": "$.countries",
            "pagination": pages,
            "primary_key": ["iso"],
        }
        return [
            {"name": "demo-files", "type": "files", "config": {"root": self.folder.as_uri()}},
            {
                "name": "demo-reference",
                "type": "http",
                "config": {"base_url": self._reference.url, "streams": {"countries": countries}},
            },
            {"name": "demo-warehouse", "type": "postgres", "config": {"url": self.warehouse_url}},
        ]

    async def _make_warehouse(self) -> None:
        """A role and a database of the demo's own, in the private server."""
        _keep_secret(self._password_file)
        password = self._password_file.read_text()
        connection = await asyncpg.connect(self._server_url)
        try:
            if not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", ROLE):
                await connection.execute(f"CREATE ROLE {ROLE} LOGIN")
            # Made of URL-safe characters only, so it needs no quoting; a utility statement takes no parameters.
            await connection.execute(f"ALTER ROLE {ROLE} PASSWORD '{password}'")
            if not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", DATABASE):
                await connection.execute(f"CREATE DATABASE {DATABASE} OWNER {ROLE}")
        finally:
            await connection.close()


def _keep_secret(path: Path) -> None:
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(24))
