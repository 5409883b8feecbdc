"""Commands that start the platform, or a part of it: `up`, `demo`, `serve`."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import TypeVar

import click
import uvloop

from dataaggregator.cli.demo.setting import Setting
from dataaggregator.cli.demo.story import tell
from dataaggregator.cli.session import EXIT_WRONG_USE
from dataaggregator.client import ApiError, Client
from dataaggregator.composition import addresses, compose, require_migrated, require_servers
from dataaggregator.embedded.composition import EmbeddedPlatform
from dataaggregator.errors import PlatformError
from dataaggregator.host import Host, LoopEndedError, settle
from dataaggregator.installed import installed
from dataaggregator.settings import Settings, SettingsError
from dataaggregator.telemetry import logs

T = TypeVar("T")
Work = Callable[[EmbeddedPlatform], Coroutine[None, None, None]]


@click.command("up")
@click.option("--demo", "with_demo", is_flag=True, help="Serve the demo's sources and pipelines as well.")
def up(with_demo: bool) -> None:
    """Start the whole platform in this process and stay up until Ctrl-C."""

    async def stay(platform: EmbeddedPlatform) -> None:
        if not with_demo:
            await platform.stopped()
            return
        async with _demo(platform):
            click.echo("The demo's pipelines are ready: dataaggregator run urban-population --follow")
            await platform.stopped()

    _start(Settings.load, stay)


@click.command("demo")
def demo() -> None:
    """Start the platform on free ports, run the main job on real data, show its ledger and result, stop."""

    async def play(platform: EmbeddedPlatform) -> None:
        async with _demo(platform) as (client, setting):
            await tell(client, setting)

    _start(lambda: Settings.load().model_copy(update={"gateway_port": 0, "log_level": "warning"}), play)
    click.echo("\nDone. `make up` serves the same pipelines.")


@click.command("serve")
@click.argument("services", nargs=-1, required=True, metavar="SERVICE...")
def serve(services: tuple[str, ...]) -> None:
    """Run one or several services in this process, against the servers named in the environment, until a signal."""

    async def work() -> None:
        settings = Settings.load()
        require_servers(settings)
        logs.configure(settings)
        chosen = installed(services)
        await require_migrated(settings, chosen)
        ports = compose(settings, "-".join(services))
        async with Host(
            [service.build(ports) for service in chosen], ports, addresses=addresses(settings, services)
        ) as host:
            settle()
            await host.stopped()

    telling(lambda: uvloop.run(work()))


@asynccontextmanager
async def _demo(platform: EmbeddedPlatform) -> AsyncIterator[tuple[Client, Setting]]:
    """The demo's sources and definitions, and the administrator's client."""
    setting = Setting(platform.home, platform.server_url)
    try:
        async with Client(platform.url) as client:
            await asyncio.gather(setting.open(), client.login(*platform.administrator))
            await setting.apply(client)
            yield client, setting
    finally:
        await setting.close()


def _start(load: Callable[[], Settings], work: Work) -> None:
    """Start the platform, do the work, stop."""
    began = time.monotonic()

    def act() -> None:
        with EmbeddedPlatform(load()) as platform:
            uvloop.run(_run(platform, work, began))

    telling(act)


def telling(act: Callable[[], T]) -> T:
    """What goes wrong is one sentence and the exit code 2."""
    try:
        return act()
    except SettingsError as error:
        click.echo(str(error), err=True)
        raise click.exceptions.Exit(EXIT_WRONG_USE) from error
    except PlatformError as error:
        click.echo(f"error: {error.detail}", err=True)
        raise click.exceptions.Exit(EXIT_WRONG_USE) from error
    except (ApiError, LoopEndedError) as error:
        raise click.ClickException(str(error)) from error


async def _run(platform: EmbeddedPlatform, work: Work, began: float) -> None:
    """The work goes on until it is done, a signal asks for the end, or a part of the platform fails."""
    async with platform.running():
        settle()
        click.echo(f"The platform is up after {time.monotonic() - began:.1f} s: {platform.address}/api/docs")
        email, password = platform.administrator
        if platform.made_administrator:
            click.echo(f"Administrator (made at this first start, shown only now): {email} / {password}")
        doing = asyncio.ensure_future(work(platform))
        ending = asyncio.ensure_future(platform.stopped())
        try:
            await asyncio.wait((doing, ending), return_when=asyncio.FIRST_COMPLETED)
            if doing.done():
                doing.result()
            else:
                ending.result()
        finally:
            doing.cancel()
            ending.cancel()
            await asyncio.wait((doing, ending))


COMMANDS = {"up": up, "demo": demo, "serve": serve}
