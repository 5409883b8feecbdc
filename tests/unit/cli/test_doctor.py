"""doctor, what it asks of the machine: each finding that can be bad, made bad."""

import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dataaggregator.catalogue import CATALOGUE
from dataaggregator.cli.doctor import machine, servers
from dataaggregator.cli.doctor.command import examine
from dataaggregator.cli.doctor.finding import Finding
from dataaggregator.clock import SystemClock
from dataaggregator.dataplane.sandbox import landlock
from dataaggregator.dataplane.sandbox.facts import kernel_facts
from dataaggregator.settings import Settings
from tests.certificates import make_certificates

AT = datetime(2026, 1, 2, tzinfo=UTC)


def code(finding: Finding) -> str | None:
    """Of the cure, which stands in the catalogue."""
    if finding.help is None:
        return None
    named = finding.help.rpartition("#")[2]
    assert named in CATALOGUE
    return named


@pytest.mark.parametrize(
    ("version", "status"), [((3, 10, 9), "fail"), ((3, 11, 0), "ok"), ((3, 13, 9), "ok"), ((3, 14, 0), "fail")]
)
def test_only_the_pythons_that_are_supported_are_well(version: tuple[int, ...], status: str) -> None:
    found = machine.python(version)
    assert (found.status, code(found)) == (status, "python-unsupported" if status == "fail" else None)


def test_a_kernel_without_a_part_fails_strict_and_is_a_doubt_of_basic(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.kernel(kernel_facts("strict")).status == "ok"
    monkeypatch.setattr(landlock, "abi", lambda: 0)
    strict, basic = (machine.kernel(kernel_facts(level)) for level in ("strict", "basic"))
    assert (strict.status, basic.status) == ("fail", "warn")
    assert code(strict) == code(basic) == "sandbox-unavailable"
    assert "lsm=" in strict.detail


def test_a_disk_is_judged_by_what_is_free_and_where_it_can_be_written(tmp_path: Path) -> None:
    home = tmp_path / "not" / "made" / "yet"
    assert machine.disk(home, 0, 0).status == "ok"
    assert not home.exists()
    little, scarce = machine.disk(home, 0, 1 << 60), machine.disk(home, 1 << 60, 1 << 60)
    assert [(one.status, code(one)) for one in (little, scarce)] == [("warn", "disk-low"), ("fail", "disk-low")]
    refused = machine.disk(Path("/proc/nowhere"))
    assert (refused.status, code(refused)) == ("fail", "folder-not-writable")


def test_a_port_that_somebody_has_is_named_by_its_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        settings = Settings(gateway_port=port)
        [taken] = machine.ports(settings, None)
        assert (taken.status, code(taken)) == ("warn", "port-in-use")
        assert f"GATEWAY_PORT={port}" in taken.detail
        [ours] = machine.ports(settings, f"http://127.0.0.1:{port}")
        assert ours.status == "ok"
    [free] = machine.ports(settings, None)
    assert free.status == "ok"


def test_a_certificate_that_would_stop_the_gateway_is_told_before(tmp_path: Path) -> None:
    files = make_certificates(tmp_path / "tls")
    assert list(machine.certificate(Settings.load({}), SystemClock())) == []
    named = {"TLS_CERTIFICATE": str(files.certificate), "TLS_KEY": str(files.key)}
    [found] = machine.certificate(Settings.load(named), SystemClock())
    assert found.status == "ok"
    [found] = machine.certificate(Settings.load(named | {"TLS_KEY": str(files.authority)}), SystemClock())
    assert (found.status, code(found)) == ("fail", "settings-invalid")
    assert f"TLS_KEY={files.authority}" in found.detail


@pytest.mark.parametrize(("seconds", "status"), [(0, "ok"), (2.5, "ok"), (6, "warn"), (-3, "warn"), (60, "fail")])
def test_clocks_are_held_against_each_other(seconds: float, status: str) -> None:
    """The answer took a second, in which the server may have looked at its clock at any moment."""
    found = servers.clocks(AT + timedelta(seconds=seconds), AT, AT + timedelta(seconds=1))
    assert (found.status, code(found)) == (status, None if status == "ok" else "clocks-apart")


async def test_settings_that_are_wrong_are_named_each_and_end_the_examination(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_PORT", "many")
    monkeypatch.setenv("SECRET_KEY", "short")
    found = [finding async for finding in examine(None)]
    assert [one.status for one in found] == ["ok", "fail", "fail"]
    assert [code(one) for one in found[1:]] == ["settings-invalid"] * 2
    assert "short" not in str(found)
