"""Connections to PostgreSQL, made through the egress only, and what their errors mean."""

import asyncio
import contextlib
import os
import re
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg

from dataaggregator.connector.context import Context
from dataaggregator.connector.egress import Address, ssl_for
from dataaggregator.errors import Denied, Invalid, NotFound, Permanent, PlatformError, Transient
from dataaggregator_connectors.postgres.config import PostgresConfig, Target, target

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

# Text forms that do not depend on how a server or a role is set up.
SESSION = {"timezone": "UTC", "datestyle": "ISO, YMD", "intervalstyle": "postgres", "extra_float_digits": "1"}
TLS_ASKED_SECONDS = 60.0
REFUSED_TLS = "rejected SSL upgrade"
"""What the driver says, in a plain ConnectionError, where a server has no TLS."""
# Servers that said they have no TLS, and when: asking each time would cost a second connection each time.
_without_tls: dict[Address, float] = {}
# Where a COPY failed; what may follow is the value, which an error should not show.
COPIED = re.compile(r"^COPY .+, line \d+, column ([^:\n]+)", re.MULTILINE)
_KEY = re.compile(r"Key (\(.+?\))=\(")
_VALUE = re.compile(r'".*"', re.DOTALL)
_ANY_VALUE = "a value"
LOST = (ConnectionError, OSError, TimeoutError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError)


async def connect(
    config: PostgresConfig, context: Context, application_name: str = "dataaggregator", **settings: str
) -> Connection:
    """An open connection to the address the egress resolved; errors come as PlatformErrors."""
    to = target(config)
    address = await context.egress.resolve(to.host, to.port)
    return await connect_to(to, address, application_name, **settings)


async def connect_to(to: Target, address: Address, application_name: str, **settings: str) -> Connection:
    """The same, to an address that the egress has judged for this very connection."""
    session = {**to.options, **SESSION, "application_name": application_name, **settings}
    by_wish = to.sslmode in ("prefer", "allow")
    with translated(f"PostgreSQL at {to.host}:{to.port}"):
        if by_wish and _without_tls.get(address, -TLS_ASKED_SECONDS) + TLS_ASKED_SECONDS > time.monotonic():
            return await _open(to, address, session, tls=False)
        try:
            return await _open(to, address, session, tls=_tls(to, address))
        except ConnectionError as error:
            if REFUSED_TLS not in str(error):
                raise
            if not by_wish:
                detail = f"{to.host} has no TLS, which sslmode {to.sslmode} asks for."
                raise Invalid("connector-tls-failed", detail) from error
            _without_tls[address] = time.monotonic()
            return await _open(to, address, session, tls=False)


async def _open(to: Target, address: Address, session: Mapping[str, str], tls: ssl.SSLContext | bool) -> Connection:
    return await asyncpg.connect(
        host=address.ip,
        port=address.port,
        user=to.user,
        password=to.password or "",
        database=to.database,
        ssl=tls,
        direct_tls=False,
        timeout=to.connect_timeout,
        server_settings=dict(session),
    )


def _tls(to: Target, address: Address) -> ssl.SSLContext | bool:
    if to.sslmode == "disable":
        return False
    verify = to.sslmode in ("verify-ca", "verify-full") or to.sslrootcert is not None
    return ssl_for(address, verify=verify, check_host=to.sslmode == "verify-full", ca=to.sslrootcert)


async def libpq_words(config: PostgresConfig, context: Context) -> str:
    """The connection string for libpq: the name for TLS, the resolved address to connect to."""
    to = target(config)
    address = await context.egress.resolve(to.host, to.port)
    options = {**to.options, **SESSION, "application_name": "dataaggregator read"}
    words = {
        "host": to.host,
        "hostaddr": address.ip,
        "port": str(to.port),
        "dbname": to.database,
        "user": to.user,
        "password": to.password or "",
        "passfile": str(context.folder / "no-password-file"),
        "sslmode": to.sslmode,
        "connect_timeout": str(max(2, round(to.connect_timeout))),
        "client_encoding": "UTF8",
        "gssencmode": "disable",
        "options": " ".join(f"-c {name}={_option(value)}" for name, value in options.items()),
        **await asyncio.to_thread(_root_certificate, to, context.folder),
    }
    return " ".join(f"{name}='{_word(value)}'" for name, value in words.items() if value)


