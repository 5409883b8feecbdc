"""What the provider says is believed only if it is rightly signed, in time, of it, for us and for this login."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dataaggregator.errors import Unauthenticated
from dataaggregator.permissions import Role
from services.auth.oidc.domain import (
    Attempt,
    Expected,
    Rule,
    claims_of,
    granted,
    key_id,
    person_of,
    returns_well,
    usable,
)

pytestmark = pytest.mark.security

ISSUER, CLIENT, NONCE = "https://id.example.org/realm", "data-aggregator", "the nonce of this login"
NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
GOOD: dict[str, Any] = {
    "iss": ISSUER,
    "aud": CLIENT,
    "sub": "24400320",
    "nonce": NONCE,
    "iat": SECONDS,
    "exp": SECONDS + 300,
    "email": "ada@example.org",
    "email_verified": True,
}


def jwk(key: Any = KEY, algorithm: type[jwt.algorithms.Algorithm] = jwt.algorithms.RSAAlgorithm, **more: str) -> Any:
    public: Any = algorithm.to_jwk(key.public_key(), as_dict=True)
    return {**{name: value for name, value in public.items() if name not in ("key_ops", "use")}, "kid": "k1", **more}


def signed(claims: dict[str, Any], key: Any = KEY, algorithm: str = "RS256", **header: Any) -> str:
    """Signed whatever the claims are: the library would not let us write some of them."""
    headers = {"kid": "k1", **header}
    return jwt.api_jws.encode(json.dumps(claims).encode(), key, algorithm=algorithm, headers=headers)


def judged(token: str, algorithm: str = "RS256", keys: Any = None) -> Any:
    key = usable([jwk()] if keys is None else keys, algorithm).get(key_id(token, algorithm))
    if key is None:
        raise Unauthenticated("oidc-token-invalid", "no such key")
    return claims_of(token, key, Expected(ISSUER, CLIENT, algorithm, NONCE), NOW)


def refused(token: str, **how: Any) -> None:
    with pytest.raises(Unauthenticated) as caught:
        judged(token, **how)
    assert caught.value.code == "oidc-token-invalid"


def test_a_right_token_is_believed() -> None:
    claims = judged(signed(GOOD))
    person = person_of(claims, "groups")
    assert (person.issuer, person.subject, person.email) == (ISSUER, "24400320", "ada@example.org")
    assert judged(signed({**GOOD, "aud": [CLIENT]}))
    assert judged(signed({**GOOD, "aud": [CLIENT, "another"], "azp": CLIENT}))
    assert judged(signed({**GOOD, "iat": SECONDS + 59, "exp": SECONDS - 59}))  # clocks that differ a little


WRONG: dict[str, list[Any]] = {
    "iss": [None, "", ISSUER + "/", "https://id.example.org", "https://evil.example/realm", 7, [ISSUER]],
    "aud": [None, "", "another", [], ["another"], [CLIENT, "another"], [7], 7],
    "azp": ["another", "", 7, [CLIENT]],
    "sub": [None, "", 7, [], "x" * 256],
    "nonce": [None, "", "another", 7, [NONCE]],
    "exp": [None, "", "never", True, SECONDS - 60, 0, -1, [], float("nan"), float("inf")],
    "iat": [None, "", "now", True, SECONDS + 61, SECONDS - 3600, [], float("nan"), float("-inf")],
    "nbf": ["", SECONDS + 61, True, float("nan")],
}


@pytest.mark.parametrize(("claim", "wrong"), [(claim, wrong) for claim in WRONG for wrong in WRONG[claim]], ids=repr)
def test_a_claim_that_is_wrong_refuses_it(claim: str, wrong: object) -> None:
    refused(signed({**GOOD, claim: wrong}))


@pytest.mark.parametrize("claim", ["iss", "aud", "sub", "nonce", "exp", "iat"])
def test_a_claim_that_is_missing_refuses_it(claim: str) -> None:
    refused(signed({name: value for name, value in GOOD.items() if name != claim}))


def _unsigned() -> str:
    return jwt.encode(GOOD, "", algorithm="none", headers={"kid": "k1"})


def _by_another_key() -> str:
    return signed(GOOD, OTHER)


def _by_another_algorithm() -> str:
    return signed(GOOD, algorithm="RS512")


def _by_pss() -> str:
    return signed(GOOD, algorithm="PS256")


def _public_key_as_hmac_secret() -> str:
    secret = KEY.public_key().public_numbers().n.to_bytes(256, "big")
    return jwt.encode(GOOD, secret, algorithm="HS256", headers={"kid": "k1"})


def _unknown_key() -> str:
    return signed(GOOD, kid="k2")


def _key_in_header() -> str:
    return signed(GOOD, OTHER, jwk=jwk(OTHER))


def _critical_header() -> str:
    return signed(GOOD, crit=["exp"])


def _changed() -> str:
    head, _, signature = signed(GOOD).split(".")
    _, body, _ = signed({**GOOD, "sub": "somebody else"}).split(".")
    return f"{head}.{body}.{signature}"


def _without_signature() -> str:
    return signed(GOOD).rpartition(".")[0] + "."


def _claims_are_a_list() -> str:
    return jwt.api_jws.encode(b"[]", KEY, algorithm="RS256", headers={"kid": "k1"})


@pytest.mark.parametrize(
    "forge",
    [
        _unsigned,
        _by_another_key,
        _by_another_algorithm,
        _by_pss,
        _public_key_as_hmac_secret,
        _unknown_key,
        _key_in_header,
        _critical_header,
        _changed,
        _without_signature,
        _claims_are_a_list,
    ],
)
def test_a_forged_token_is_refused(forge: Callable[[], str]) -> None:
    refused(forge())


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "é.é.é", "." * 5, "eyJhbGciOiJSUzI1NiJ9..", "x" * 10_000])
def test_what_is_no_token_is_refused(text: str) -> None:
    refused(text)


def test_other_algorithms_are_taken_where_they_are_the_one_that_is_set() -> None:
    curve, edwards = ec.generate_private_key(ec.SECP256R1()), Ed25519PrivateKey.generate()
    assert judged(signed(GOOD, curve, "ES256"), "ES256", [jwk(curve, jwt.algorithms.ECAlgorithm)])
    assert judged(signed(GOOD, edwards, "EdDSA"), "EdDSA", [jwk(edwards, jwt.algorithms.OKPAlgorithm)])
    assert judged(signed(GOOD, KEY, "PS256"), "PS256")
    refused(signed(GOOD), algorithm="ES256", keys=[jwk(curve, jwt.algorithms.ECAlgorithm)])


def test_keys_that_do_not_sign_by_this_algorithm_are_left_out() -> None:
    weak, curve = (
        rsa.generate_private_key(public_exponent=65537, key_size=1024),  # noqa: S505  (to be refused)
        ec.generate_private_key(ec.SECP384R1()),
    )
    others = [jwk(use="enc"), jwk(alg="RS512"), jwk(weak), jwk(curve, jwt.algorithms.ECAlgorithm), "text", {}, None]
    assert usable([*others, {**jwk(), "n": 7}, {"kty": "oct", "k": "c2VjcmV0", "kid": "k1"}], "RS256") == {}
    assert set(usable([*others, jwk(use="sig", alg="RS256", kid="good")], "RS256")) == {"good"}
    assert usable([jwk(curve, jwt.algorithms.ECAlgorithm)], "ES256") == {}


@pytest.mark.parametrize("verified", [None, False, "true", 1, "yes"])
def test_an_email_counts_only_where_the_provider_has_verified_it(verified: object) -> None:
    assert person_of({**GOOD, "email_verified": verified}, "groups").email is None


@pytest.mark.parametrize("email", ["", "no address", "a@b@c", "a@b\n", "@", "x" * 250 + "@b.org", 7, ["a@b.org"]])
def test_what_is_no_email_is_none(email: object) -> None:
    assert person_of({**GOOD, "email": email}, "groups").email is None


@pytest.mark.parametrize(
    ("said", "groups"),
    [(["a", "b", "a"], ["a", "b"]), ("a", ["a"]), (None, []), ({"a": 1}, []), (["a", 7, None, ["b"]], ["a"])],
    ids=repr,
)
def test_groups_are_what_is_text(said: object, groups: list[str]) -> None:
    assert person_of({**GOOD, "roles": said, "name": "Ada\x1b[31m\n"}, "roles").groups == frozenset(groups)


def test_a_name_has_no_control_characters() -> None:
    assert person_of({**GOOD, "name": "Ada\x1b \n"}, "groups").name == "Ada "


def test_the_highest_role_of_all_groups_counts_and_a_workspace_without_one_is_named_too() -> None:
    rules = [Rule.read(one) for one in ("team=viewer", "leads=admin", "cn=x=editor", "leads=editor@marketing")]
    assert rules[2] == Rule("cn=x", Role.EDITOR, "default")
    assert granted(rules, {"team", "leads"}) == {"default": Role.ADMIN, "marketing": Role.EDITOR}
    assert granted(rules, {"team"}) == {"default": Role.VIEWER, "marketing": None}
    assert granted(rules, {"*", "Team"}) == {"default": None, "marketing": None}
    assert granted([*rules, Rule.read("*=viewer@all")], set())["all"] is Role.VIEWER
    assert granted([], {"team"}) == {}


def test_all_of_a_login_follows_from_what_the_browser_holds_and_a_key_of_ours() -> None:
    attempt = Attempt.begun(b"key")
    assert Attempt.of(b"key", attempt.secret) == attempt
    others = (Attempt.begun(b"key"), Attempt.of(b"another", attempt.secret))
    said = [(one.state, one.nonce, one.verifier) for one in (attempt, *others)]
    assert len({part for parts in said for part in (*parts, attempt.secret)}) == 10
    assert all(43 <= len(part) <= 128 for parts in said for part in parts)


def test_the_challenge_is_that_of_rfc_7636() -> None:
    attempt = Attempt("", "", "", "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
    assert attempt.challenge == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


CONSOLE = "https://console.example:3000"


@pytest.mark.parametrize("target", ["/", "/api/docs?a=b#c", CONSOLE, f"{CONSOLE}/runs?x=1"])
def test_a_browser_returns_to_a_page_of_ours(target: str) -> None:
    assert returns_well(target, (CONSOLE,))


@pytest.mark.parametrize(
    "target",
    [
        "//evil.example",
        "/\\evil.example",
        "/\t/evil.example",
        "/a\r\nSet-Cookie: x",
        "https://evil.example",
        f"{CONSOLE}.evil.example/",
        f"{CONSOLE}@evil.example/",
        f"{CONSOLE}\\@evil.example/",
        "https://console.example/",
        "http://console.example:3000/",
        "javascript:alert(1)",
        "data:text/html,x",
        "evil.example",
        "https://[",
        "",
    ],
)
def test_nobody_elses_link_leads_elsewhere(target: str) -> None:
    assert not returns_well(target, (CONSOLE,))


def test_tokens_live_by_the_clock_that_is_given() -> None:
    token = signed(GOOD)
    key = usable([jwk()], "RS256")["k1"]
    with pytest.raises(Unauthenticated, match="run out"):
        claims_of(token, key, Expected(ISSUER, CLIENT, "RS256", NONCE), NOW + timedelta(seconds=360))
