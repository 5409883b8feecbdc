"""What the engine is told of a container is what its service says of itself."""

import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from deploy.docker import healthcheck
from tests.certificates import make_certificates


@contextmanager
def service(status: int, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """A server that answers so on /health/ready, over TLS if that is given; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/health/ready" else 404)
            self.end_headers()
            self.wfile.write(b'{"status":"as said"}')

        def log_message(self, *_: object) -> None:
            """Nothing: a test's output is for its failures."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def ask(port: int, **told_too: str) -> "subprocess.CompletedProcess[str]":
    """As the Dockerfile has it run."""
    command = [sys.executable, "-I", "-S", healthcheck.__file__]
    told = {**os.environ, "SERVICE": "auth", "AUTH_PORT": str(port), **told_too}
    return subprocess.run(command, env=told, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (500, 1), (404, 1)])
def test_only_a_service_that_is_ready_is_healthy(status: int, code: int) -> None:
    with service(status) as port:
        done = ask(port)
    assert done.returncode == code
    assert "as said" in done.stdout


@pytest.mark.parametrize(
    ("told", "code"),
    [
        ({"AUTH_URL": "https://auth:8002", "TLS_CERTIFICATE": "/run/tls/tls.crt"}, 0),
        ({"SERVICE": "gateway", "TLS_CERTIFICATE": "/run/tls/tls.crt"}, 0),
        ({"AUTH_URL": "http://auth:8002", "TLS_CERTIFICATE": "/run/tls/tls.crt"}, 1),
        ({"AUTH_URL": "https://auth:8002"}, 1),
    ],
)
def test_a_service_is_asked_over_tls_where_it_answers_so(tmp_path: Path, told: dict[str, str], code: int) -> None:
    with service(200, make_certificates(tmp_path / "tls").context()) as port:
        assert ask(port, GATEWAY_PORT=str(port), **told).returncode == code


def test_a_service_that_does_not_answer_is_not_healthy_and_the_engine_learns_why() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # taken, and nobody listens
        port = held.getsockname()[1]
        done = ask(port)
    assert done.returncode == 1
    assert f"auth does not answer on port {port}" in done.stdout
