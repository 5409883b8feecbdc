"""What `expect` says of a step without a law of its own: how many rows it gives for those of its first input."""

from typing import TYPE_CHECKING

from dataaggregator.contracts.steps import Expect
from dataaggregator.dataplane.sandbox.messages import Accounting

if TYPE_CHECKING:
    from dataaggregator.dataplane.steps.engine import Place  # a run process asks what holds, without an engine

WORDS: dict[Expect, str] = {
    "one_to_one": "as many rows as the first input has",
    "many_to_one": "at most as many rows as the first input has",
    "one_to_many": "at least as many rows as the first input has",
    "any": "any number of rows",
}


def accounting(expect: Expect | None) -> Accounting:
    """What is expected and checked is declared; what may be anything is not accounted for."""
    return "unaccounted" if expect in (None, "any") else "declared"


def holds(expect: Expect | None, flow: int, written: int) -> bool:
    """Whether so many rows may be written for those of the first input."""
    match expect:
        case "one_to_one":
            return written == flow
        case "many_to_one":
            return written <= flow
        case "one_to_many":
            return written >= flow
        case "any" | None:
            return True


def hold(expect: Expect | None, flow: int, written: int, place: "Place") -> None:
    """Raise Invalid where it does not hold."""
    if expect is not None and not holds(expect, flow, written):
        message = f"{expect} was expected, {WORDS[expect]}; {flow} came in and {written} went out"
        raise place.invalid("expectation-failed", message)
