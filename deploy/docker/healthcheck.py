"""Run by the engine inside a service's container: exit 0 while the service says that it is ready to take work.

Only the standard library, and little of it: this starts every few seconds in every container.
"""

import os
import socket
import sys

PORTS = {"gateway": 8001, "auth": 8002, "connectors": 8003, "executor": 8004, "scheduler": 8005}
SECONDS = 4.0
REQUEST = b"GET /health/ready HTTP/1.0\r\nHost: localhost\r\n\r\n"


def main() -> int:
    """Ask this container's own service; what it answers stands in the engine's health log."""
    service = os.environ["SERVICE"]
    port = int(os.environ.get(f"{service.upper()}_PORT") or PORTS[service])
    try:
        with socket.create_connection(("127.0.0.1", port), SECONDS) as plain, _secured(service, plain) as connection:
            connection.sendall(REQUEST)
            answer = b"".join(iter(lambda: connection.recv(4096), b""))
    except OSError as error:
        print(f"{service} does not answer on port {port}: {error}")  # noqa: T201  it is how the engine learns why
        return 1
    head, _, body = answer.partition(b"\r\n\r\n")
    print(body.decode(errors="replace"))  # noqa: T201
    return 0 if head.split(maxsplit=2)[1:2] == [b"200"] else 1


def _secured(service: str, plain: socket.socket) -> socket.socket:
    """Over TLS where the service answers so: its name is not looked at, since this is the container itself."""
    told = os.environ.get(f"{service.upper()}_URL", "")
    if not os.environ.get("TLS_CERTIFICATE") or not (service == "gateway" or told.startswith("https:")):
        return plain
    import ssl  # noqa: PLC0415 - it takes longer than all else here

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(plain)


if __name__ == "__main__":
    sys.exit(main())
