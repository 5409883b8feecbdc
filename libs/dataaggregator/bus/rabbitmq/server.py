"""The bus, RabbitMQ: what the broker says of itself."""

from dataaggregator.bus.rabbitmq.link import Link, translated


async def version(url: str) -> str:
    """Raises Transient when it does not answer, or does not let us in."""
    link = Link(url, "doctor")
    try:
        with translated():
            told = (await link.connection()).transport
            properties = {} if told is None else told.connection.server_properties
        return _text(properties.get("version", "of a version it does not tell"))
    finally:
        await link.close()


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
