"""Sealing: only the right key, purpose and place open, and nothing that was changed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataaggregator.errors import Permanent
from dataaggregator.secrets import KeyRing

OLD, NEW = "an old secret key of more than 32 characters", "a new secret key of more than 32 characters"
RING = KeyRing(NEW)


@given(st.binary(max_size=200), st.text(max_size=50))
def test_what_is_sealed_opens_in_its_place(plaintext: bytes, aad: str) -> None:
    sealed = RING.seal(plaintext, aad=aad, purpose="connector")
    assert RING.open(sealed, aad=aad, purpose="connector") == plaintext
    assert len(plaintext) < 4 or plaintext not in sealed


@pytest.mark.parametrize(
    ("ring", "aad", "purpose"),
    [(RING, "w|c|other", "connector"), (RING, "w|c|f", "other"), (KeyRing(OLD), "w|c|f", "connector")],
)
def test_another_place_purpose_or_key_does_not_open(ring: KeyRing, aad: str, purpose: str) -> None:
    sealed = RING.seal(b"hunter2", aad="w|c|f", purpose="connector")
    with pytest.raises(Permanent) as caught:
        ring.open(sealed, aad=aad, purpose=purpose)
    assert caught.value.code == "sealed-data-unreadable"
    assert "hunter2" not in str(caught.value)


def test_any_changed_byte_is_noticed() -> None:
    sealed = RING.seal(b"hunter2", aad="a", purpose="p")
    for at in range(len(sealed)):
        changed = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
        with pytest.raises(Permanent):
            RING.open(changed, aad="a", purpose="p")
    for length in range(len(sealed)):
        with pytest.raises(Permanent):
            RING.open(sealed[:length], aad="a", purpose="p")


def test_a_rotated_key_still_opens_and_tells_what_is_to_be_sealed_anew() -> None:
    sealed = KeyRing(OLD).seal(b"x", aad="a", purpose="p")
    rotated = KeyRing(NEW, [OLD])
    assert rotated.open(sealed, aad="a", purpose="p") == b"x"
    assert rotated.outdated(sealed)
    assert not rotated.outdated(rotated.seal(b"x", aad="a", purpose="p"))


def test_the_same_secret_is_never_sealed_alike_and_purposes_have_keys_of_their_own() -> None:
    assert RING.seal(b"x", aad="a", purpose="p") != RING.seal(b"x", aad="a", purpose="p")
    assert RING.derive("a") == KeyRing(NEW).derive("a") != RING.derive("b")
    assert len(RING.derive("a")) == 32
