"""Who is calling, when proxies stand between and when somebody pretends that they do."""

import pytest

from services.gateway.addresses import bucket_of, caller_of, networks, within

PROXIES = networks(["10.0.0.0/8", "fd00::/8"])


@pytest.mark.parametrize(
    ("peer", "forwarded", "caller"),
    [
        ("203.0.113.7", None, "203.0.113.7"),
        ("203.0.113.7", "6.6.6.6", "203.0.113.7"),
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "203.0.113.7", "203.0.113.7"),
        ("10.0.0.1", "6.6.6.6, 203.0.113.7", "203.0.113.7"),
        ("10.0.0.1", "203.0.113.7, 10.0.0.2", "203.0.113.7"),
        ("10.0.0.1", "6.6.6.6, 203.0.113.7, 10.0.0.2", "203.0.113.7"),
        ("10.0.0.1", "nonsense", "10.0.0.1"),
        ("::ffff:10.0.0.1", "203.0.113.7", "203.0.113.7"),
        ("fd00::1", "2001:db8::7", "2001:db8::7"),
    ],
)
def test_only_trusted_proxies_are_believed(peer: str, forwarded: str | None, caller: str) -> None:
    assert caller_of(peer, forwarded, PROXIES) == caller


def test_without_trusted_proxies_the_header_means_nothing() -> None:
    assert caller_of("203.0.113.7", "6.6.6.6, 7.7.7.7", ()) == "203.0.113.7"


def test_an_ipv6_caller_is_counted_by_the_network_it_owns() -> None:
    assert bucket_of("2001:db8::1") == bucket_of("2001:db8::ffff") != bucket_of("2001:db8:0:1::1")
    assert bucket_of("203.0.113.7") == "203.0.113.7"


def test_a_mapped_address_is_the_one_it_maps() -> None:
    assert within("::ffff:10.1.2.3", PROXIES)
    assert not within("no address", PROXIES)
