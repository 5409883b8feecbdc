"""verifying: what a destination says of a run now, held against the run's receipt; pure."""

from datetime import datetime

from dataaggregator.contracts.ledger import DestinationVerified, Ledger, Receipt, Verification
from dataaggregator.dataplane.job import HeldLoad, ReadBack
from dataaggregator.errors import PlatformError

COMPARED = ("committed", "inserted", "updated", "unchanged", "deleted", "superseded", "checksum", "chunks")


def judged(load: HeldLoad, expected: Receipt | None, answer: ReadBack | PlatformError) -> DestinationVerified:
    """Without an expected receipt the run did not commit there, and nothing is to be found."""
    one = DestinationVerified(
        destination=load.destination, stream=load.stream, status="unknown", expected=expected, found=None, detail=""
    )
    if isinstance(answer, PlatformError):
        detail = f"The destination could not be asked: {answer.detail}"
        return one.model_copy(update={"detail": detail, "code": answer.code})
    if not answer.provable:
        detail = "The destination keeps no ledger that could be asked; its answer at the load is all there is."
        return one.model_copy(update={"detail": detail})
    counted = {"rows_written": answer.written, "rows_unchanged": answer.unchanged}
    return _with_rows(_compared(one.model_copy(update={"found": answer.receipt, **counted})), answer.detail)


def _compared(one: DestinationVerified) -> DestinationVerified:
    expected, found = one.expected, one.found
    if found is None:
        if expected is None:
            detail = "The run committed nothing here, and nothing of it is here."
            return one.model_copy(update={"status": "verified", "detail": detail})
        detail = f"The destination holds no receipt of this run any more; it had {expected.committed} rows."
        return one.model_copy(update={"status": "missing", "detail": detail})
    if expected is None:
        detail = f"The destination has {found.committed} rows of this run, which has no receipt of them."
        return one.model_copy(update={"status": "differs", "detail": detail})
    differences = tuple(name for name in COMPARED if getattr(found, name) != getattr(expected, name))
    if differences:
        detail = f"The destination's receipt says otherwise of {', '.join(differences)}."
        return one.model_copy(update={"status": "differs", "differences": differences, "detail": detail})
    detail = f"The destination holds the receipt of {found.committed} rows, as it was committed."
    return one.model_copy(update={"status": "verified", "detail": detail})


def _with_rows(one: DestinationVerified, detail: str) -> DestinationVerified:
    """What became of the rows since is no lie of the receipt; more of them than the run wrote is."""
    if one.rows_written is None or one.status != "verified":
        return one
    if one.rows_unchanged is None:
        return one.model_copy(update={"detail": f"{one.detail} {detail}"})
    told = f"{one.detail} {one.rows_unchanged} of {one.rows_written} rows written are there unchanged. {detail}".strip()
    if one.rows_unchanged > one.rows_written:
        return one.model_copy(update={"status": "differs", "differences": ("rows_unchanged",), "detail": told})
    return one.model_copy(update={"detail": told})


def with_verified(ledger: Ledger, told: Verification, at: datetime) -> Ledger:
    """The ledger with its receipts as they were read back now; one that could not be asked keeps what it says."""
    known = {one.destination: one.status for one in told.destinations if one.status != "unknown"}
    receipts = tuple(
        one.model_copy(update={"read_back_at": at, "verified": known[one.destination] == "verified"})
        if one.destination in known
        else one
        for one in ledger.receipts
    )
    return ledger.model_copy(update={"receipts": receipts})
