"""What a listener gets, and from where a stream may go on."""

import pytest

from dataaggregator.contracts.envelope import PUBLIC
from dataaggregator.errors import Invalid
from dataaggregator.ids import new_id
from services.gateway.feed import domain

HERE = new_id()


def entry(kind: str = "run.failed.v1", subject: str = "s", **changes: object) -> domain.Entry:
    fields = {"position": 1, "workspace_id": HERE, "type": kind, "subject": subject, "event": {}, **changes}
    return domain.Entry(**fields)  # type: ignore[arg-type]


def test_a_listener_gets_what_it_asked_for_of_its_own_workspace() -> None:
    wanted = domain.Wanted(HERE, ("run.*", "connector.created.v1"), "s")
    assert wanted.fits(entry())
    assert wanted.fits(entry("connector.created.v1"))
    assert not wanted.fits(entry("connector.deleted.v1"))
    assert not wanted.fits(entry(subject="other"))
    assert not wanted.fits(entry(workspace_id=new_id()))


def test_what_is_about_people_is_hidden_unless_asked_for_by_an_administrator() -> None:
    assert not domain.Wanted(HERE).fits(entry("user.created.v1"))
    assert not domain.Wanted(HERE, ("login.*",)).fits(entry("login.failed.v1"))
    assert domain.Wanted(HERE, about_people=True).fits(entry("login.failed.v1"))


@pytest.mark.parametrize("name", ["run.failed.v1", "run.*", "*"])
def test_a_type_is_named_whole_or_by_its_beginning(name: str) -> None:
    assert domain.check_types([name]) == (name,)


@pytest.mark.parametrize("name", ["", "run", "run.failed", "audit.entry.v1", "identity.*", "%"])
def test_what_is_no_public_event_is_named(name: str) -> None:
    with pytest.raises(Invalid) as caught:
        domain.check_types(["run.*", name])
    assert len(caught.value.errors) == 1


@pytest.mark.parametrize(
    ("header", "position"), [(None, None), (" ", None), ("7", 7), ("07", 7), ("-7", -1), ("x", -1), ("٣", -1)]
)
def test_last_event_id_is_a_position_or_one_we_never_gave(header: str | None, position: int | None) -> None:
    assert domain.position_of(header) == position


def test_a_stream_goes_on_only_where_everything_is_still_there() -> None:
    assert domain.resumable(5, 5, 9)
    assert domain.resumable(9, 5, 9)
    assert not domain.resumable(4, 5, 9)
    assert not domain.resumable(10, 5, 9)
    assert not domain.resumable(-1, 0, 9)


def test_every_end_of_a_run_ends_its_stream() -> None:
    ends = {f"run.{status}.v1" for status in domain.TERMINAL_STATUSES}
    assert ends == domain.TERMINAL <= set(PUBLIC)
