"""A token is believed only if it is rightly signed, in time, for us, complete and not revoked."""

import base64
import json
import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dataaggregator.directory import Directory
from dataaggregator.errors import Transient, Unauthenticated
from dataaggregator.http.tokens import RemoteJwks, ServiceTokens, StaticJwks, TokenVerifier
from dataaggregator.permissions import Role
from dataaggregator.ports import Ports
from dataaggregator.revocations import Revocation
from dataaggregator.revocations.in_process import InProcessRevocations
from dataaggregator.secrets import KeyRing
from tests.security import tried

from .conftest import USER, WORKSPACE, Issuer, Serve, SetClock

pytestmark = pytest.mark.security

KEYS = KeyRing("a made-up secret key of more than 32 characters")


@pytest.fixture
def revocations(clock: SetClock) -> InProcessRevocations:
    return InProcessRevocations(clock)


@pytest.fixture
def verifier(issuer: Issuer, clock: SetClock, revocations: InProcessRevocations) -> TokenVerifier:
    jwks = StaticJwks({issuer.key_id: issuer.key.public_key()})
    return TokenVerifier("trial", jwks, revocations, KEYS, clock)


async def refused(verifier: TokenVerifier, token: str) -> None:
    for _ in range(2):  # a second time from the cache, if it wrongly got there
        with pytest.raises(Unauthenticated) as caught:
            await verifier.verify(token)
        assert caught.value.code == "token-invalid"


async def test_a_right_token_tells_who_is_asking(verifier: TokenVerifier, issuer: Issuer) -> None:
    identity = await verifier.verify(issuer.token(Role.EDITOR))
    assert identity.user_id == USER
    assert identity.email == "ada@example.org"
    assert identity.role_in(WORKSPACE) is Role.EDITOR
    assert identity.default_workspace == WORKSPACE
    assert identity.service is None


WRONG: dict[str, list[Any]] = {
    "exp": [None, "", "1e999", [], {}, True, -1, 0, 1e300],
    "iat": [None, "", "now", [], {}, 1e300, 4e9],
    "aud": [None, "", "someone", [], ["someone"], 7, "executor"],
    "iss": [None, "", "someone", "dataaggregator-service", 7],
    "jti": [None, 7, [], {}],
    "sub": [None, "", "me", 7, [], "01890a5d"],
    "ws": [
        None,
        "",
        7,
        {},
        [{}],
        [{"id": "x", "name": "a", "role": "admin"}],
        [{"id": str(USER), "name": "a", "role": "god"}],
    ],
    "dws": ["x", 7, []],
}


@pytest.mark.parametrize("claim", WRONG)
async def test_a_claim_that_is_missing_or_wrong_refuses_it(verifier: TokenVerifier, issuer: Issuer, claim: str) -> None:
    claims = issuer.claims()
    if claim != "dws":
        await refused(verifier, signed(issuer, {name: value for name, value in claims.items() if name != claim}))
    for wrong in WRONG[claim]:
        await refused(verifier, signed(issuer, {**claims, claim: wrong}))


def signed(issuer: Issuer, claims: dict[str, Any]) -> str:
    """Signed whatever the claims are: the library would not let us write some of them."""
    return jwt.api_jws.encode(
        json.dumps(claims).encode(), issuer.key, algorithm="EdDSA", headers={"kid": issuer.key_id}
    )


async def test_times_are_judged_by_the_clock_given(verifier: TokenVerifier, issuer: Issuer, clock: SetClock) -> None:
    token = issuer.token()
    await verifier.verify(token)
    clock.forward(1801)
    await refused(verifier, token)
    await refused(verifier, issuer.token(iat=int(clock.now().timestamp()) + 120))
    await refused(verifier, issuer.token(nbf=int(clock.now().timestamp()) + 120))


def _unsigned(issuer: Issuer) -> str:
    return jwt.encode(issuer.claims(), "", algorithm="none", headers={"kid": issuer.key_id})


def _by_other_key(issuer: Issuer) -> str:
    return jwt.encode(issuer.claims(), Ed25519PrivateKey.generate(), algorithm="EdDSA", headers={"kid": issuer.key_id})


def _by_ed448(issuer: Issuer) -> str:
    return jwt.encode(issuer.claims(), Ed448PrivateKey.generate(), algorithm="EdDSA", headers={"kid": issuer.key_id})


def _by_rsa(issuer: Issuer) -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return jwt.encode(issuer.claims(), key, algorithm="RS256", headers={"kid": issuer.key_id})


def _by_ecdsa(issuer: Issuer) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    return jwt.encode(issuer.claims(), key, algorithm="ES256", headers={"kid": issuer.key_id})


def _public_key_as_hmac_secret(issuer: Issuer) -> str:
    raw = issuer.key.public_key().public_bytes_raw()
    return jwt.encode(issuer.claims(), raw, algorithm="HS256", headers={"kid": issuer.key_id})


def _unknown_key_id(issuer: Issuer) -> str:
    return issuer.signed(issuer.claims(), kid="k2")


def _no_key_id(issuer: Issuer) -> str:
    return jwt.encode(issuer.claims(), issuer.key, algorithm="EdDSA")


def _key_in_header(issuer: Issuer) -> str:
    key = Ed25519PrivateKey.generate()
    public = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(key.public_key()))
    return jwt.encode(issuer.claims(), key, algorithm="EdDSA", headers={"kid": issuer.key_id, "jwk": public})


def _as_a_service(issuer: Issuer) -> str:
    claims = issuer.claims(iss="dataaggregator-service", aud="trial", sub="gateway")
    return issuer.signed(claims, kid="service")


