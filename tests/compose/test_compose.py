"""docker-compose.yml as a user starts it: one installation for all tests, in the order in which they stand here."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from dataaggregator.cli.demo.setting import Setting
from dataaggregator.cli.demo.story import tell
from dataaggregator.client import Client
from dataaggregator.embedded.home import Home
from tests.compose.images import ROOT
from tests.compose.installation import SERVERS, SERVICES, USER, Installation

pytestmark = pytest.mark.timeout(3600)
Json = dict[str, Any]
PIPELINES = 8


class ComposeSetting(Setting):
    """The demo's places as they are called inside the installation's network; the folder has one name everywhere."""

    def _connectors(self) -> list[Json]:
        files, reference, warehouse = super()._connectors()
        inside = self.warehouse_url.rpartition("@")[0] + "@postgres:5432/demo"
        reference = {**reference, "config": {**reference["config"], "base_url": "http://reference:8080"}}
        return [files, reference, {**warehouse, "config": {"url": inside}}]


@pytest.fixture(scope="module")
async def client(installation: Installation) -> AsyncIterator[Client]:
    """The administrator's."""
    async with Client(installation.url) as client:
        password = installation.secrets()["auth/bootstrap_admin_password"]
        await client.login("admin@localhost.localdomain", password)
        yield client


def test_everything_is_up_and_healthy(installation: Installation) -> None:
    found = {one["Service"]: one for one in installation.containers()}
    assert {name for name, one in found.items() if one["Health"] == "healthy"} == {*SERVICES, *SERVERS}
    for name in ("secrets", "migrate"):
        assert (found[name]["State"], found[name]["ExitCode"]) == ("exited", 0)


async def test_the_platform_says_that_all_its_parts_work(client: Client) -> None:
    status = await client.get("/api/status")
    assert status["status"] == "ok", status


async def test_the_demos_jobs_arrive(installation: Installation, client: Client) -> None:
    """Files, REST and PostgreSQL through steps and the strict sandbox, held against a computation done without it."""
    server = installation.compose("port", "postgres", "5432").strip()
    password = installation.secrets()["postgres/owner_password"]
    setting = ComposeSetting(Home(installation.folder.parent), f"postgresql://postgres:{password}@{server}/postgres")
    try:
        await setting.open()
        await setting.apply(client)
        with installation.timed("the demo's three runs"):
            await tell(client, setting)
    finally:
        await setting.close()


async def test_two_executors_share_the_work_and_the_run_folders(installation: Installation, client: Client) -> None:
    with installation.timed("a second executor until it is healthy"):
        installation.up("--scale", "executor=2")
    for number in range(PIPELINES):
        await client.post("/api/pipelines", _small_pipeline(number))
    with installation.timed(f"{PIPELINES} runs at once by two executors"):
        started = [await client.start_run(f"small-{number}") for number in range(PIPELINES)]
        ended = await asyncio.gather(*(client.finished_run(run["id"]) for run in started))
    assert [(run["status"], run["balanced"]) for run in ended] == [("succeeded", True)] * PIPELINES
    hosts = {attempt["executor"].rsplit("-", 2)[0] for run in ended for attempt in run["attempts"]}
    names = {installation.inspect("executor", index)["Config"]["Hostname"] for index in (1, 2)}
    assert hosts == names
    rejected = {run["id"]: run["rows_rejected"] for run in ended}
    assert all(rejected.values())
    for index in (1, 2):  # whichever is asked for a run's rejected rows finds them
        there = installation.run_in("executor", "ls", "/var/lib/dataaggregator/runs", index=index).split()
        assert set(rejected) <= set(there)


def _small_pipeline(number: int) -> Json:
    checked = {"name": "regions", "validate": [{"rule": "region-known", "check": {"not_null": "admin1code"}}]}
    return {
        "name": f"small-{number}",
        "sources": {"cities": {"connector": "demo-files", "stream": "cities.csv"}},
        "transformations": [{"name": "checked", "steps": [checked]}],
        "destinations": [{"connector": "demo-files", "stream": f"small-{number}.parquet", "write": "replace"}],
    }


@pytest.mark.parametrize("service", SERVICES)
def test_a_container_can_do_little(installation: Installation, service: str) -> None:
    status = dict(
        line.split(":\t", 1)
        for line in installation.run_in(service, "cat", "/proc/1/status").splitlines()
        if ":\t" in line
    )
    assert status["Uid"].split() == [str(USER)] * 4
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    refused = installation.try_compose("exec", "--no-TTY", service, "touch", "/opt/dataaggregator/planted")
    assert b"Read-only file system" in refused.stderr


