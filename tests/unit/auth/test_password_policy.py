"""The policy of passwords: what is refused, for what, and that nothing else is."""

import pytest

from dataaggregator.errors import Invalid
from services.auth.passwords.common import is_common
from services.auth.passwords.domain import Person, Policy

POLICY = Policy(8, is_common)
ADA = Person("ada.lovelace@example.org", "Ada King")


def faults(password: str, person: Person = ADA) -> set[str]:
    """The codes it is refused for; that the field is named and every message stands in the sentence."""
    try:
        POLICY.check(password, person)
    except Invalid as error:
        refused = error
    else:
        return set()
    assert {one.field for one in refused.errors} == {"password"}
    assert [one.message for one in refused.errors if one.message not in refused.detail] == []
    return {one.code for one in refused.errors}


@pytest.mark.parametrize(
    ("password", "codes"),
    [
        ("short1!", {"too-short"}),
        ("x" * 1025 + "abcde", {"too-long"}),
        ("abababababab", {"too-few-different"}),
        ("aaa", {"too-short", "too-few-different"}),
        ("aaaaaaaa", {"too-few-different", "common"}),
        ("password", {"common"}),
        ("PassWord", {"common"}),
        ("Password2024!", {"common"}),
        ("__monkey__99", {"common"}),
        ("123456789", {"common"}),
        ("letmein", {"too-short", "common"}),
        ("ada.lovelace@example.org", {"personal"}),
        ("Lovelace1815", {"personal"}),
        ("adaking123456", {"personal"}),
        ("kingpassword", {"personal"}),
        ("dataaggregator1", {"personal"}),
    ],
)
def test_what_is_guessed_first_is_refused_and_all_that_is_wrong_is_named(password: str, codes: set[str]) -> None:
    assert faults(password) == codes


@pytest.mark.parametrize(
    "password",
    [
        "correct horse battery",
        "ada walks by the river",
        "k8#Vq2!z",
        "horse8473920175",
        "пароль из слов",
        "x" * 1000 + "abcde",
        "with\nlines of its own",
        "Wladada-Rhq7",
    ],
)
def test_what_is_hard_to_guess_is_taken_whatever_it_is_made_of(password: str) -> None:
    assert faults(password) == set()


def test_the_password_there_was_before_is_no_new_one() -> None:
    assert faults("correct horse battery", Person("a@b.example", before="correct horse battery")) == {"unchanged"}


def test_a_longer_minimum_counts_for_what_is_left_as_well() -> None:
    with pytest.raises(Invalid):
        Policy(20, is_common).check("ada walks by the river", ADA)


def test_the_list_is_asked_for_whole_words() -> None:
    assert is_common("sunshine")
    assert not is_common("unshine")
    assert not is_common("sunshine\nsunshine1")
