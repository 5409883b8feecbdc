"""How a PostgreSQL connector is configured."""

from dataclasses import dataclass, field
from typing import Any, Literal, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import Field, SecretStr, model_validator

from dataaggregator.connector.spec import Config

SslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]
URL_OPTIONS = ("sslmode", "application_name", "connect_timeout", "options")


class PostgresConfig(Config):
    """Either `url`, or the parts."""

    url: SecretStr | None = Field(None, description="postgresql://user:password@host:port/database?sslmode=…")
    host: str | None = Field(None, description="Name or address of the server.")
    port: int = Field(5432, ge=1, le=65_535, description="Port of the server.")
    database: str | None = Field(None, description="Database; the user's name when left out.")
    user: str | None = Field(None, description="User to log in as.")
    password: SecretStr | None = Field(None, description="Password of the user.")
    sslmode: SslMode = Field("prefer", description="How far TLS is asked for and the server verified.")
    sslrootcert: str | None = Field(None, description="Certificates (PEM text) the server's must come from.")
    options: dict[str, str] = Field(default_factory=dict, description="Server settings of each session, by name.")
    connect_timeout: float = Field(10.0, gt=0, le=300, description="Seconds to wait for a connection.")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.url is None) == (self.host is None):
            raise ValueError("give either url, or host with its parts")
        target(self)
        return self


@dataclass(frozen=True)
class Target:
    """Where and as whom to connect; the password never shows in a repr."""

    host: str
    port: int
    database: str
    user: str
    sslmode: SslMode
    sslrootcert: str | None
    connect_timeout: float
    password: str | None = field(default=None, repr=False)
    options: dict[str, str] = field(default_factory=dict)


def target(config: PostgresConfig) -> Target:
    """The parts, whichever way they were given; ValueError says what is wrong without showing the url."""
    parts: dict[str, Any] = {
        "host": config.host or "",
        "port": config.port,
        "user": config.user,
        "password": config.password.get_secret_value() if config.password else None,
        "database": config.database,
        "sslmode": config.sslmode,
        "options": dict(config.options),
        "connect_timeout": config.connect_timeout,
    }
    if config.url is not None:
        parts |= _from_url(config.url.get_secret_value(), parts["options"])
    parts["user"] = parts["user"] or "postgres"
    parts["database"] = parts["database"] or parts["user"]
    if "," in parts["host"] or parts["host"].startswith(("/", "@")):
        raise ValueError("the host should be one name or address reached over TCP")
    return Target(sslrootcert=config.sslrootcert, **parts)


def _from_url(url: str, options: dict[str, str]) -> dict[str, Any]:
    try:
        split = urlsplit(url)
        port = split.port or 5432
    except ValueError:
        raise ValueError("the url has no valid port") from None
    if split.scheme not in ("postgres", "postgresql") or not split.hostname:
        raise ValueError("the url should be postgresql://user:password@host:port/database")
    found: dict[str, Any] = {
        "host": split.hostname,
        "port": port,
        "user": unquote(split.username) if split.username else None,
        "password": unquote(split.password) if split.password is not None else None,
        "database": unquote(split.path.removeprefix("/")) or None,
    }
    for name, value in parse_qsl(split.query):
        if name not in URL_OPTIONS:
            raise ValueError(f"the url's parameter {name!r} is not known; there are {', '.join(URL_OPTIONS)}")
        found |= _url_option(name, value, options)
    return found


def _url_option(name: str, value: str, options: dict[str, str]) -> dict[str, Any]:
    if name == "sslmode":
        if value not in SslMode.__args__:  # type: ignore[attr-defined]  # how typing names a Literal's values
            raise ValueError(f"sslmode should be one of {', '.join(SslMode.__args__)}")  # type: ignore[attr-defined]
        return {"sslmode": value}
    if name == "connect_timeout":
        return {"connect_timeout": float(value)}
    if name == "options":
        options |= _options_words(value)
        return {}
    return {"options": options | {name: value}}


def _options_words(text: str) -> dict[str, str]:
    """`-c name=value` words, as libpq takes them."""
    words = [word.removeprefix("-c").strip() for word in text.replace("-c ", "-c").split()]
    if not all("=" in word for word in words):
        raise ValueError("options should be '-c name=value' words")
    return {name: value for name, _, value in (word.partition("=") for word in words)}
