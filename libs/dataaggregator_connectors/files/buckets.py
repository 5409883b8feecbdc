"""Opening a bucket: whose credentials, which address, and every connection through the platform's one way out."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, S3Store

from dataaggregator.connector.context import Context
from dataaggregator.connector.egress_proxy import EgressProxy
from dataaggregator.errors import Invalid
from dataaggregator_connectors.files.config import FilesConfig
from dataaggregator_connectors.files.objects import Bucket, ObjectTree

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

# Short: a run that meets a store in trouble is tried again as a whole.
RETRY: "RetryConfig" = {"max_retries": 3, "retry_timeout": timedelta(seconds=30)}
# The library takes an address, a key or a proxy that it was not given from these, and they are whose process this is.
OURS = re.compile(r"(AWS|AZURE|GOOGLE|OBJECT_STORE)_.*|SERVICE_ACCOUNT|(MSI|IDENTITY)_.*|(HTTPS?|ALL|NO)_PROXY", re.I)


async def open_bucket(config: FilesConfig, context: Context) -> ObjectTree:
    proxy = EgressProxy(context.egress)
    await proxy.start()
    client: ClientConfig = {
        "proxy_url": proxy.url,
        "proxy_excludes": "",
        "connect_timeout": timedelta(seconds=10),
        "timeout": timedelta(seconds=120),
    }
    try:
        return ObjectTree(bucket_of(config, client, RETRY), config.root, proxy)
    except (BaseError, ValueError) as error:
        await proxy.close()
        # The library's own words may hold a part of what it could not read.
        raise Invalid(
            "store-denied", f"{config.root}: credentials or sslrootcert are not of the right form."
        ) from error


def bucket_of(config: FilesConfig, client: "ClientConfig", retry: "RetryConfig") -> Bucket:
    """Credentials are those given or none: what the machine itself may do is nobody's to use, nor where its environment
    points to.

    Raises what the library raises where they are not of the right form.
    """
    with _without_ours():
        return _bucket_of(config, client, retry)


@contextmanager
def _without_ours() -> Iterator[None]:
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if OURS.fullmatch(name)}
    try:
        yield
    finally:
        os.environ.update(hidden)


def _bucket_of(config: FilesConfig, client: "ClientConfig", retry: "RetryConfig") -> Bucket:
    client = client | {
        "allow_http": urlsplit(config.endpoint or "").scheme == "http",
        "user_agent": "dataaggregator",
    }
    if config.sslrootcert is not None:
        client["root_certificate"] = config.sslrootcert
    prefix = unquote(urlsplit(config.root).path).strip("/") or None
    given: dict[str, Any] = dict(config.credentials.given)
    if config.endpoint is not None:
        given["endpoint"] = config.endpoint
    match config.scheme:
        case "s3":
            signed = "access_key_id" in given
            given["region"] = config.region or "us-east-1"
            return S3Store(
                config.bucket,
                prefix=prefix,
                skip_signature=not signed,
                client_options=client,
                retry_config=retry,
                **given,
            )
        case "az":
            signed = bool(given.keys() & {"account_key", "sas_token"})
            given["account_name"] = given.pop("account")
            return AzureStore(
                config.bucket,
                prefix=prefix,
                skip_signature=not signed,
                client_options=client,
                retry_config=retry,
                **given,
            )
        case _:
            return GCSStore(
                config.bucket,
                prefix=prefix,
                skip_signature="service_account_key" not in given,
                client_options=client,
                retry_config=retry,
                **given,
            )
