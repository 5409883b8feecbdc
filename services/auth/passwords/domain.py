"""Password domain: which passwords are refused and for what, and the token that sets a new one. Pure."""

import hashlib
import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from dataaggregator.errors import FieldError, Invalid

LONGEST = 1024
DIFFERENT_AT_LEAST = 5
# A shorter part of a name stands in too many words.
PERSONAL_AT_LEAST = 3
PREFIX = "dar_"
_TOKEN_BYTES = 32
_PRODUCT = "dataaggregator"
_ENDS = re.compile(r"^[^a-z]+|[^a-z]+$")


@dataclass(frozen=True)
class Person:
    """Whose password it is to be; `before` is the one it replaces, where that is known."""

    email: str
    name: str = ""
    before: str | None = None

    def words(self) -> Iterator[str]:
        """What anybody may know of them, the longest first."""
        email = self.email.strip().casefold()
        parts = {email, *re.split(r"[@._+-]", email), *self.name.casefold().split(), _PRODUCT}
        yield from sorted(
            (part for part in parts if len(part) >= PERSONAL_AT_LEAST), key=lambda part: (-len(part), part)
        )


@dataclass(frozen=True)
class Policy:
    """What a password has to be. Length counts, kinds of characters do not: that is what guesses are slowed by."""

    at_least: int
    is_common: Callable[[str], bool]

    def check(self, password: str, person: Person, field: str = "password") -> None:
        """Raises Invalid that names everything that is wrong with it."""
        errors = [FieldError(field, message, code) for code, message in self._faults(password, person)]
        if errors:
            wanted = "; ".join(error.message for error in errors)
            raise Invalid("password-refused", f"This password cannot be taken: {wanted}.", errors=errors)

    def _faults(self, password: str, person: Person) -> Iterator[tuple[str, str]]:
        folded = password.casefold()
        if len(password) < self.at_least:
            yield "too-short", f"at least {self.at_least} characters are needed, {len(password)} were given"
        if len(password) > LONGEST:
            yield "too-long", f"at most {LONGEST} characters are taken"
        if len(set(folded)) < DIFFERENT_AT_LEAST:
            yield "too-few-different", f"at least {DIFFERENT_AT_LEAST} different characters are needed"
        if self._guessed(folded):
            yield "common", "it is among the passwords that are tried first"
        elif self._personal(folded, person):
            yield "personal", "without the e-mail, the name and the product in it too little is left"
        if password == person.before:
            yield "unchanged", "it is the password there was before"

    def _guessed(self, folded: str) -> bool:
        """On the list, or made of one that is by a few digits or signs at its ends."""
        core = _ENDS.sub("", folded)
        return self.is_common(folded) or (len(folded) - len(core) < self.at_least and self.is_common(core))

    def _personal(self, folded: str, person: Person) -> bool:
        left = folded
        for word in person.words():
            left = left.replace(word, "")
        return left != folded and (len(left) < self.at_least or self._guessed(left))


@dataclass(frozen=True)
class Reset:
    """That somebody may set a new password once, until `expires_at`; the token itself is kept nowhere."""

    user_id: UUID
    digest: bytes
    expires_at: datetime


def new_token() -> str:
    return PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)


def digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
