"""docker-compose.yml agrees with the settings, with the services that are installed, and with itself."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from dataaggregator.installed import installed_services
from dataaggregator.settings import Settings, is_secret, variable
from deploy.docker import healthcheck, make_secrets

ROOT = Path(__file__).parents[3]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
DOCKERFILE = (ROOT / "deploy/docker/Dockerfile").read_text()
ALL: dict[str, Any] = COMPOSE["services"]
SERVICES = sorted(service.name for service in installed_services())
OURS = [*SERVICES, "secrets", "migrate"]
SERVERS = ["postgres", "rabbitmq", "redis"]
MEBIBYTE = 1024**2
# A relay's, a keeper's and a waker's connection of their own, of which an executor has all three.
OWN_CONNECTIONS = 3
MORE_EXECUTORS = 4


def interpolated(value: object) -> str:
    """The value with the default of each `${NAME:-default}`."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(value))


def environment(name: str) -> dict[str, str]:
    return {key: interpolated(value) for key, value in ALL[name].get("environment", {}).items()}


def mounts(name: str) -> dict[str, str]:
    """What is mounted in a service: the target by the source."""
    found = {}
    for mount in ALL[name].get("volumes", []):
        if isinstance(mount, dict):
            found[mount["source"]] = mount["target"]
        elif ":" in mount:
            source, target = mount.split(":")[:2]
            found[source] = target
    return found


def test_every_service_is_there_and_its_image_starts_it() -> None:
    assert set(ALL) == {*OURS, *SERVERS}
    for name in OURS:
        assert ALL[name]["build"]["args"] == {"SERVICE": name}
        assert ALL[name]["build"]["dockerfile"] == "deploy/docker/Dockerfile"


@pytest.mark.parametrize("name", OURS)
def test_everything_a_service_is_told_is_a_setting(name: str) -> None:
    known = {variable(field) for field in Settings.model_fields}
    files = {f"{variable(field)}_FILE" for field in Settings.model_fields if is_secret(field)}
    assert set(environment(name)) <= known | files
    values = {key: value for key, value in environment(name).items() if not key.endswith("_FILE")}
    Settings.load(values)


def test_no_secret_is_written_down() -> None:
    """A secret has no default, not even an empty one: it is in a file that the first start makes."""
    secrets = {variable(field) for field in Settings.model_fields if is_secret(field)}
    for name in ALL:
        assert not secrets & set(environment(name)), name
        assert not [key for key in environment(name) if "PASSWORD" in key and not key.endswith("_FILE")], name
    texts = [(ROOT / ".env.example").read_text(), (ROOT / "docker-compose.yml").read_text()]
    for text in texts:
        assert not re.findall(r"(?im)^[#\s]*\w*(?:password|secret_key|token)\w*\s*[=:]\s*[^/\s]\S*$", text)


@pytest.mark.parametrize("name", [*SERVICES, "migrate", "postgres"])
def test_every_secret_a_service_reads_is_made_and_mounted(name: str) -> None:
    made = make_secrets.contents()
    makes = {source: Path(target) for source, target in mounts("secrets").items()}
    readable = {
        f"{target}/{file.removeprefix(makes[source].name + '/')}"
        for source, target in mounts(name).items()
        if source in makes and makes[source].is_relative_to("/secrets")
        for file in made
        if file.startswith(makes[source].name + "/")
    }
    named = {value for key, value in environment(name).items() if key.endswith("_FILE")}
    assert named
    assert named <= readable


def test_only_auth_sees_the_administrators_password_and_only_the_servers_their_own() -> None:
    assert [name for name in ALL if "auth-secrets" in mounts(name)] == ["secrets", "auth"]
    for server in SERVERS:
        assert [name for name in ALL if f"{server}-secrets" in mounts(name)] == ["secrets", server]


