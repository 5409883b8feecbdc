"""What a refresh token may do, when it is judged by the clock."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from services.auth.sessions import domain

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LIVES = domain.Lives(timedelta(days=7), timedelta(days=30))
FAMILY = domain.Family(UUID(int=1), UUID(int=2), NOW, NOW + timedelta(days=7), None)


def token(spent_at: datetime | None = None, family: domain.Family = FAMILY) -> domain.RefreshToken:
    return domain.RefreshToken(b"digest", family, b"nonce", spent_at)


def test_a_fresh_token_is_rotated() -> None:
    assert domain.judge(token(), LIVES, NOW) is domain.Use.ROTATE


def test_a_spent_token_repeats_its_successor_for_thirty_seconds() -> None:
    assert domain.judge(token(spent_at=NOW), LIVES, NOW + timedelta(seconds=30)) is domain.Use.REPEAT


def test_a_spent_token_is_a_theft_after_the_grace() -> None:
    assert domain.judge(token(spent_at=NOW), LIVES, NOW + timedelta(seconds=30.1)) is domain.Use.REUSE


def test_a_revoked_or_expired_family_is_ended_whatever_its_token() -> None:
    revoked = replace(FAMILY, revoked_at=NOW)
    assert domain.judge(token(family=revoked), LIVES, NOW) is domain.Use.ENDED
    assert domain.judge(token(), LIVES, FAMILY.expires_at) is domain.Use.ENDED


def test_a_use_prolongs_a_login_and_never_beyond_its_whole_life() -> None:
    used = LIVES.prolonged(FAMILY, NOW + timedelta(days=5))
    assert used.expires_at == NOW + timedelta(days=12)
    late = LIVES.prolonged(FAMILY, NOW + timedelta(days=25))
    assert late.expires_at == NOW + timedelta(days=30)
    assert domain.judge(token(family=late), LIVES, NOW + timedelta(days=30)) is domain.Use.ENDED


def test_a_shorter_life_counts_for_the_logins_there_are() -> None:
    shorter = domain.Lives(timedelta(days=7), timedelta(days=2))
    assert shorter.end_of(FAMILY) == NOW + timedelta(days=2)
    assert domain.judge(token(), shorter, NOW + timedelta(days=2)) is domain.Use.ENDED
    assert domain.judge(token(), LIVES, NOW + timedelta(days=2)) is domain.Use.ROTATE


def test_a_successor_needs_key_nonce_and_token() -> None:
    made = domain.successor(b"key", "token", b"nonce")
    assert made == domain.successor(b"key", "token", b"nonce")
    others = {
        domain.successor(b"other", "token", b"nonce"),
        domain.successor(b"key", "other", b"nonce"),
        domain.successor(b"key", "token", b"other"),
    }
    assert made not in others
    assert len(others) == 3


def test_an_account_has_ten_attempts_and_gets_them_back_with_time() -> None:
    bucket: domain.Bucket | None = None
    for _ in range(10):
        bucket, wait = domain.draw(bucket, 10, 60, NOW)
        assert wait == 0
    bucket, wait = domain.draw(bucket, 10, 60, NOW)
    assert wait == 6
    _, wait = domain.draw(bucket, 10, 60, NOW + timedelta(seconds=6))
    assert wait == 0


def test_a_clock_that_goes_back_gives_nothing_away() -> None:
    bucket = domain.Bucket(0.0, NOW)
    _, wait = domain.draw(bucket, 10, 60, NOW - timedelta(hours=1))
    assert wait == 6


def test_case_and_outer_blanks_do_not_make_another_account() -> None:
    assert domain.email_key("  Ada@Example.ORG ") == domain.email_key("ada@example.org")


def test_times_in_claims_are_exact_to_the_millisecond() -> None:
    grant = domain.Grant(UUID(int=2), "a@example.org", UUID(int=1), UUID(int=3), [])
    said = domain.claims(grant, UUID(int=4), NOW + timedelta(milliseconds=123), 1800)
    assert said["iat"] == NOW.timestamp() + 0.123
    assert said["exp"] == int(NOW.timestamp()) + 1800


SEALED = replace(FAMILY, seal=b"s" * 16)


def test_a_marked_token_is_known_again_and_judged_a_theft() -> None:
    given = domain.marked(SEALED, "secret")
    assert domain.claimed_family(given) == SEALED.id
    known = domain.forgotten(SEALED, given)
    assert known is not None
    assert domain.judge(known, LIVES, NOW + timedelta(seconds=30.1)) is domain.Use.REUSE
    assert len(given) < 200  # what a call may carry


def test_no_token_that_was_changed_or_made_up_is_known_again() -> None:
    given = domain.marked(SEALED, "secret")
    others = [replace(SEALED, seal=b"t" * 16), replace(SEALED, id=UUID(int=9)), replace(SEALED, seal=None)]
    assert [domain.forgotten(family, given) for family in others] == [None] * 3
    made_up = ["secret", "secret.", given[:-1], given + "A", "other" + given[6:], given.replace(".", ""), "é.é", "."]
    assert [domain.forgotten(SEALED, token) for token in made_up] == [None] * len(made_up)


def test_what_is_no_mark_claims_no_login() -> None:
    for token in ("", "secret", "secret.", "secret.AAAA", "a.b.c", "é.é", "x" * 200, "secret." + "=" * 43):
        assert domain.claimed_family(token) is None


def test_without_a_seal_a_token_is_its_secret() -> None:
    assert domain.marked(FAMILY, "secret") == "secret"
