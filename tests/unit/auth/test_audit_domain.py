"""The audit chain: any later change shows."""

from dataclasses import replace

from services.auth.audit import domain


def chain(count: int) -> list[domain.Link]:
    links: list[domain.Link] = []
    for number in range(count):
        links.append(domain.link(links[-1] if links else None, domain.canonical({"number": number})))
    return links


def test_an_untouched_chain_is_whole() -> None:
    assert domain.first_broken(chain(5)) is None


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


def test_the_order_of_keys_does_not_matter() -> None:
    assert domain.canonical({"a": 1, "b": 2}) == domain.canonical({"b": 2, "a": 1})
