"""The command: all findings, side by side; exit 1 when one of them is a failure."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import click

from dataaggregator.cli.doctor import machine, servers
from dataaggregator.cli.doctor.finding import Finding, doubtful, ill, well
from dataaggregator.cli.output import console, emit_json, table
from dataaggregator.cli.session import EXIT_FAILED, Session
from dataaggregator.clock import SystemClock
from dataaggregator.composition import NEEDED
from dataaggregator.dataplane.sandbox.facts import kernel_facts
from dataaggregator.embedded.home import Home
from dataaggregator.settings import Settings, SettingsError, missing

COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command("doctor")
@click.pass_obj
def doctor(session: Session) -> None:
    """Look whether everything is there that the platform needs; exit 1 if something is not."""
    found = asyncio.run(_all(examine(session.url, session.authority)))
    failed = any(one.status == "fail" for one in found)
    if session.json:
        emit_json({"ok": not failed, "checks": [one.as_json() for one in found]})
    else:
        rows = [(f"[{COLOURS[one.status]}]{one.status}[/]", one.name, one.detail, one.help) for one in found]
        console().print(table(("", "check", "detail", "help"), rows))
    if failed:
        raise click.exceptions.Exit(EXIT_FAILED)


async def _all(findings: AsyncIterator[Finding]) -> list[Finding]:
    return [finding async for finding in findings]


async def examine(url: str | None, authority: Path | None = None) -> AsyncIterator[Finding]:
    """Python first, then what the settings say, then the machine, then each server they name."""
    yield machine.python()
    try:
        settings = Settings.load()
    except SettingsError as error:
        for line in str(error).splitlines():
            yield ill("settings", line, "settings-invalid")
        return
    yield _complete(settings)
    home = Home.default()
    running = url or home.gateway_url()
    yield machine.kernel(kernel_facts(settings.sandbox))
    yield machine.disk(home.path)
    for finding in machine.certificate(settings, SystemClock()):
        yield finding
    for finding in machine.ports(settings, running):
        yield finding
    async for finding in _servers(settings):
        yield finding
    if running is not None:
        async for finding in servers.platform(running, authority):
            yield finding


def _complete(settings: Settings) -> Finding:
    """Without any server named the platform brings its own; with some of them it is neither one nor the other."""
    lacking = missing(settings, NEEDED)
    if not lacking:
        return well("settings", "all servers are named: services can run as processes of their own")
    if settings.database_url is None and settings.rabbitmq_url is None and settings.redis_url is None:
        return well("settings", "no server is named: the platform runs embedded")
    if settings.database_url is not None and settings.secret_key is None:
        return ill("settings", " ".join(missing(settings, ("secret_key",))), "settings-invalid")
    return doubtful("settings", f"`serve` would lack some. {' '.join(lacking)}", "settings-invalid")


async def _servers(settings: Settings) -> AsyncIterator[Finding]:
    if settings.database_url is None:
        yield servers.embedded_database()
    else:
        async for finding in servers.database(settings.database_url.get_secret_value(), SystemClock()):
            yield finding
    if settings.rabbitmq_url is not None:
        yield await servers.bus(settings.rabbitmq_url.get_secret_value())
    if settings.redis_url is not None:
        yield await servers.limits(settings.redis_url.get_secret_value())
