"""Commands about the bus: what it needs on RabbitMQ."""

import asyncio

import click

from dataaggregator.cli.output import console, emit_json, table
from dataaggregator.cli.platform import telling
from dataaggregator.cli.session import Session
from dataaggregator.composition import compose, require_servers
from dataaggregator.installed import installed_services
from dataaggregator.settings import Settings


@click.group("bus")
def bus() -> None:
    """Look after the exchanges, queues and bindings on RabbitMQ."""


@bus.command("declare")
@click.pass_obj
def declare(session: Session) -> None:
    """Make every exchange, queue and binding that is missing; run it before the services start."""

    async def work() -> list[tuple[str, int]]:
        from dataaggregator.bus.rabbitmq import declare_all  # noqa: PLC0415 - as in the composition

        settings = Settings.load()
        require_servers(settings)
        ports = compose(settings)
        services = [service.build(ports) for service in installed_services()]
        types = {
            service.schema: [handler.message.event_type for handler in service.handlers]
            for service in services
            if service.schema is not None
        }
        url = settings.rabbitmq_url.get_secret_value() if settings.rabbitmq_url else ""
        await declare_all(url, types)
        return [(f"{schema}.events", len(handled)) for schema, handled in types.items()]

    rows = telling(lambda: asyncio.run(work()))
    if session.json:
        emit_json([{"queue": queue, "types": count} for queue, count in rows])
    else:
        console().print(table(("queue", "types"), rows))


COMMANDS = {"bus": bus}
