"""Lists of large definitions and of what is kept of them: pages end by their bytes and go on by their cursor."""

from typing import Any

import pytest

from dataaggregator.db import pages
from tests.integration.control import Control, a_pipeline

INCREMENTAL = {
    "connector": "warehouse", "stream": "a", "read": "incremental", "cursor_field": "at", "primary_key": ["id"],
}  # fmt: skip
MERGED = {"connector": "warehouse", "stream": "marts.flights", "write": "merge", "key": ["id"], "version_field": "at"}


async def paged(control: Control, path: str, limit: int = 500) -> list[list[dict[str, Any]]]:
    """The items of each page of a list."""
    found: list[list[dict[str, Any]]] = []
    cursor: str | None = None
    joint = "&" if "?" in path else "?"
    while True:
        after = f"&cursor={cursor}" if cursor else ""
        page = await control.good("GET", f"{path}{joint}limit={limit}{after}")
        found.append(page["items"])
        cursor = page["next_cursor"]
        if cursor is None:
            return found


def name_of(item: dict[str, Any]) -> Any:
    """A version has no id."""
    return item["id"] if "id" in item else item["version"]


@pytest.mark.parametrize(
    "path",
    [
        "/api/connectors",
        "/api/transformations",
        "/api/pipelines",
        "/api/pipelines/copy-0/versions",
        "/api/pipelines/copy-0/runs",
        "/api/runs?trigger=manual",
        "/api/pipelines/copy-1/backfills",
    ],
)
async def test_each_list_ends_a_page_by_its_bytes(
    control: Control, warehouse: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await control.connector("other")
    for n in range(2):
        await control.good("POST", "/api/transformations", {"name": f"clean-{n}", "steps": [{"filter": "delay > 0"}]})
        await control.pipeline(f"copy-{n}", sources={"flights": INCREMENTAL}, destinations=[MERGED])
    await control.good("PATCH", "/api/pipelines/copy-0", {"timeout": "2h"})
    for _ in range(2):
        await control.good("POST", "/api/pipelines/copy-0/runs")
        wish = {"from": "2026-01-01T00:00:00Z", "to": "2026-01-03T00:00:00Z", "interval": "1d"}
        await control.good("POST", "/api/pipelines/copy-1/backfills", wish)
    [whole] = await paged(control, path)
    assert len(whole) >= 2
    monkeypatch.setattr(pages, "PAGE_BYTES", 1)
    found = await paged(control, path)
    assert [[name_of(one) for one in page] for page in found] == [[name_of(one)] for one in whole]


async def test_large_definitions_are_listed_eight_mebibytes_at_a_time(control: Control, warehouse: str) -> None:
    long = {"region": {"type": "string", "default": "x" * 900_000}}
    for n in range(11):
        await control.good("POST", "/api/pipelines", a_pipeline(f"copy-{n:02}", parameters=long))
    found = await paged(control, "/api/pipelines")
    assert [len(page) for page in found] == [10, 1]
    assert [one["name"] for page in found for one in page] == [f"copy-{n:02}" for n in range(11)]
