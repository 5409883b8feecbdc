"""The environment, typed and checked: every setting of the platform with its default and unit."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from dataaggregator.rate import Rate
from dataaggregator.settings.tls import TlsSettings
from dataaggregator.settings.values import (
    Allowed,
    Bytes,
    Denied,
    Folders,
    Labels,
    Networks,
    Origins,
    PerTime,
    Port,
    RunStore,
    Seconds,
    Url,
    checked_scheme,
    is_json_object,
    lower,
    split,
    written,
)


class SettingsError(Exception):
    """One line for each variable that is wrong: what is wrong with it, and what would be right."""


class Settings(TlsSettings):
    """All settings. A field is read from the environment variable of the same name in capitals, a secret also from the
    file that the variable with ``_FILE`` behind it names."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    # Where things are and who may reach them
    gateway_host: str = Field("127.0.0.1", description="Address the gateway listens on.")
    gateway_port: Port = Field(8001, description="Port the gateway listens on; 0 takes a free one.")
    services_host: str = Field("127.0.0.1", description="Address the services behind the gateway listen on.")
    auth_port: Port = Field(8002, description="Port auth listens on as a process of its own; 0 takes a free one.")
    connectors_port: Port = Field(8003, description="Port connectors listens on as a process of its own.")
    executor_port: Port = Field(8004, description="Port the executor listens on as a process of its own.")
    scheduler_port: Port = Field(8005, description="Port the scheduler listens on as a process of its own.")
    gateway_url: Url = Field("http://127.0.0.1:8001", description="Where other processes reach the gateway.")
    auth_url: Url = Field("http://127.0.0.1:8002", description="Where other processes reach auth.")
    connectors_url: Url = Field("http://127.0.0.1:8003", description="Where other processes reach connectors.")
    executor_url: Url = Field("http://127.0.0.1:8004", description="Where other processes reach the executors.")
    scheduler_url: Url = Field("http://127.0.0.1:8005", description="Where other processes reach the scheduler.")
    console_port: Port = Field(3000, description="Port the console is served on.")
    home: Path = Field(
        Path.home() / ".dataaggregator",
        description="The one folder in which the embedded composition keeps everything.",
    )
    cors_origins: Origins = Field(
        ("http://localhost:3000",), description="Origins whose pages may call the API, comma-separated."
    )
    hsts_subdomains: bool = Field(
        False, description="Whether browsers that came over TLS are told to use it for all hosts below this one too."
    )
    trusted_proxies: Networks = Field(
        (), description="Networks whose X-Forwarded-For is believed, comma-separated CIDR."
    )

    # First start
    bootstrap_admin_email: str | None = Field(None, description="E-mail of the administrator made at first start.")
    bootstrap_admin_password: SecretStr | None = Field(
        None, description="Password of the administrator made at first start."
    )

    # Database, bus, limits store
    rabbitmq_url: SecretStr | None = Field(
        None, description="RabbitMQ, as amqp://user:password@host:port/vhost; without it events go by the database."
    )
    rabbitmq_management_url: SecretStr | None = Field(
        None,
        description="RabbitMQ's management API, as http://user:password@host:port; with it lost bindings are noticed.",
    )
    bus_watch_seconds: Seconds = Field(
        15.0, description="How often queues, bindings and consumers on RabbitMQ are looked after, seconds."
    )
    redis_url: SecretStr | None = Field(
        None,
        description="Redis, as redis://:password@host:port/0, or rediss:// for TLS (an authority of your own by "
        "SSL_CERT_FILE); without it limits are kept in the process.",
    )
    database_url: SecretStr | None = Field(
        None,
        description="PostgreSQL, as postgresql://user:password@host:port/database?sslmode=verify-full&sslrootcert=path",
    )
    postgres_host: str | None = Field(None, description="PostgreSQL's host, when DATABASE_URL is not set.")
    postgres_port: Port = Field(5432, description="PostgreSQL's port, when DATABASE_URL is not set.")
    postgres_user: str = Field("dataaggregator", description="PostgreSQL's user, when DATABASE_URL is not set.")
    postgres_password: SecretStr | None = Field(
        None, description="PostgreSQL's password, when DATABASE_URL is not set."
    )
    postgres_db: str = Field("dataaggregator", description="PostgreSQL's database, when DATABASE_URL is not set.")
    db_pool_size: Annotated[int, Field(ge=1, le=1000)] = Field(
        20, description="Database connections a process keeps, in all."
    )
    db_max_overflow: Annotated[int, Field(ge=0, le=1000)] = Field(
        10, description="Database connections a process may open beyond DB_POOL_SIZE at a peak."
    )
    db_call_seconds: Seconds = Field(
        20.0, description="How long one statement of a call may take before the database ends it, seconds."
    )
    db_loop_seconds: Seconds = Field(
        60.0, description="How long one statement of a loop (claims, relay, sweeps) may take, seconds."
    )
    db_idle_seconds: Seconds = Field(
        120.0, description="A transaction in which nothing is said for so long is undone by the database, seconds."
    )
    db_silence_seconds: Seconds = Field(
        10.0, description="A database connection on which an answer is overdue for so long is given up, seconds."
    )
    relay_poll_seconds: Seconds = Field(1.0, description="How often the relay looks into the outbox unasked, seconds.")
    queue_limit_seconds: Seconds = Field(
        86_400.0, description="How long a run may wait in the queue before it is timed out, seconds."
    )

    # Secrets
    secret_key: SecretStr | None = Field(
        None, description="Key all stored secrets are sealed with, at least 32 characters; `openssl rand -hex 32`."
    )
    secret_key_previous: Annotated[tuple[SecretStr, ...], BeforeValidator(split)] = Field(
        (), description="Earlier values of SECRET_KEY that may still open what they sealed, comma-separated."
    )
    audit_retention_days: Annotated[float, Field(ge=30)] | None = Field(
        None, description="How long entries of the audit are kept, days, at least 30; without it for ever."
    )

    # Rate limits
    rate_limit_api: PerTime = Field(Rate(600, 60), description="Calls per user, key or address: requests/seconds.")
    rate_limit_login: PerTime = Field(Rate(10, 60), description="Logins per address and per account: requests/seconds.")
    rate_limit_run: PerTime = Field(Rate(60, 60), description="Run starts per workspace: requests/seconds.")
    rate_limit_trusted_networks: Networks = Field(
        (), description="Networks whose limits are ten times as high, comma-separated CIDR."
    )

    # Runs
    execution_timeout: Seconds = Field(600.0, description="A run without progress for so long is ended, seconds.")
    run_slots: Annotated[int, Field(ge=1, le=1000)] = Field(2, description="Runs an executor works on at once.")
    executor_labels: Labels = Field(
        (), description="What an executor can, comma-separated, for pipelines with `runs_on`: `gpu,region=eu`."
    )
    workspace_run_limit: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        None,
        description="Runs of one workspace that are at work at once, over all executors (which all need the same "
        "value); its admins may say less. Without it there is no limit.",
    )
    lease_seconds: Seconds = Field(
        60.0, description="How long a claimed run stays claimed without a heartbeat, seconds."
    )
    heartbeat_seconds: Seconds = Field(15.0, description="How often a running run's lease is renewed, seconds.")
    fence_seconds: Seconds = Field(
        45.0, description="An executor that could not renew a lease for so long stops the run itself, seconds."
    )
    run_retention_days: Annotated[float, Field(gt=0)] = Field(
        30.0, description="How long logs and rejected rows of an ended run are kept, days; its ledger stays."
    )
    run_store: RunStore | None = Field(
        None,
        description="Where rejected rows outlive the executor that rejected them: file:///path, s3://bucket/prefix, "
        "az://container/prefix or gs://bucket/prefix; without it they stay on its disk.",
    )
    run_store_endpoint: Url | None = Field(
        None, description="Address of a RUN_STORE that is not Amazon's or Microsoft's, as http(s)://host:port."
    )
    run_store_region: str | None = Field(None, description="Region of an s3:// RUN_STORE; us-east-1 when left out.")
    run_store_sslrootcert: Path | None = Field(
        None, description="File of certificates (PEM) that the one of RUN_STORE_ENDPOINT may come from."
    )
    run_store_credentials: SecretStr | None = Field(
        None,
        description="Who reads and writes the RUN_STORE, as JSON with the fields that a connector of type files has in "
        "credentials; the machine's own rights are never used.",
    )
    late_grace_seconds: Seconds = Field(
        600.0,
        description="How much later than by its schedule a pipeline may succeed before it is late, seconds; a tenth of "
        "the time between two fires where that is more.",
    )
    tick_seconds: Seconds = Field(1.0, description="How often the scheduler looks for slots that are due, seconds.")

    # The outside world and the sandbox
    files_allowed_roots: Folders = Field(
        (), description="Folders that connectors of type files may use, comma-separated; embedded: its user's disk."
    )
    egress_allow: Allowed = Field(
        (),
        description="Hosts and networks connectors, webhooks and OIDC may reach although private, comma-separated; "
        "`db.internal@<workspace id>` for one workspace.",
    )
    egress_deny: Denied = Field(
        (),
        description="Hosts and networks connectors, webhooks and OIDC may never reach, comma-separated, also for one "
        "workspace; `*` is all that EGRESS_ALLOW does not name.",
    )
    sandbox: Literal["strict", "basic"] = Field(
        "strict", description="strict refuses to run where the kernel lacks a part of the sandbox; basic goes on."
    )
    sandbox_memory_bytes: Bytes = Field(1024**3, description="Memory a sandbox process may take, bytes.")
    run_memory_bytes: Bytes = Field(1024**3, description="Memory a run process may take, bytes.")
    executor_memory_bytes: Bytes | None = Field(
        None,
        description="Memory that an executor's runs may declare together, bytes; without it four fifths of the "
        "machine's or the container's, and one run in any case.",
    )

    # Telemetry
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(lower)] = Field(
        "info", description="Least level that is logged."
    )
    log_format: Literal["json", "console"] = Field("console", description="One JSON object a line, or for people.")
    otel_exporter_otlp_endpoint: str | None = Field(
        None, description="Where traces are sent by OTLP over HTTP; without it none are made."
    )
    trace_sample_ratio: Annotated[float, Field(ge=0, le=1)] = Field(
        0.1, description="Share of the calls without a traceparent that are traced, 0 to 1."
    )
    stop_seconds: Seconds = Field(15.0, description="How long a stopping service lets calls finish, seconds.")

    @model_validator(mode="before")
    @classmethod
    def _resolve_database_url(cls, given: dict[str, Any]) -> dict[str, Any]:
        if given.get("database_url") or not given.get("postgres_host"):
            return given
        password = given.get("postgres_password") or ""
        secret = password.get_secret_value() if isinstance(password, SecretStr) else str(password)
        user, name = (quote(str(given.get(f"postgres_{of}", "dataaggregator")), safe="") for of in ("user", "db"))
        login = f"{user}:{quote(secret, safe='')}" if secret else user
        place = f"{given['postgres_host']}:{given.get('postgres_port', 5432)}"
        return {**given, "database_url": f"postgresql://{login}@{place}/{name}"}

    @field_validator("database_url")
    @classmethod
    def _check_database_url(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not url.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("should be postgresql://user:password@host:port/database")
        return url

    @field_validator("rabbitmq_url")
    @classmethod
    def _check_rabbitmq_url(cls, url: SecretStr | None) -> SecretStr | None:
        return checked_scheme(url, "amqp", "amqp://user:password@host:port/vhost")

    @field_validator("rabbitmq_management_url")
    @classmethod
    def _check_management_url(cls, url: SecretStr | None) -> SecretStr | None:
        return checked_scheme(url, "http", "http://user:password@host:port")

    @field_validator("redis_url")
    @classmethod
    def _check_redis_url(cls, url: SecretStr | None) -> SecretStr | None:
        return checked_scheme(url, "redis", "redis://:password@host:port/0")

    @field_validator("secret_key")
    @classmethod
    def _check_secret_key(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None and len(key.get_secret_value()) < 32:
            raise ValueError("should be at least 32 characters; make one with: openssl rand -hex 32")
        return key

    @field_validator("run_store_credentials")
    @classmethod
    def _check_run_store_credentials(cls, credentials: SecretStr | None) -> SecretStr | None:
        if credentials is not None and not is_json_object(credentials.get_secret_value()):
            raise ValueError('should be JSON such as {"access_key_id": "…", "secret_access_key": "…"}')
        return credentials

    @model_validator(mode="after")
    def _check_lease(self) -> "Settings":
        if not self.heartbeat_seconds < self.fence_seconds < self.lease_seconds:
            raise ValueError("HEARTBEAT_SECONDS should be below FENCE_SECONDS, and that below LEASE_SECONDS")
        return self

    @model_validator(mode="after")
    def _check_memory(self) -> "Settings":
        if self.executor_memory_bytes is not None and self.executor_memory_bytes < self.run_memory_bytes:
            raise ValueError("EXECUTOR_MEMORY_BYTES should be at least RUN_MEMORY_BYTES, or no run would ever begin")
        return self

    def rates(self) -> dict[str, Rate]:
        """The rate of each limit class."""
        return {"api": self.rate_limit_api, "login": self.rate_limit_login, "run": self.rate_limit_run}

    @classmethod
    def load(cls, environment: Mapping[str, str] | None = None) -> "Settings":
        """The settings of this process, or of ``environment``; raises SettingsError. Empty values count as not set."""
        given = os.environ if environment is None else environment
        found = {name: given[variable(name)] for name in cls.model_fields if given.get(variable(name))}
        read, unread = _read_files(given)
        try:
            settings = cls.model_validate({**found, **read})
        except ValidationError as error:
            lines = [_line(item) for item in error.errors(include_url=False)]
            raise SettingsError("\n".join(dict.fromkeys([*unread, *lines]))) from None
        if unread:
            raise SettingsError("\n".join(unread))
        return settings


def secret_files(environment: Mapping[str, str]) -> dict[str, Path]:
    """The files that ``environment`` names for secrets, by field: ``SECRET_KEY_FILE=/run/…`` for secret_key."""
    named = {field: environment.get(f"{variable(field)}_FILE") for field in Settings.model_fields if is_secret(field)}
    return {field: Path(path) for field, path in named.items() if path}


def _read_files(environment: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Secrets out of their files, and a line for each that cannot be had that way."""
    read, wrong = {}, []
    for field, path in secret_files(environment).items():
        name = variable(field)
        if environment.get(name):
            wrong.append(f"{name}_FILE={path}: {name} is set as well. Set one of the two.")
            continue
        try:
            text = path.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            wrong.append(f"{name}_FILE={path}: should name a file with the value: {reason}.")
            continue
        if text:
            read[field] = text
        else:
            wrong.append(f"{name}_FILE={path}: should name a file with the value: it is empty.")
    return read, wrong


def missing(settings: Settings, fields: Iterable[str]) -> list[str]:
    """One line for each of these fields that is not set."""
    return [
        f"{variable(field)}: should be set. {Settings.model_fields[field].description}"
        for field in fields
        if getattr(settings, field) is None
    ]


def variable(field: str) -> str:
    """The environment variable a field of Settings is read from."""
    return "DATAAGGREGATOR_HOME" if field == "home" else field.upper()


def is_secret(field: str) -> bool:
    """Whether a field of Settings is never to be shown."""
    return "SecretStr" in str(Settings.model_fields[field].annotation)


def shown_default(field: str) -> str:
    """A field's default as one would write it in the environment; empty if there is none."""
    default = Settings.model_fields[field].default
    return "~/.dataaggregator" if field == "home" else written(default)


def _line(error: ErrorDetails) -> str:
    """What is wrong with one variable and what would be right; a secret's value is never shown."""
    message = error["msg"].removeprefix("Value error, ")
    message = message.removeprefix("Input ")
    if not error["loc"]:
        return message
    name = str(error["loc"][0])
    field = Settings.model_fields[name]
    shown = "" if is_secret(name) else f"={error['input']}"
    default = shown_default(name)
    return f"{variable(name)}{shown}: {message}. {field.description}" + (f" Default: {default}" if default else "")
