"""Which Idempotency-Keys are taken: those that the served document says, and no others."""

import pytest

from dataaggregator.errors import Invalid
from services.gateway.idempotency.domain import check_key


@pytest.mark.parametrize("key", ["a", "~" * 255, '"quoted"'])
def test_printable_characters_are_a_key(key: str) -> None:
    assert check_key(key) == key


@pytest.mark.parametrize("key", ["", "a b", "a" * 256, "a\tb", "\u00e9", "a\n"])
def test_anything_else_is_refused(key: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_key(key)
    assert caught.value.code == "idempotency-key-invalid"
