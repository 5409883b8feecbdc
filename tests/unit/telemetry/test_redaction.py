"""No secret comes through: by type, by name, inside addresses and headers."""

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, SecretStr

from dataaggregator.telemetry.redaction import MASK, mask_text, redact, redact_field

pytestmark = pytest.mark.security

CANARY = "hunter2canary"


class Config(BaseModel):
    host: str
    password: SecretStr
    plain: str = "x"


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql://u:{CANARY}@h:5432/d",
        f"could not connect to postgresql://u:{CANARY}@h/d?sslmode=require after 3 tries",
        f"https://{CANARY}@github.example/x",
        f"https://x.example/?a=1&api_key={CANARY}&b=2",
        f"https://x.example/?access_token={CANARY}",
        f"Authorization: Bearer {CANARY}",
        f"basic {CANARY}==",
        f"password={CANARY} host=db",
        f"amqp://guest:{CANARY}@mq//",
        f"postgresql://u:p@{CANARY}@h/d",
        f"postgresql://u@server:{CANARY}@h/d",
        f"host=db password='{CANARY} and more'",
        f'password="a {CANARY}"',
    ],
)
def test_text_is_masked(text: str) -> None:
    assert CANARY not in mask_text(text)
    assert MASK in mask_text(text)


@pytest.mark.parametrize(
    "text", ["http://h:8001/api", "a@b.example", "1 = 2", "x=y", "bearer of bad news", "mailto:a@b.c", "9:30 a=b"]
)
def test_text_without_secrets_stays(text: str) -> None:
    assert mask_text(text) == text


@pytest.mark.parametrize(
    "value",
    [
        SecretStr(CANARY),
        CANARY.encode(),
        Config(host="h", password=SecretStr(CANARY)),
        {"password": CANARY},
        {"config": {"headers": {"Authorization": CANARY}}},
        [{"client_secret": CANARY}, ("x", SecretStr(CANARY))],
        {"url": f"mysql://u:{CANARY}@h/d"},
        ValueError(f"bad url postgresql://u:{CANARY}@h/d"),
    ],
)
def test_values_are_redacted(value: Any) -> None:
    assert CANARY not in str(redact(value))


@pytest.mark.parametrize(
    "name", ["password", "db_password", "secret", "client_secret", "api_key", "token", "access_token", "Authorization",
             "private_key", "cookie", "credentials", "SECRET_KEY"]
)  # fmt: skip
def test_fields_named_like_secrets_are_masked_whole(name: str) -> None:
    assert redact_field(name, CANARY) == MASK


def test_what_is_no_secret_is_told_as_it_is() -> None:
    id_ = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
    value = {"rows": 5, "ok": True, "none": None, "share": 0.5, "id": id_, "path": Path("/a"), "names": ("a", "b")}
    assert redact(value) == {
        "rows": 5, "ok": True, "none": None, "share": 0.5, "id": str(id_), "path": "/a", "names": ["a", "b"],
    }  # fmt: skip
    assert redact_field("next_cursor", "abc") == "abc"
    assert redact_field("primary_key", ["id"]) == ["id"]


def test_what_the_platform_gives_out_is_masked_wherever_it_stands() -> None:
    for given in ("dah_" + "Ab-_9" * 8, "dar_" + "Ab-_9" * 8, "da_" + "Ab09z" * 9, "whsec_" + "Ab/+9" * 8 + "="):
        kind = given.partition("_")[0]
        assert mask_text(f"POST /api/hooks/{given} failed") == f"POST /api/hooks/{kind}_******** failed"
    assert mask_text("dah_short and whsec_ are words") == "dah_short and whsec_ are words"
