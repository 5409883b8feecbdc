"""Hooks, domain: what a token is, and which parameters a call gives."""

import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from dataaggregator.contracts.document_path import at
from dataaggregator.contracts.triggers import WebhookTrigger
from dataaggregator.errors import FieldError, Invalid, NotFound
from dataaggregator.signatures import ID

PURPOSE = "hook"
PREFIX = "dah_"
_TOKEN_BYTES = 32
_WEBHOOK_ID = re.compile(r"[!-~]{1,255}")


@dataclass(frozen=True)
class Hook:
    """The webhook trigger of a pipeline."""

    schedule_id: UUID
    workspace_id: UUID
    pipeline_id: UUID
    trigger: WebhookTrigger


@dataclass(frozen=True)
class Token:
    """A token of a hook, as far as it is known; `ends_at` is when one that was replaced is good no more."""

    made_at: datetime
    made_by: UUID | None
    ends_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True)
class Delivery:
    """One call; the same one may come again under its `id`: the `webhook-id`, or else the `Idempotency-Key`."""

    body: Mapping[str, Any]
    raw: bytes
    headers: Mapping[str, str]

    @property
    def id(self) -> str | None:
        """Raises Invalid for one that nobody could keep."""
        given = self.headers.get(ID, self.headers.get("Idempotency-Key"))
        if given is not None and not _WEBHOOK_ID.fullmatch(given):
            message = "should be 1 to 255 printable ASCII characters without spaces"
            raise Invalid("header-invalid", f"{ID} {message}.", errors=[FieldError(ID, message, "header")])
        return given


def new_token() -> str:
    return PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)


def hash_of(token: str) -> bytes:
    """What a token is found by; it is random itself, so a plain hash tells nothing of it."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def aad(schedule: UUID) -> str:
    """What the secret of a hook is bound to."""
    return f"{schedule}|secret"


def unknown() -> NotFound:
    """The same for a token that never was, was replaced, or belongs to what is gone."""
    return NotFound("hook-unknown", "There is no hook at this address.")


def given_by(trigger: WebhookTrigger, body: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that a call gives; raises Invalid naming every field that means nothing here."""
    if trigger.parameters is not None:
        found = {name: at(body, path) for name, path in trigger.parameters.items()}
        return {name: value for name, value in found.items() if value is not None}
    wrong = [FieldError(name, "unknown field", "unknown-field") for name in body if name != "parameters"]
    given = body.get("parameters", {})
    if not isinstance(given, dict):
        wrong.append(FieldError("parameters", "should be an object: parameter to value", "object"))
    if wrong or not isinstance(given, dict):
        detail = (
            "A call says {'parameters': {...}} or nothing; a trigger that names `parameters` itself takes any document."
        )
        raise Invalid("body-invalid", detail, errors=wrong)
    return given
