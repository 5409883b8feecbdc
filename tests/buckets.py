"""A store that speaks S3, as a process of its own on loopback."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.error import URLError
from urllib.request import Request, urlopen

START_SECONDS = 60.0


@contextmanager
def s3_server() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        _wait(process, address)
        yield address
    finally:
        process.kill()
        process.wait()


def _wait(process: "subprocess.Popen[bytes]", address: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with urlopen(f"{address}/moto-api/"):  # noqa: S310  (our own address)
                return
        except URLError:
            assert process.poll() is None, "the store ended as it began"
            assert time.monotonic() < deadline, "the store did not answer"
            time.sleep(0.05)


def make_bucket(address: str, name: str) -> None:
    with urlopen(Request(f"{address}/{name}", method="PUT")):  # noqa: S310  (our own address)
        pass


def make_public(address: str, content: bytes) -> None:
    """An object that anybody may read."""
    with urlopen(Request(address, content, {"x-amz-acl": "public-read", "Content-Type": "text/csv"}, method="PUT")):  # noqa: S310  (ours)
        pass
