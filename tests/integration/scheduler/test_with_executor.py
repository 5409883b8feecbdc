"""Control plane and real executor together: probes, and a run whose whole outcome is mirrored."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from dataaggregator.settings import Settings
from services.executor import app as executor
from tests.integration.control import Control, control_platform
from tests.templates import share_in

ROWS = "id,delay\n1,5\n2,-3\n3,20\n"


@pytest.fixture
async def control(settings: Settings, database_url: str, tmp_path: Path) -> AsyncIterator[Control]:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "flights.csv").write_text(ROWS)
    server = urlsplit(database_url)
    changed = settings.model_copy(
        update={"files_allowed_roots": (tmp_path / "in",), "egress_allow": (server.hostname or "",), "run_slots": 1}
    )
    async with AsyncExitStack() as held:
        control = await control_platform(changed, database_url, held, lambda ports: share_in(executor.build(ports)))
        root = (tmp_path / "in").as_uri()
        await control.good("POST", "/api/connectors", {"name": "disk", "type": "files", "config": {"root": root}})
        yield control


async def test_what_is_behind_a_connector_is_found_and_shown(control: Control) -> None:
    tested = await control.good("POST", "/api/connectors/disk/test")
    assert tested["ok"], tested
    streams = await control.good("GET", "/api/connectors/disk/streams")
    assert [stream["name"] for stream in streams["items"]] == ["flights.csv"]
    preview = await control.good("POST", "/api/connectors/disk/preview", {"stream": "flights.csv", "limit": 2})
    assert [row["id"] for row in preview["rows"]] == [1, 2]
    body = {"steps": [{"filter": "delay > 0"}], "sample_data": [{"delay": 5}, {"delay": -1}]}
    tried = await control.good("POST", "/api/transformations/test", body)
    assert (tried["output"], tried["balanced"]) == ([{"delay": 5}], True)


async def test_a_run_is_mirrored_to_its_end(control: Control, empty_database_url: str) -> None:
    await control.good(
        "POST", "/api/connectors", {"name": "warehouse", "type": "postgres", "config": {"url": empty_database_url}}
    )
    definition = {
        "name": "late",
        "sources": {"flights": {"connector": "disk", "stream": "flights.csv"}},
        "transformations": [{"name": "only-late", "steps": [{"filter": "delay > 0"}]}],
        "destinations": [{"connector": "warehouse", "stream": "public.late", "write": "replace"}],
    }
    await control.good("POST", "/api/pipelines", definition)
    asked = await control.good("POST", "/api/pipelines/late/runs")
    run = await control.run_is(asked["id"], "succeeded", "failed", "cancelled", "timed_out")
    assert run["status"] == "succeeded", run["error"]
    assert (run["rows_read"], run["rows_written"], run["rows_filtered"]) == (3, 2, 1)
    assert (run["balanced"], run["progress"], run["error"]) == (True, 1.0, None)
    assert run["destinations"][0]["receipt"]["verified"] is True
    assert [attempt["number"] for attempt in run["attempts"]] == [1]


async def test_what_the_caller_must_change_is_no_fault_of_another_system(control: Control) -> None:
    body = {"steps": [{"filter": "delay > 0"}], "sample_data": [{"late": 5}]}
    reply = await control.call("POST", "/api/transformations/test", body)
    assert reply.status == 422, reply.json
    reply = await control.call("POST", "/api/connectors/disk/preview", {"stream": "missing.csv"})
    assert reply.status == 422, reply.json
