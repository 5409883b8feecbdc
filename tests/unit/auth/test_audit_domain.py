"""The audit chain: any later change shows, and what is hashed and signed can be made anew by anybody."""

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from services.auth.audit import domain

WORKSPACE = UUID(int=7)
AT = datetime(2026, 1, 31, 12, tzinfo=UTC)


def chain(count: int) -> list[domain.Link]:
    links: list[domain.Link] = []
    for number in range(count):
        links.append(domain.link(links[-1] if links else None, domain.canonical({"number": number})))
    return links


def entries(count: int) -> list[domain.Entry]:
    """Entries of one chain, all by somebody else."""
    made: list[domain.Entry] = []
    for number in range(count):
        said = {"service": "auth", "action": "user.created", "resource_type": "user", "resource_id": "r"}
        said |= {"actor": f"user {number}", "workspace_id": str(WORKSPACE), "at": "2026-01-31T12:00:00Z"}
        whole: dict[str, Any] = {**said, "actor_id": None, "detail": {"api_key": {"id": "k", "name": "nightly"}}}
        last = domain.link(made[-1].link if made else None, domain.canonical(whole))
        made.append(domain.Entry(WORKSPACE, AT, last, (*(said.get(name) for name in domain.FILED[:-1]), "k")))
    return made


def test_an_untouched_chain_is_whole() -> None:
    assert domain.first_broken(chain(5)) is None
    assert domain.first_wrong(entries(5)) is None


def test_changed_content_is_found() -> None:
    links = chain(5)
    links[2] = replace(links[2], content=domain.canonical({"number": 99}))
    assert domain.first_broken(links) == 3


def test_a_link_forged_with_a_fitting_digest_breaks_the_one_after() -> None:
    links = chain(5)
    links[2] = domain.link(links[1], domain.canonical({"number": 99}))
    assert domain.first_broken(links) == 4


def test_a_removed_link_is_found() -> None:
    links = chain(5)
    del links[1]
    assert domain.first_broken(links) == 2


def test_a_link_that_stands_at_another_place_or_names_another_before_it_is_found() -> None:
    """Though its digest is the right one: both are columns that somebody can write to."""
    for changed in ({"position": 30}, {"previous": bytes(32)}):
        links = chain(3)
        links[2] = replace(links[2], **changed)
        assert domain.first_broken(links) == 3


def test_a_chain_goes_on_after_what_was_looked_at_before() -> None:
    links = chain(5)
    assert domain.first_broken(links[3:], links[2]) is None
    assert domain.first_broken(links[3:], links[1]) == 3


def test_the_reason_tells_what_is_missing_from_what_was_changed() -> None:
    whole = entries(4)
    missing = domain.first_wrong([whole[0], *whole[2:]])
    assert missing == domain.Broken(2, "it is missing")
    forged = domain.link(whole[0].link, domain.canonical({"actor": "nobody"}))
    changed = domain.first_wrong([whole[0], replace(whole[1], link=replace(whole[1].link, content=forged.content))])
    assert changed is not None
    assert (changed.position, "not what was written down" in changed.reason) == (2, True)


@pytest.mark.parametrize("place", range(len(domain.FILED)), ids=domain.FILED)
def test_an_entry_that_is_found_as_something_else_is_found_out(place: int) -> None:
    whole = entries(3)
    filed = list(whole[1].filed)
    filed[place] = "another"
    wrong = domain.first_wrong([whole[0], replace(whole[1], filed=tuple(filed)), whole[2]])
    assert wrong is not None
    assert wrong.position == 2


def test_an_entry_that_is_found_at_another_time_or_place_is_found_out() -> None:
    whole = entries(2)
    for changed in (replace(whole[0], at=AT.replace(year=2027)), replace(whole[0], workspace_id=UUID(int=8))):
        wrong = domain.first_wrong([changed, whole[1]])
        assert wrong is not None
        assert wrong.position == 1


def test_the_order_of_keys_does_not_matter() -> None:
    assert domain.canonical({"a": 1, "b": 2}) == domain.canonical({"b": 2, "a": 1})


def test_what_is_hashed_and_signed_can_be_made_by_any_program() -> None:
    """As docs/guarantees/audit.md has it, with nothing of ours."""
    said: dict[str, object] = {"z": "ü\n", "a": {"y": [1, None, True], "b": 0.5}}
    text = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert domain.canonical(said) == text
    first = domain.link(None, text)
    assert first.digest == hashlib.sha256(b"\0\0\0\0\0\0\0\1" + bytes(32) + text).digest()
    head = domain.Head(WORKSPACE, 1, first.digest, AT)
    signed = {
        "digest": first.digest.hex(),
        "kind": "dataaggregator.audit-head.v1",
        "position": 1,
        "signed_at": "2026-01-31T12:00:00Z",
        "workspace_id": str(WORKSPACE),
    }
    assert head.signed == json.dumps(signed, separators=(",", ":")).encode()
