"""Redaction: neither a secret that is known nor what looks like a password leaves the run process."""

import pytest

from dataaggregator.contracts.secret import MASK
from dataaggregator.dataplane.redaction import Redaction

pytestmark = pytest.mark.security


@pytest.mark.parametrize("text", ["p%40ss-word", "p@ss-word"])
def test_a_known_secret_is_masked_as_it_is_and_decoded(text: str) -> None:
    assert Redaction(["p%40ss-word"]).value({"said": [f"login {text} failed"]}) == {"said": [f"login {MASK} failed"]}


def test_the_key_a_run_masks_with_is_masked_itself() -> None:
    assert Redaction.of([], "0f" * 32).text("keyed by " + "0f" * 32) == f"keyed by {MASK}"


@pytest.mark.parametrize("login", ["someone:unheard-of", "someone@server:unheard-of", "someone:un@heard-of"])
def test_a_password_in_a_url_is_masked_though_nobody_knows_it(login: str) -> None:
    text = Redaction([]).text(f"cannot reach postgresql://{login}@db:5432/x, see https://db/docs")
    assert text == f"cannot reach postgresql://{MASK}@db:5432/x, see https://db/docs"
