"""Signing keys: made in time, overlapping, dropped when nothing signed by them can live."""

from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.auth.keys import domain

NOW = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = domain.Policy()


def key(kid: str, active_at: datetime) -> domain.SigningKey:
    return domain.SigningKey(kid, Ed25519PrivateKey.generate(), active_at)


def test_the_first_key_signs_at_once() -> None:
    assert domain.next_active_at([], NOW, POLICY) == NOW


def test_no_key_is_made_while_the_youngest_is_young() -> None:
    assert domain.next_active_at([key("a", NOW)], NOW + timedelta(days=29), POLICY) is None


def test_a_new_key_is_published_before_it_signs() -> None:
    old = key("a", NOW)
    later = NOW + timedelta(days=30)
    active_at = domain.next_active_at([old], later, POLICY)
    assert active_at is not None
    new = key("b", active_at)
    assert domain.signer([old, new], later) is old
    assert domain.signer([old, new], active_at) is new
    assert [entry["kid"] for entry in domain.jwks([old, new])["keys"]] == ["b", "a"]


def test_a_key_made_but_not_yet_active_is_not_made_twice() -> None:
    later = NOW + timedelta(days=30)
    keys = [key("a", NOW), key("b", later + timedelta(minutes=15))]
    assert domain.next_active_at(keys, later, POLICY) is None


def test_an_old_key_is_dropped_only_when_its_tokens_are_dead() -> None:
    old, new = key("a", NOW), key("b", NOW + timedelta(days=30))
    assert domain.expired([old, new], new.active_at + timedelta(hours=23), POLICY) == []
    assert domain.expired([old, new], new.active_at + timedelta(hours=24), POLICY) == [old]


def test_the_published_key_holds_nothing_private() -> None:
    assert set(key("a", NOW).jwk()) == {"kty", "crv", "x", "kid", "use", "alg"}
