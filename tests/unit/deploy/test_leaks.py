"""Planted secrets are found wherever they are, and are not told; what is none is named with its reason."""

import base64
import random
import string
import subprocess
from pathlib import Path

import pytest

from deploy.supply import leaks

# Chance that is the same in each run: one key in a thousand looks like a word.
DICE = random.Random(7)


def made(characters: str, length: int) -> str:
    """A made-up key; a run of digits and letters as such keys have them."""
    return "a7" + "".join(DICE.choice(characters) for _ in range(length - 2))


ALNUM = string.ascii_letters + string.digits
UPPER = string.ascii_uppercase + string.digits
# Put together here, so that this file has none of them in it.
PLANTED = {
    "private key": lambda: (
        "-----BEGIN " + "OPENSSH PRIVATE KEY-----\n" + base64.encodebytes(DICE.randbytes(200)).decode()
    ),
    "key of AWS": lambda: "AKIA" + made(UPPER, 16).upper(),
    "token of GitHub": lambda: "ghp_" + made(ALNUM, 36),
    "token of GitLab": lambda: "glpat-" + made(ALNUM, 20),
    "token of Slack": lambda: "xoxb-" + made(string.digits, 24),
    "key of Google": lambda: "AIza" + made(ALNUM, 35),
    "key of Stripe": lambda: "sk_live_" + made(ALNUM, 24),
    "key of an Azure account": lambda: "AccountKey=" + base64.b64encode(DICE.randbytes(64)).decode(),
    "signed token": lambda: ".".join(("eyJ" + made(ALNUM, 20), "eyJ" + made(ALNUM, 40), made(ALNUM, 40))),
    "what the platform gives out": lambda: "whsec_" + base64.b64encode(DICE.randbytes(32)).decode(),
    "value of a secret's name": lambda: f'SECRET_KEY = "{DICE.randbytes(32).hex()}"',
}


@pytest.mark.parametrize("rule", PLANTED)
def test_a_planted_secret_is_found_and_not_told(rule: str) -> None:
    secret = PLANTED[rule]()
    found = list(leaks.leaks("a.py", f"first line\nvalue: {secret}\n"))
    assert rule in {leak.rule for leak in found}
    assert all(leak.line in (2, 3) for leak in found)
    assert not any(secret[-12:].strip() in str(leak) for leak in found)


@pytest.mark.parametrize("name", ["password", "DB_PASSWORD", "api-key", "apiKey", "client_secret", "accessToken"])
@pytest.mark.parametrize("written", ['{}: "{}"', "{}={}", '"{}": "{}"', "{} = '{}'"])
def test_a_made_up_value_behind_a_secrets_name_is_found(name: str, written: str) -> None:
    for value in (DICE.randbytes(16).hex(), base64.urlsafe_b64encode(DICE.randbytes(33)).decode()):
        assert list(leaks.leaks("a.yaml", written.format(name, value))), value


@pytest.mark.parametrize("prefix", ["da_", "dah_", "dar_", "whsec_"])
def test_each_kind_of_token_that_the_platform_gives_out_is_found(prefix: str) -> None:
    token = prefix + base64.urlsafe_b64encode(DICE.randbytes(32)).decode()
    assert [leak.rule for leak in leaks.leaks("a.md", f"use {token} here")] == ["what the platform gives out"]


def test_what_every_rule_is_tried_with() -> None:
    assert set(PLANTED) == {*leaks._RULES, "value of a secret's name"}


@pytest.mark.parametrize(
    "text",
    [
        'token = "the-token-of-the-workspace"',
        "password: ${POSTGRES_PASSWORD_OF_THE_INSTALLATION}",
        'secret_key="only-for-tests-only-for-tests-only-for-tests"',
        "digest sha256:051147056936bcec489c59c859162a4bf17cb6280efc5b75f63e70b2ac4250bf",
        "token_families_by_expiry_and_user_2",
    ],
)
def test_words_and_digests_are_no_secrets(text: str) -> None:
    assert list(leaks.leaks("a.py", text)) == []


def test_a_planted_secret_fails_the_check_and_a_reason_lets_it_pass(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = PLANTED["token of GitHub"]()
    (tmp_path / "deploy.env").write_text(f"GH={secret}\n")
    (tmp_path / "image.png").write_bytes(b"\0" + secret.encode())
    known = tmp_path / "allowed.txt"
    known.write_text("# nothing yet\n")
    for step in (["init", "-q"], ["add", "deploy.env", "image.png"]):
        subprocess.run(["git", *step], cwd=tmp_path, check=True, capture_output=True)
    assert leaks.main(tmp_path, known) == 1
    told = capsys.readouterr().err
    assert told.startswith("deploy.env:1: token of GitHub (")
    assert secret not in told
    mark = told.split("(")[1].split(")")[0]
    known.write_text(f"deploy.env {mark} a made-up one of this test\n")
    assert leaks.main(tmp_path, known) == 0
    (tmp_path / "deploy.env").write_text("GH=\n")
    assert leaks.main(tmp_path, known) == 1
    assert "not there any more" in capsys.readouterr().err


def test_a_file_that_is_not_handed_on_is_not_looked_at(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / ".env").write_text(PLANTED["key of Stripe"]())
    assert list(leaks.files(tmp_path)) == []


def test_nothing_of_ours_leaks() -> None:
    assert leaks.main() == 0
