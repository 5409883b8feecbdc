"""What the engine is told of a container is what its service says of itself."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from deploy.docker import healthcheck


@contextmanager
def service(status: int) -> Iterator[int]:
    """A server that answers so on /health/ready; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/health/ready" else 404)
            self.end_headers()
            self.wfile.write(b'{"status":"as said"}')

        def log_message(self, *_: object) -> None:
            """Nothing: a test's output is for its failures."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def ask(port: int) -> "subprocess.CompletedProcess[str]":
    """As the Dockerfile has it run."""
    command = [sys.executable, "-I", "-S", healthcheck.__file__]
    told = {**os.environ, "SERVICE": "auth", "AUTH_PORT": str(port)}
    return subprocess.run(command, env=told, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (500, 1), (404, 1)])
def test_only_a_service_that_is_ready_is_healthy(status: int, code: int) -> None:
    with service(status) as port:
        done = ask(port)
    assert done.returncode == code
    assert "as said" in done.stdout


def test_a_service_that_does_not_answer_is_not_healthy_and_the_engine_learns_why() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # taken, and nobody listens
        port = held.getsockname()[1]
        done = ask(port)
    assert done.returncode == 1
    assert f"auth does not answer on port {port}" in done.stdout