def _root_certificate(to: Target, folder: Path) -> dict[str, str]:
    if to.sslrootcert is None:
        return {"sslrootcert": "system"} if to.sslmode == "verify-full" else {}
    handle, path = tempfile.mkstemp(suffix=".pem", dir=folder)
    with os.fdopen(handle, "w") as file:
        file.write(to.sslrootcert)
    return {"sslrootcert": path}


def _word(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")


def _option(value: str) -> str:
    return value.replace("\\", "\\\\").replace(" ", "\\ ")


@contextlib.contextmanager
def translated(where: str) -> Any:
    """asyncpg's and the network's errors as PlatformErrors that name what was being talked to."""
    try:
        yield
    except PlatformError:
        raise
    except (asyncpg.PostgresError, *LOST) as error:
        raise meaning(error, where) from error


def meaning(error: Exception, where: str) -> PlatformError:
    """What an error of the driver or the network asks for: another try, other rights, another configuration."""
    text = str(error) or type(error).__name__
    match error:
        case asyncpg.InvalidPasswordError() | asyncpg.InvalidAuthorizationSpecificationError():
            return Denied("connector-login-failed", f"{where}: {text}")
        case asyncpg.InvalidCatalogNameError():
            return NotFound("connector-database-missing", f"{where}: {text}")
        case asyncpg.InsufficientPrivilegeError():
            return Denied("connector-permission", f"{where}: {text}")
        case asyncpg.UndefinedTableError() | asyncpg.InvalidSchemaNameError():
            return NotFound("stream-missing", f"{where}: {text}")
        case ssl.SSLError() | ssl.CertificateError():
            return Invalid("connector-tls-failed", f"{where}: TLS could not be set up: {text}")
        case asyncpg.LockNotAvailableError() | asyncpg.DeadlockDetectedError() | asyncpg.SerializationError():
            return Transient("connector-locked", f"{where}: {text}")
        case (
            asyncpg.PostgresConnectionError()
            | asyncpg.InsufficientResourcesError()
            | asyncpg.OperatorInterventionError()
            | asyncpg.InterfaceError()
        ):
            return Transient("connector-unreachable", f"{where}: {text}")
        case asyncpg.SyntaxOrAccessError() | asyncpg.DataError() | asyncpg.IntegrityConstraintViolationError():
            return Invalid("connector-refused", f"{where}: {_without_values(error)}")
        case asyncpg.PostgresError():
            return Permanent("connector-refused", f"{where}: {_without_values(error)}")
        case _:
            return Transient("connector-unreachable", f"{where}: {text}")


def _without_values(error: asyncpg.PostgresError) -> str:
    """What the server says, and of which column or key, but not which value a row has there.

    Its DETAIL may be a whole row, its sentence about a value that does not fit has the value in quotes or at its end
    (classes 22 and 23, https://www.postgresql.org/docs/16/errcodes-appendix.html).
    """
    text = str(error.args[0] if error.args else type(error).__name__)
    if isinstance(error, asyncpg.DataError):
        text = _VALUE.sub(_ANY_VALUE, text.partition(": ")[0])
    copied = COPIED.search(getattr(error, "context", None) or "")
    key = _KEY.match(getattr(error, "detail", None) or "")
    column = getattr(error, "column_name", None) or (copied and f"column {copied[1]}")
    words = [str(part) for part in (column, key and f"key {key[1]}") if part]
    return f"{text} ({'; '.join(words)})" if words else text


@contextlib.asynccontextmanager
async def connected(config: PostgresConfig, context: Context, **settings: str) -> AsyncIterator[Connection]:
    """A connection for a short errand, closed at the end."""
    connection = await connect(config, context, **settings)
    try:
        with translated(f"PostgreSQL at {target(config).host}"):
            yield connection
    finally:
        await close(connection)


async def close(connection: Connection) -> None:
    """Say goodbye, or hang up if the other side does not answer in time."""
    if connection.is_closed():
        return
    try:
        await connection.close(timeout=5)
    except LOST:
        connection.terminate()
