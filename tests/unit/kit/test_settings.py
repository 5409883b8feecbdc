"""The environment: typed, checked, and every wrong variable told in a line of its own."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from dataaggregator.limits import Rate
from dataaggregator.settings import Settings, SettingsError, shown_default, variable


def test_everything_has_a_default_and_empty_values_count_as_not_set() -> None:
    settings = Settings.load({"GATEWAY_PORT": "", "LOG_LEVEL": ""})
    assert settings.gateway_port == 8001
    assert settings.gateway_host == "127.0.0.1"
    assert settings.cors_origins == ("http://localhost:3000",)
    assert settings.secret_key is None


def test_values_are_read_by_the_names_of_the_contract() -> None:
    settings = Settings.load(
        {
            "GATEWAY_PORT": "0",
            "DATAAGGREGATOR_HOME": "/srv/da",
            "CORS_ORIGINS": "https://a.example, https://b.example",
            "RATE_LIMIT_LOGIN": "5/30",
            "LOG_LEVEL": "WARNING",
            "SECRET_KEY_PREVIOUS": "one,two",
            "FILES_ALLOWED_ROOTS": "/a,/b",
            "UNRELATED": "x",
        }
    )
    assert settings.gateway_port == 0
    assert settings.home == Path("/srv/da")
    assert settings.cors_origins == ("https://a.example", "https://b.example")
    assert settings.rates()["login"] == Rate(5, 30)
    assert settings.log_level == "warning"
    assert [key.get_secret_value() for key in settings.secret_key_previous] == ["one", "two"]
    assert settings.files_allowed_roots == (Path("/a"), Path("/b"))


def test_the_database_is_named_whole_or_in_parts() -> None:
    parts = {"POSTGRES_HOST": "db", "POSTGRES_PORT": "5433", "POSTGRES_USER": "u@x", "POSTGRES_PASSWORD": "p:w/d"}
    url = Settings.load(parts).database_url
    assert url == SecretStr("postgresql://u%40x:p%3Aw%2Fd@db:5433/dataaggregator")
    named = Settings.load({**parts, "POSTGRES_DB": "a/b?c"}).database_url
    assert named == SecretStr("postgresql://u%40x:p%3Aw%2Fd@db:5433/a%2Fb%3Fc")
    whole = "postgresql://u:p@h/d?sslmode=require"
    assert Settings.load({**parts, "DATABASE_URL": whole}).database_url == SecretStr(whole)


WRONG = {
    "GATEWAY_PORT": "70000",
    "DB_POOL_SIZE": "many",
    "DATABASE_URL": "mysql://root:hunter2@h/d",
    "SECRET_KEY": "hunter2",
    "RATE_LIMIT_API": "600",
    "TRUSTED_PROXIES": "10.0.0.0/99",
    "CORS_ORIGINS": "*",
    "SANDBOX": "loose",
    "LOG_LEVEL": "loud",
    "OIDC_ISSUER": "http://id.example.org",
    "OIDC_REDIRECT_URL": "https://data.example.org/api/auth/oidc/callback?x=1",
    "OIDC_SCOPES": "email",
    "OIDC_ALGORITHM": "HS256",
    "OIDC_ROLES": "team=owner",
    "OIDC_STRENGTH": "amr=mfa, mfa",
    "EXECUTION_TIMEOUT": "-1",
    "ACCESS_TOKEN_EXPIRE_MINUTES": "nan",
    "TRACE_SAMPLE_RATIO": "2",
    "RUN_STORE": "s3:///prefix-only",
    "RUN_STORE_ENDPOINT": "store:9000",
    "RUN_STORE_CREDENTIALS": "hunter2",
}


def test_every_wrong_variable_has_one_line_and_no_secret_is_shown() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.load(WRONG)
    lines = str(caught.value).splitlines()
    assert {line.split(":")[0].split("=")[0] for line in lines} == set(WRONG)
    assert len(lines) == len(WRONG)
    assert "hunter2" not in str(caught.value)
    assert next(line for line in lines if line.startswith("SECRET_KEY")).count("openssl rand -hex 32") >= 1
    assert "GATEWAY_PORT=70000: should be less than or equal to 65535" in str(caught.value)


def test_a_provider_is_named_whole() -> None:
    with pytest.raises(SettingsError, match="OIDC_CLIENT_ID and OIDC_REDIRECT_URL"):
        Settings.load({"OIDC_ISSUER": "https://id.example.org/realm"})
    near = {"OIDC_CLIENT_ID": "us", "OIDC_REDIRECT_URL": "http://localhost:8001/api/auth/oidc/callback"}
    settings = Settings.load({"OIDC_ISSUER": "http://127.0.0.1:9000", "OIDC_ROLES": "a b=admin, /x=viewer@w", **near})
    assert settings.oidc_roles == ("a b=admin", "/x=viewer@w")


def test_a_secret_can_stand_in_a_file(tmp_path: Path) -> None:
    for name, value in (("key", "k" * 40 + "\n"), ("password", "p@ss\r\n")):
        (tmp_path / name).write_text(value)
    settings = Settings.load(
        {
            "SECRET_KEY_FILE": str(tmp_path / "key"),
            "POSTGRES_HOST": "db",
            "POSTGRES_PASSWORD_FILE": str(tmp_path / "password"),
            "REDIS_URL_FILE": "",
        }
    )
    assert settings.secret_key == SecretStr("k" * 40)
    assert settings.database_url == SecretStr("postgresql://dataaggregator:p%40ss@db:5432/dataaggregator")
    assert settings.redis_url is None


def test_a_secret_whose_file_cannot_be_had_is_one_line_beside_the_others(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "short").write_text("hunter2")
    with pytest.raises(SettingsError) as caught:
        Settings.load(
            {
                "DATABASE_URL_FILE": str(tmp_path / "missing"),
                "REDIS_URL_FILE": str(tmp_path / "empty"),
                "RABBITMQ_URL_FILE": str(tmp_path / "short"),
                "RABBITMQ_URL": "amqp://bus",
                "SECRET_KEY_FILE": str(tmp_path / "short"),
                "GATEWAY_PORT_FILE": str(tmp_path / "short"),
                "EXECUTOR_PORT": "-1",
            }
        )
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0].split("=")[0] for line in lines] == [
        "RABBITMQ_URL_FILE",
        "REDIS_URL_FILE",
        "DATABASE_URL_FILE",
        "EXECUTOR_PORT",
        "SECRET_KEY",
    ]
    assert f"DATABASE_URL_FILE={tmp_path}/missing: should name a file with the value: No such file" in lines[2]
    assert "hunter2" not in str(caught.value)


def test_a_file_that_cannot_be_read_stops_the_service_even_if_all_else_is_right(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="SECRET_KEY_FILE"):
        Settings.load({"SECRET_KEY_FILE": str(tmp_path / "missing")})


def test_lease_times_must_fit_together() -> None:
    with pytest.raises(SettingsError, match="HEARTBEAT_SECONDS"):
        Settings.load({"LEASE_SECONDS": "10"})


def test_settings_cannot_be_changed_and_do_not_show_secrets() -> None:
    settings = Settings.load({"SECRET_KEY": "x" * 40, "DATABASE_URL": "postgresql://u:hunter2@h/d"})
    with pytest.raises(ValueError, match="frozen"):
        settings.gateway_port = 1  # type: ignore[misc]  # what must not be possible
    assert "hunter2" not in repr(settings)
    assert "x" * 40 not in repr(settings)


@pytest.mark.parametrize("field", Settings.model_fields)
def test_every_setting_is_described_and_its_shown_default_reads_back(field: str) -> None:
    assert Settings.model_fields[field].description
    default = shown_default(field)
    if default and field != "home":
        assert getattr(Settings.load({variable(field): default}), field) == Settings.model_fields[field].default


CONTRACT = [
    "GATEWAY_HOST",
    "GATEWAY_PORT",
    "CONSOLE_PORT",
    "DATAAGGREGATOR_HOME",
    "BOOTSTRAP_ADMIN_EMAIL",
    "BOOTSTRAP_ADMIN_PASSWORD",
    "FILES_ALLOWED_ROOTS",
    "DATABASE_URL",
    "POSTGRES_HOST",
    "POSTGRES_PORT",
    "POSTGRES_USER",
    "POSTGRES_PASSWORD",
    "POSTGRES_DB",
    "DB_POOL_SIZE",
    "DB_MAX_OVERFLOW",
    "SECRET_KEY",
    "ACCESS_TOKEN_EXPIRE_MINUTES",
    "REFRESH_TOKEN_EXPIRE_DAYS",
    "CORS_ORIGINS",
    "EXECUTION_TIMEOUT",
    "LOG_LEVEL",
    "LOG_FORMAT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "TRUSTED_PROXIES",
    "EGRESS_ALLOW",
    "EGRESS_DENY",
    "SANDBOX",
    "RATE_LIMIT_API",
    "RATE_LIMIT_LOGIN",
    "RATE_LIMIT_RUN",
    "RATE_LIMIT_TRUSTED_NETWORKS",
    "SECRET_KEY_PREVIOUS",
]


def test_the_settings_of_the_contract_are_there() -> None:
    assert set(CONTRACT) <= {variable(field) for field in Settings.model_fields}


@pytest.mark.parametrize(
    "origin",
    ["*", "null", "https://example.org/", "example.org", "https://*.example.org", "https://Example.org", "file:///x"],
)
def test_an_origin_that_no_browser_sends_is_refused(origin: str) -> None:
    good = "https://example.org:8443,http://[::1]:3000"
    assert Settings.load({"CORS_ORIGINS": good}).cors_origins == tuple(good.split(","))
    with pytest.raises(SettingsError, match="CORS_ORIGINS"):
        Settings.load({"CORS_ORIGINS": f"{good},{origin}"})


ID = "0197a2b4-5c6d-7e8f-9a0b-1c2d3e4f5a6b"


@pytest.mark.parametrize("name", ["EGRESS_ALLOW", "EGRESS_DENY"])
@pytest.mark.parametrize(
    "entry",
    [
        "db:5432",
        "http://db.internal",
        "10.0.0.0/33",
        "10.0.0.256",
        f"db@{ID}0",
        "db@sales",
        f"@{ID}",
        "a b",
        "a.*",
        "db@",
    ],
)
def test_what_could_name_no_place_is_refused(name: str, entry: str) -> None:
    good = f"db,db_1.internal.,*.example.org,10.0.0.0/8,fd00::/8,fd00::1@{ID},*.internal@{ID},4me.example"
    assert len(getattr(Settings.load({name: good}), name.lower())) == 8
    with pytest.raises(SettingsError, match=f"(?s){name}=.*should be hosts such as"):
        Settings.load({name: f"{good},{entry}"})


def test_only_what_is_kept_closed_may_be_everything() -> None:
    assert Settings.load({"EGRESS_DENY": f"*,*@{ID}"}).egress_deny == ("*", f"*@{ID}")
    with pytest.raises(SettingsError, match="EGRESS_ALLOW"):
        Settings.load({"EGRESS_ALLOW": "*"})


@pytest.mark.parametrize(("there", "lacking"), [("TLS_CERTIFICATE", "TLS_KEY"), ("TLS_KEY", "TLS_CERTIFICATE")])
def test_a_certificate_and_its_key_are_named_both_or_not_at_all(there: str, lacking: str) -> None:
    with pytest.raises(SettingsError) as raised:
        Settings.load({there: "/run/tls/file.pem"})
    assert str(raised.value).startswith(f"{lacking}: should be set as well, since {there} is")
