"""The database: the one place where the driver's errors become the platform's."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from dataaggregator.errors import Transient

UNAVAILABLE = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.ConnectionDoesNotExistError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    TimeoutError,  # no answer within the driver's limit
    asyncpg.InternalClientError,  # what the driver raises between the server's last words and the end of the line
)
REFUSED_TLS = "rejected SSL upgrade"
"""What the driver says, in a plain ConnectionError, where a server has no TLS."""
BUSY = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,  # by statement_timeout: nobody else cancels our statements
    asyncpg.OutOfMemoryError,
    asyncpg.DiskFullError,
)


def unavailable(error: BaseException) -> Transient:
    """The database does not answer; the reason without host, user or password."""
    reason = "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        reason = error.strerror
    return Transient("database-unavailable", f"The database does not answer: {reason}.", retry_after=2.0)


@contextmanager
def connecting() -> Iterator[None]:
    """Around the making of a connection, where any network error means the database."""
    try:
        yield
    except ssl.SSLError as error:
        reason = error.strerror or type(error).__name__
        raise Transient("database-tls-failed", f"TLS with the database could not be set up: {reason}.") from error
    except (OSError, *UNAVAILABLE, asyncpg.InterfaceError) as error:
        if REFUSED_TLS in str(error):
            detail = "The database's server has no TLS, which the sslmode of DATABASE_URL asks for."
            raise Transient("database-tls-failed", detail) from error
        raise unavailable(error) from error
    except asyncpg.InvalidParameterValueError as error:
        raise Transient("database-not-migrated", "The database lacks our roles: it was never migrated.") from error
    except asyncpg.InvalidAuthorizationSpecificationError as error:
        raise Transient("database-unavailable", "The database refuses our user or password.") from error


@contextmanager
def translated() -> Iterator[None]:
    """Around the use of a connection: lost connections and lost races become `Transient`, the rest goes through."""
    try:
        yield
    except UNAVAILABLE as error:
        raise unavailable(error) from error
    except BUSY as error:
        raise Transient(
            "database-busy", f"The database could not do this now: {type(error).__name__}.", retry_after=1.0
        ) from error
    except asyncpg.InterfaceError as error:
        if "closed" not in str(error):
            raise
        raise unavailable(error) from error
