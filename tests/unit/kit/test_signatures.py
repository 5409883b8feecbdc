"""Signatures of calls: as Standard Webhooks writes them down, and nothing else is taken for one."""

from datetime import UTC, datetime, timedelta

import pytest

from dataaggregator.errors import Invalid, Unauthenticated
from dataaggregator.signatures import SIGNATURE, TIMESTAMP, check_secret, new_secret, sign, verify

# The example of the specification's own libraries.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"test": 2432232314}'
AT = datetime.fromtimestamp(1614265330, UTC)
SIGNED = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": "1614265330",
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}


def test_a_call_is_signed_as_the_specification_shows() -> None:
    assert sign([SECRET], SIGNED["webhook-id"], AT, BODY) == SIGNED
    verify([SECRET], SIGNED, BODY, AT)


def test_several_secrets_are_good_while_one_is_replaced() -> None:
    new = new_secret()
    both = sign([new, SECRET], "msg_1", AT, BODY)
    assert len(both[SIGNATURE].split(" ")) == 2
    for secrets in ([SECRET], [new], [new_secret(), SECRET]):
        verify(secrets, both, BODY, AT)
    verify([new, SECRET], SIGNED, BODY, AT)
    verify([SECRET], {**SIGNED, SIGNATURE: f"v1a,AAAA v2,x {SIGNED[SIGNATURE]}"}, BODY, AT)


@pytest.mark.parametrize("late", [-300, 300])
def test_a_clock_may_be_off_by_five_minutes(late: int) -> None:
    verify([SECRET], SIGNED, BODY, AT + timedelta(seconds=late))
    with pytest.raises(Unauthenticated, match="300 seconds"):
        verify([SECRET], SIGNED, BODY, AT + timedelta(seconds=late + (1 if late > 0 else -1)))


@pytest.mark.parametrize(
    "changed",
    [
        {"webhook-id": "msg_other"},
        {"webhook-id": ""},
        {TIMESTAMP: "1614265331"},
        {TIMESTAMP: "yesterday"},
        {TIMESTAMP: "9" * 400},
        {SIGNATURE: ""},
        {SIGNATURE: SIGNED[SIGNATURE].removeprefix("v1,")},
        {SIGNATURE: SIGNED[SIGNATURE].replace("v1,", "v2,")},
        {SIGNATURE: "v1,ü"},
        {SIGNATURE: SIGNED[SIGNATURE][:-4]},
    ],
    ids=str,
)
def test_what_is_not_signed_like_that_is_refused(changed: dict[str, str]) -> None:
    with pytest.raises(Unauthenticated):
        verify([SECRET], SIGNED | changed, BODY, AT)


def test_another_body_another_secret_and_none_at_all_are_refused() -> None:
    for secrets, body in (([SECRET], BODY + b" "), ([new_secret()], BODY), ([], BODY)):
        with pytest.raises(Unauthenticated):
            verify(secrets, SIGNED, body, AT)


@pytest.mark.parametrize(
    "secret", ["", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_AAAA", "whsec_?", "whsec_" + "A" * 90]
)
def test_a_secret_that_is_none_is_named(secret: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_secret(secret, "secret")
    assert [error.field for error in refused.value.errors] == ["secret"]
    assert check_secret(SECRET, "secret") == SECRET