def test_only_executors_and_the_gateway_have_a_way_out(installation: Installation) -> None:
    [inside, outside] = json.loads(
        installation.engine.docker("network", "inspect", "dataaggregator_inside", "dataaggregator_outside")
    )
    assert (inside["Internal"], outside["Internal"]) == (True, False)
    networks = {name: set(installation.inspect(name)["NetworkSettings"]["Networks"]) for name in (*SERVICES, *SERVERS)}
    # PostgreSQL as well here, because this test looks into it.
    out = {"gateway", "executor", "postgres"}
    assert {name for name, joined in networks.items() if joined != {"dataaggregator_inside"}} == out
    assert installation.inspect("secrets")["HostConfig"]["NetworkMode"] == "none"


def test_no_secret_is_seen_from_outside(installation: Installation) -> None:
    """Not in what the engine knows of the containers, not in their logs, not in any command line."""
    seen = {
        "inspect": json.dumps([installation.inspect(name) for name in (*SERVICES, *SERVERS, "secrets", "migrate")]),
        "logs": installation.compose("logs", "--no-color"),
        "top": installation.compose("top"),
    }
    assert "service_listens" in seen["logs"]
    secrets = {name: text.split()[-1] for name, text in installation.secrets().items()}
    assert not [(where, name) for where, text in seen.items() for name, value in secrets.items() if value in text]


def test_every_docker_command_of_the_pages_works(installation: Installation) -> None:
    """As they stand there, one after the other, in a folder of a person's own."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    shown = [block for page in pages for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.M | re.S)]
    lines = [line for block in shown for line in block.splitlines() if line.startswith("docker ")]
    assert len(lines) >= 7
    for line in lines:
        done = installation.run_as_typed(line)
        assert done.returncode == 0, f"{line}\n{done.stderr.decode()[-2000:]}"
    assert (installation.folder / "dataaggregator-secrets.tar").read_bytes() == installation.export()
    assert (installation.folder / "dataaggregator.dump").read_bytes().startswith(b"PGDMP")


def test_a_second_up_changes_nothing(installation: Installation) -> None:
    before = ({one["ID"] for one in installation.containers() if one["State"] == "running"}, installation.secrets())
    with installation.timed("a second up"):
        installation.up()
    after = {one["ID"] for one in installation.containers() if one["State"] == "running"}
    assert (after, installation.secrets()) == before


async def test_a_stopped_executor_leaves_its_work_to_the_other(installation: Installation, client: Client) -> None:
    installation.up("--scale", "executor=2")
    with installation.timed("an executor stops"):
        installation.engine.docker("stop", "dataaggregator-executor-1")
    assert installation.inspect("executor", 1)["State"]["ExitCode"] == 0
    run = await client.finished_run((await client.start_run("small-0"))["id"])
    assert run["status"] == "succeeded"


def test_services_stop_when_they_are_told(installation: Installation) -> None:
    with installation.timed("all services stop"):
        installation.compose("stop", *SERVICES)
    codes = {name: installation.inspect(name)["State"]["ExitCode"] for name in SERVICES}
    assert codes == dict.fromkeys(SERVICES, 0)


async def test_lost_secrets_are_not_made_anew_over_data_and_can_be_put_back(installation: Installation) -> None:
    """The last test: afterwards everything runs again on what it had."""
    backup, secrets = installation.export(), installation.secrets()
    installation.compose("down")
    volumes = [f"dataaggregator_{name}" for name in _secret_volumes()]
    installation.engine.docker("volume", "rm", *volumes)

    refused = installation.try_compose("up", "--detach", "--pull", "never")
    assert refused.returncode != 0
    assert "its secrets are gone" in installation.compose("logs", "secrets")

    installation.compose("run", "--rm", "--no-deps", "--no-TTY", "secrets", "import", stdin=backup)
    with installation.timed("up again with the secrets put back"):
        installation.up()
    async with Client(installation.url) as client:
        await client.login("admin@localhost.localdomain", secrets["auth/bootstrap_admin_password"])
        assert (await client.get("/api/connectors/demo-warehouse"))["name"] == "demo-warehouse"
        assert (await client.finished_run((await client.start_run("small-1"))["id"]))["status"] == "succeeded"


def _secret_volumes() -> list[str]:
    return ["secrets", "auth-secrets", "postgres-secrets", "rabbitmq-secrets", "redis-secrets"]