def _issuer_of_services(issuer: Issuer) -> str:
    return issuer.token(iss="dataaggregator-service", aud="trial", sub="gateway")


FORGERIES: list[Callable[[Issuer], str]] = [
    _unsigned,
    _by_other_key,
    _by_ed448,
    _by_rsa,
    _by_ecdsa,
    _public_key_as_hmac_secret,
    _unknown_key_id,
    _no_key_id,
    _key_in_header,
    _as_a_service,
    _issuer_of_services,
]


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
@pytest.mark.parametrize("forge", FORGERIES)
async def test_a_forged_token_is_refused(
    verifier: TokenVerifier, issuer: Issuer, forge: Callable[[Issuer], str]
) -> None:
    await refused(verifier, forge(issuer))


async def test_a_token_with_any_part_changed_is_refused(verifier: TokenVerifier, issuer: Issuer) -> None:
    token = issuer.token()
    await verifier.verify(token)
    for changed in tried(mutated(token)):
        await refused(verifier, changed)


def mutated(token: str, count: int = 2_000) -> list[str]:
    """So many texts that are this token but for one place; none means the same."""
    dice = random.Random(20_261_123)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.="
    found: dict[str, None] = {}
    while len(found) < count:
        at = dice.randrange(len(token))
        changed = dice.choice([
            token[:at] + dice.choice(alphabet) + token[at + 1 :],
            token[:at] + token[at + 1 :],
            token[:at],
            token[:at] + dice.choice(alphabet) + token[at:],
        ])  # fmt: skip
        if changed != token and not _same_signature(changed, token):
            found[changed] = None
    return list(found)


def _same_signature(changed: str, token: str) -> bool:
    """The last character of base64 may differ in bits that mean nothing."""
    head, _, signature = changed.rpartition(".")
    try:
        same = _decoded(signature) == _decoded(token.rpartition(".")[2])
    except ValueError:
        return False
    return head == token.rpartition(".")[0] and same


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


NO_TOKENS = ["", ".", "..", "a.b.c", "é.é.é", "e30.e30.e30", "x" * 10_000, "eyJhbGciOiJFZERTQSJ9.."]


@pytest.mark.parametrize("text", NO_TOKENS)
async def test_what_is_no_token_is_refused(verifier: TokenVerifier, text: str) -> None:
    await refused(verifier, text)


async def test_a_revoked_token_is_refused_at_once_and_others_are_not(
    verifier: TokenVerifier, issuer: Issuer, clock: SetClock, revocations: InProcessRevocations
) -> None:
    one, other = issuer.token(jti="one"), issuer.token(jti="other", fam="family-2")
    await verifier.verify(one)
    await verifier.verify(other)
    until = clock.now() + timedelta(hours=1)
    await revocations.revoke(Revocation("token", "one", clock.now(), until))
    await refused(verifier, one)
    await verifier.verify(other)
    await revocations.revoke(Revocation("family", "family-2", clock.now(), until))
    await refused(verifier, other)
    third = issuer.token(fam="family-3")
    await verifier.verify(third)
    await revocations.revoke(Revocation("user", str(USER), clock.now(), until))
    await refused(verifier, third)
    clock.forward(2)
    await verifier.verify(issuer.token(fam="family-4"))


async def test_a_key_that_was_withdrawn_verifies_no_more(issuer: Issuer, clock: SetClock) -> None:
    held = {issuer.key_id: issuer.key.public_key()}
    jwks = StaticJwks(held)
    verifier = TokenVerifier("trial", jwks, InProcessRevocations(clock), KEYS, clock)
    token = issuer.token()
    await verifier.verify(token)
    jwks._keys.clear()
    await refused(verifier, token)


async def test_a_service_token_is_good_for_its_service_and_a_minute(clock: SetClock, issuer: Issuer) -> None:
    def verifier(service: str) -> TokenVerifier:
        return TokenVerifier(service, StaticJwks({}), InProcessRevocations(clock), KEYS, clock)

    tokens = ServiceTokens(KEYS, "scheduler", clock)
    token = tokens.token("executor")
    executor = verifier("executor")
    identity = await executor.verify(token)
    assert (identity.service, identity.user_id) == ("scheduler", None)
    await refused(verifier("connectors"), token)
    foreign = ServiceTokens(KeyRing("another secret key of more than 32 characters"), "scheduler", clock)
    await refused(executor, foreign.token("executor"))
    assert tokens.token("executor") == token
    clock.forward(61)
    await refused(executor, token)
    await executor.verify(tokens.token("executor"))


async def test_keys_are_fetched_once_again_for_a_new_one_and_survive_a_silent_auth(
    serve: Serve, issuer: Issuer, plain_ports: Ports, clock: SetClock
) -> None:
    with pytest.raises(Transient):
        await RemoteJwks(Directory(), clock).key("k1")  # auth has not started
    jwks = RemoteJwks(plain_ports.directory, clock)
    await serve([])
    assert await jwks.key("k1") is not None
    issuer.key, issuer.key_id = Ed25519PrivateKey.generate(), "k2"
    assert await jwks.key("k2") is None  # asked for again too soon
    clock.forward(6)
    assert await jwks.key("k2") is not None
    assert not jwks.holds("k1")
    plain_ports.directory.put("auth", "http://127.0.0.1:1")
    clock.forward(3600)
    assert await jwks.key("k2") is not None
    with pytest.raises(Transient):
        await jwks.key("k3")


def test_every_member_of_the_claims_is_read(issuer: Issuer) -> None:
    claims: dict[str, Any] = issuer.claims()
    assert set(claims) == {"iss", "aud", "sub", "iat", "exp", "jti", "fam", "email", "ws", "dws"}