def test_ports_are_those_of_the_settings() -> None:
    default = Settings()
    for name in SERVICES:
        port = getattr(default, f"{name}_port")
        assert healthcheck.PORTS[name] == port
        for other in SERVICES:
            assert environment(other)[f"{name.upper()}_URL"] == f"http://{name}:{port}"
    assert [interpolated(port) for port in ALL["gateway"]["ports"]] == [f"127.0.0.1:8001:{default.gateway_port}"]


def test_only_the_gateway_is_published_and_only_who_must_gets_out() -> None:
    assert [name for name in ALL if "ports" in ALL[name]] == ["gateway"]
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    out = [name for name in ALL if ALL[name].get("networks") != ["inside"] and ALL[name].get("network_mode") != "none"]
    assert out == ["gateway", "executor"]


def test_images_are_pinned() -> None:
    images = [ALL[name]["image"] for name in SERVERS] + re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", DOCKERFILE, re.M)
    assert len(images) == len(SERVERS) + 1
    for image in images:
        assert re.fullmatch(r"[a-z]+:\d+\.\d+(\.\d+)?(-[a-z]+)*", image), image


@pytest.mark.parametrize("name", OURS)
def test_our_containers_can_do_little(name: str) -> None:
    service = ALL[name]
    assert service["user"] == "10001:10001"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", [*OURS, *SERVERS])
def test_every_container_has_limits_and_says_how_it_is(name: str) -> None:
    assert set(ALL[name]["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
    assert ALL[name]["logging"]["options"]["max-size"]
    if name in ("secrets", "migrate"):  # they end, and what depends on them waits for that
        assert ALL[name]["restart"] == "no"
        assert ALL[name]["healthcheck"] == {"disable": True}
    else:
        assert ALL[name]["restart"] == "unless-stopped"
        assert "test" in ALL[name].get("healthcheck", {}) or (name in SERVICES and "HEALTHCHECK" in DOCKERFILE)


def test_nothing_starts_before_what_it_needs() -> None:
    for name in SERVICES:
        assert ALL[name]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
    assert set(ALL["migrate"]["depends_on"]) == set(SERVERS)
    assert {each["condition"] for each in ALL["migrate"]["depends_on"].values()} == {"service_healthy"}
    for name in SERVERS:
        assert ALL[name]["depends_on"] == {"secrets": {"condition": "service_completed_successfully"}}


def test_postgres_has_a_connection_for_every_pool() -> None:
    text = (ROOT / "deploy/config/postgres/postgresql.conf").read_text()
    [found] = re.findall(r"^max_connections = (\d+)$", text, re.MULTILINE)
    told = environment("executor")
    process = int(told["DB_POOL_SIZE"]) + int(told["DB_MAX_OVERFLOW"]) + OWN_CONNECTIONS
    reserved_for_superusers = 3
    assert (len(SERVICES) + MORE_EXECUTORS) * process + reserved_for_superusers <= int(found)


def test_the_runs_of_an_executor_fit_into_its_memory() -> None:
    told = environment("executor")
    run = int(told["RUN_MEMORY_BYTES"]) + int(told["SANDBOX_MEMORY_BYTES"])
    limit = interpolated(ALL["executor"]["deploy"]["resources"]["limits"]["memory"])
    assert limit == "5G"
    assert int(told["RUN_SLOTS"]) * run + 512 * MEBIBYTE <= 5 * 1024 * MEBIBYTE


def test_what_may_be_set_is_in_the_example_with_its_default() -> None:
    used = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", (ROOT / "docker-compose.yml").read_text()))
    shown = dict(re.findall(r"^# ([A-Z_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert shown == used


def test_executors_share_run_folders_and_keep_spill_to_themselves() -> None:
    assert mounts("executor")["runs"] == "/var/lib/dataaggregator"
    assert "/var/lib/dataaggregator/spill" in ALL["executor"]["volumes"]
    assert mounts("executor")["files"] == environment("executor")["FILES_ALLOWED_ROOTS"]
    assert "DATAAGGREGATOR_HOME=/var/lib/dataaggregator" in DOCKERFILE
