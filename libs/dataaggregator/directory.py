"""Where each service listens."""

from dataaggregator.errors import Transient


class Directory:
    """Service name → base URL; the host writes down what it bound, the composition what lies elsewhere."""

    def __init__(self) -> None:
        self._urls: dict[str, str] = {}

    def put(self, service: str, url: str) -> None:
        """Write down where ``service`` listens, as ``http://host:port`` without a trailing slash."""
        self._urls[service] = url.rstrip("/")

    def url(self, service: str) -> str:
        """The base URL of ``service``; raises Transient while it is not known."""
        try:
            return self._urls[service]
        except KeyError:
            raise Transient(
                "service-unavailable", f"The service {service} has not started yet.", retry_after=1
            ) from None

    def services(self) -> tuple[str, ...]:
        """The names of all services known, sorted."""
        return tuple(sorted(self._urls))
