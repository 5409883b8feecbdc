"""What a service holds open: declared with open, close and ping."""

from typing import Protocol


class Resource(Protocol):
    """Something to open before work and to close after it; made unopened, so that making it costs nothing."""

    @property
    def name(self) -> str:
        """What /health/ready calls it."""

    async def open(self) -> None:
        """Open it; raises a PlatformError when that cannot be done."""

    async def close(self) -> None:
        """Close it; closing what is not open does nothing."""

    async def ping(self) -> None:
        """Return if it can be used now, else raise a PlatformError that says why not."""
