"""Cookies of browsers: how they are set, where one without TLS is taken, and what the token is bound to."""

import pytest

from dataaggregator.http import cookies


@pytest.mark.parametrize(
    ("host", "scheme", "plain"),
    [
        ("localhost:8001", "http", True),
        ("127.0.0.1", "http", True),
        ("127.3.2.1:8001", "http", True),
        ("[::1]:8001", "http", True),
        ("localhost:8001", "https", False),
        ("example.org", "http", False),
        ("localhost.example.org", "http", False),
        ("127.0.0.1.example.org:80", "http", False),
        ("10.0.0.1:8001", "http", False),
        ("", "", False),
    ],
)
def test_only_a_call_that_stays_on_the_machine_does_without_tls(host: str, scheme: str, plain: bool) -> None:
    assert cookies.plain(host, scheme) is plain


def test_a_cookie_is_for_this_host_over_tls_and_for_no_script() -> None:
    assert cookies.set_cookie("s", 60, plainly=False) == (
        "__Host-dataaggregator=s; Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure"
    )
    assert cookies.set_cookie("s", 60, plainly=False, name=cookies.LOGIN).startswith("__Host-dataaggregator-login=s;")
    assert cookies.set_cookie("", 0, plainly=True) == "dataaggregator=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"


def test_a_token_is_good_with_one_session_of_one_installation() -> None:
    token = cookies.csrf_token(b"key", "family")
    assert token == cookies.csrf_token(b"key", "family")
    assert token not in (cookies.csrf_token(b"key", "other"), cookies.csrf_token(b"another", "family"))
